#!/bin/sh
# tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [WORK_DIR] [FLAGS]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS and PORT come from the environment.
set -eu
[ $# -ge 4 ] || { echo "usage: $0 PARTITION JOB CONFIG CHECKPOINT [WORK_DIR] [FLAGS]" >&2; exit 2; }
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
case ${1:--} in -*) ;; *) work=$1; shift; set -- --work-dir "$work" "$@" ;; esac
exec "${PYTHON:-python}" "$(dirname "$0")/../mmrazor_lite/cli/__main__.py" launch --slurm "$partition" --job-name "$job" \
    --nproc "$per_node" --nnodes $(((gpus + per_node - 1) / per_node)) --srun-args="--ntasks=$gpus ${SRUN_ARGS:-}" \
    test "$config" "$checkpoint" "$@"
