#!/usr/bin/env bash
# tools/slurm_search.sh PARTITION JOB CONFIG CHECKPOINT WORK_DIR [FLAGS]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS and PORT come from the environment.
set -eu
[ $# -ge 5 ] || { echo "usage: $0 PARTITION JOB CONFIG CHECKPOINT WORK_DIR [FLAGS]" >&2; exit 2; }
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
exec "${PYTHON:-python}" "$(dirname "$0")/../mmrazor_lite/cli/__main__.py" launch --slurm "$1" --job-name "$2" \
    --nproc "$per_node" --nnodes $(((gpus + per_node - 1) / per_node)) --srun-args="--ntasks=$gpus ${SRUN_ARGS:-}" \
    search "$3" "$4" --work-dir "$5" "${@:6}"
