#!/usr/bin/env bash
# tools/dist_search.sh CONFIG CHECKPOINT N [FLAGS]; NNODES, NODE_RANK, MASTER_ADDR and PORT come from the environment.
set -eu
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT N [FLAGS]" >&2; exit 2; }
exec "${PYTHON:-python}" "$(dirname "$0")/../mmrazor_lite/cli/__main__.py" launch --nproc "$3" search "$1" "$2" "${@:4}"
