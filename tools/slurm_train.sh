#!/usr/bin/env bash
# tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [FLAGS]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS and PORT come from the environment.
set -eu
[ $# -ge 4 ] || { echo "usage: $0 PARTITION JOB CONFIG WORK_DIR [FLAGS]" >&2; exit 2; }
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
exec "${PYTHON:-python}" "$(dirname "$0")/../mmrazor_lite/cli/__main__.py" launch --slurm "$1" --job-name "$2" \
    --nproc "$per_node" --nnodes $(((gpus + per_node - 1) / per_node)) --srun-args="--ntasks=$gpus ${SRUN_ARGS:-}" \
    train "$3" --work-dir "$4" "${@:5}"
