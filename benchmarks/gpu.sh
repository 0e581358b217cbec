#!/bin/sh
# Run benchmarks/gpu.py with the Python that has torch, and the packages packed by benchmarks/gpu_pack.py where they are
# missing; no index is asked. Flags are those of gpu.py.
# usage: sh benchmarks/gpu.sh [--out DIR] [--parts PART ...] [--minutes N] [--tiny]
# PYTHON (python3) is the interpreter, GPU_PACK (build/gpu_pack) the folder of wheels, GPU_SITE (build/gpu_site) where they go.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
pack=${GPU_PACK:-build/gpu_pack}
site=${GPU_SITE:-$PWD/build/gpu_site}
if [ -d "$pack" ]; then
    rm -rf "$site"
    # shellcheck disable=SC2046  # one word each; --no-deps: what is compiled is there, under whichever name
    "$python" -m pip install --disable-pip-version-check --quiet --no-index --no-deps --no-compile \
        --find-links "$pack" --target "$site" $("$python" benchmarks/gpu_pack.py --missing "$pack") >&2
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
"$python" -c 'import mmrazor_lite.cli, mmpretrain.models' >/dev/null || {
    echo "error: $python cannot import what the benchmark needs, see above: install it, or pack it (benchmarks/gpu_pack.py)" >&2
    exit 2
}
exec "$python" benchmarks/gpu.py "$@"
