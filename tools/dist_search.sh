#!/bin/sh
# tools/dist_search.sh CONFIG CHECKPOINT N [FLAGS]; NNODES, NODE_RANK, MASTER_ADDR and PORT come from the environment.
set -eu
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT N [FLAGS]" >&2; exit 2; }
config=$1 checkpoint=$2 count=$3
shift 3
exec "${PYTHON:-python}" "$(dirname "$0")/../mmrazor_lite/cli/__main__.py" launch --nproc "$count" search "$config" "$checkpoint" "$@"
