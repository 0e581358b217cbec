#!/bin/sh
# tools/dist_train.sh CONFIG N [FLAGS]; NNODES, NODE_RANK, MASTER_ADDR and PORT come from the environment.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 CONFIG N [FLAGS]" >&2; exit 2; }
config=$1 count=$2
shift 2
exec "${PYTHON:-python}" "$(dirname "$0")/../mmrazor_lite/cli/__main__.py" launch --nproc "$count" train "$config" "$@"
