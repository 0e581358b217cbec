#!/usr/bin/env bash
# tools/dist_train.sh CONFIG N [FLAGS]; NNODES, NODE_RANK, MASTER_ADDR and PORT come from the environment.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 CONFIG N [FLAGS]" >&2; exit 2; }
tools=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m mmrazor_lite.cli.launch "$2" "$tools/train.py" "$1" "${@:3}"
