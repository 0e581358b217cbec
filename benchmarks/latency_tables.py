"""Latency tables of traced networks: random subnets, predicted beside measured, and how long a table takes to build.

    python -m benchmarks.latency_tables mobilenet_v2 resnet50 efficientnet_b0 unet --work DIR [--clock cpu]

Interrupted, the same command goes on. The rows of docs/results/latency_tables.md are its last lines.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from mmrazor_lite.estimators.latency_build import build_table
from mmrazor_lite.estimators.measure import Bench
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.models.mutators import OneShotChannelMutator


class UNet(nn.Module):
    """Three levels of two 3x3 convs each, joined by concats; images of 2 channels come out."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(3, width), _block(width, 2 * width), _block(2 * width, 4 * width)])
        self.up = nn.ModuleList([_block(6 * width, 2 * width), _block(3 * width, width)])
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down[:-1]:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.down[-1](x)
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skips.pop()], 1))
        return self.out(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    convs = [(nn.Conv2d(i, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)) for i in (inputs, outputs)]
    return nn.Sequential(*(layer for conv, norm in convs for layer in (conv, norm, nn.ReLU())))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "mobilenet_v2": (torchvision.models.mobilenet_v2, 224),
    "resnet50": (torchvision.models.resnet50, 224),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, 224),
    "unet": (UNet, 128),
}
HEADS = (
    "network, pixels", "clock", "ops", "measurements", "seconds", "spread", "subnets, ms", "mean error", "worst",
    "rank correlation", "inside",
)  # fmt: skip


def measured(name: str, bench: Bench, args: argparse.Namespace) -> list[str]:
    """One network as a row of the table; its latency table and its figures are kept in the work dir."""
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    mutator = OneShotChannelMutator()
    mutator.prepare(build().eval(), (3, size, size), any_width=True)
    journal, figures = args.work / f"{name}.journal", args.work / f"{name}.figures.json"
    spent = json.loads(figures.read_text())["seconds"] if figures.exists() else 0.0
    start = time.monotonic()

    def keep(done: int, total: int) -> None:
        write_text_atomic(figures, json.dumps({"seconds": spent + time.monotonic() - start}))
        print(f"{name}: {done} of {total}", flush=True)

    options = {"checks": args.subnets, "repeats": args.repeats, "min_seconds": args.min_seconds}
    report = build_table(mutator, bench, journal, progress=keep, **options)
    report.table.write(args.work / f"{name}.json")
    error, seconds = report.errors(), json.loads(figures.read_text())["seconds"]
    times = f"{len(error)}, {report.measured.min():.3g} to {report.measured.max():.3g}"
    shares = [f"{error.mean():.1%}", f"{error.max():.1%}", f"{report.rank_correlation:.3f}"]
    inside = f"{report.table.device['inside']:.2f}"
    counts = [str(report.entries), str(report.distinct), f"{seconds:.0f}", f"{report.spread:.1%}"]
    return [f"{name}, {size}", bench.clock, *counts, times, *shares, inside]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", choices=sorted(NETWORKS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--subnets", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--min-seconds", type=float, default=0.005)
    args = parser.parse_args()
    bench = Bench(threads=args.threads, clock=args.clock)
    args.work.mkdir(parents=True, exist_ok=True)
    rows = [measured(name, bench, args) for name in args.networks]
    print(bench.facts())
    for row in (HEADS, ["---"] * len(HEADS), *rows):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
