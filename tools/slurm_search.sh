#!/usr/bin/env bash
# tools/slurm_search.sh PARTITION JOB CONFIG CHECKPOINT WORK_DIR [FLAGS]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS and PORT come from the environment.
set -eu
[ $# -ge 5 ] || { echo "usage: $0 PARTITION JOB CONFIG CHECKPOINT WORK_DIR [FLAGS]" >&2; exit 2; }
tools=$(cd "$(dirname "$0")" && pwd)
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
# shellcheck disable=SC2086  # SRUN_ARGS is a list of words
exec srun -p "$1" --job-name="$2" --gres=gpu:"$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$tools/search.py" "$3" "$4" --work-dir "$5" --launcher slurm "${@:6}"
