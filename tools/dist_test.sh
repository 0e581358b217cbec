#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT|none N [FLAGS]; NNODES, NODE_RANK, MASTER_ADDR and PORT come from the environment.
set -eu
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT|none N [FLAGS]" >&2; exit 2; }
tools=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m mmrazor_lite.cli.launch "$3" "$tools/test.py" "$1" "$2" "${@:4}"
