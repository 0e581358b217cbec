#!/bin/sh
# As tools/slurm_test.sh, under its name of MMRazor 0.x.
exec sh "$(dirname "$0")/../slurm_test.sh" "$@"
