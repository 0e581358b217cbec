"""What keeping freed memory is worth: a training step with and without it, each in a process of its own, in turn.

python benchmarks/allocator.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._timing import machine

CONFIG = ROOT / "configs/pruning/autoslim/autoslim_mbv2_supernet_cifar10.py"


def step_seconds(keep: bool, batch: int, steps: int) -> tuple[float, float]:
    """Median seconds of a forward and backward of the CIFAR-10 network, and the peak resident size in MB."""
    import resource

    import torch

    from mmrazor_lite.cli.allocator import keep_freed_memory
    from mmrazor_lite.config.build import build_model
    from mmrazor_lite.config.load import load_config

    if keep:
        keep_freed_memory()
    torch.set_num_threads(1)
    algorithm = build_model(load_config(CONFIG))
    network = algorithm.mutator.export(algorithm.search_space.max()).to(memory_format=torch.channels_last)
    network.train()
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        network(images).sum().backward()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--one", choices=["keep", "return"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(*step_seconds(args.one == "keep", args.batch, args.steps))
        return
    print(machine())
    ratios, peaks = [], {"keep": 0.0, "return": 0.0}
    for _ in range(args.rounds):
        seconds = {}
        for kind in ("keep", "return"):
            command = [sys.executable, __file__, "--one", kind, "--batch", str(args.batch), "--steps", str(args.steps)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            seconds[kind], peak = float(out[-2]), float(out[-1])
            peaks[kind] = max(peaks[kind], peak)
        ratios.append(seconds["keep"] / seconds["return"])
    print(f"step with freed memory kept / handed back: {statistics.median(ratios):.3f} (median of {args.rounds})")
    print(f"peak resident size: {peaks['keep']:.0f} MB / {peaks['return']:.0f} MB")


if __name__ == "__main__":
    main()
