"""Small images at the speed of the device: images/s of the data, and of training on them.

    python benchmarks/device_data.py --data data/cifar10             # all parts
    python benchmarks/device_data.py --only data --workers 0 2       # one part
    python benchmarks/device_data.py --amp --channels-last --compile # for a GPU

Parts: ``data`` (CIFAR-10 on the device beside the ordinary pipeline over arrays in memory, and over image files where
the folder holds them), ``activated`` (training images/s of an activated subnet beside the plain static network of the
same widths), ``sandwich`` (a supernet's step beside the sum of its static parts). Ratios are medians over interleaved
rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

import numpy as np
import torch
from torch import nn

from benchmarks._timing import interleaved, machine, median_ratio
from benchmarks.autoslim import DEVICE, build, forward_backward, training_step

CONFIG = "configs/pruning/autoslim/autoslim_{}_supernet_1xb128_cifar10.py"
RANDOM = [
    {"type": "mmpretrain.RandomCrop", "crop_size": 32, "padding": 4, "padding_mode": "reflect"},
    {"type": "mmpretrain.RandomFlip", "prob": 0.5, "direction": "horizontal"},
    {"type": "mmpretrain.PackInputs"},
]


def loaders(root: str, batch: int, workers: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Configs of data loaders of the same training images, by a name for the table."""
    from mmrazor_lite.config.load import load_config

    device = load_config(ROOT / CONFIG.format("resnet56"), [f"data_root={root}"]).train_dataloader.to_dict()
    device["batch_size"] = batch
    images = device["dataset"]["dataset"]["dataset"]
    found = {"on the device": device}
    kinds = {"arrays, ordinary pipeline": {**images, "pipeline": RANDOM}}
    if (Path(root) / "train").is_dir():
        files = {"type": "mmpretrain.CustomDataset", "data_root": root, "data_prefix": "train"}
        kinds["image files, ordinary pipeline"] = {
            **files,
            "pipeline": [{"type": "LoadImageFromFile"}, *RANDOM],
        }
    for (name, dataset), count in itertools.product(kinds.items(), workers):
        options = {"num_workers": count, "persistent_workers": count > 0, "collate_fn": {"type": "pseudo_collate"}}
        part = {**device["dataset"], "dataset": dataset}
        found[f"{name}, {count} workers"] = {**device, **options, "dataset": part}
    return found


def data(root: str, batch: int, workers: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Images/s of each loader with the model's preprocessor behind it: what a training step gets."""
    import logging

    from mmengine.runner import Runner
    from mmpretrain.models.utils import ClsDataPreprocessor

    from mmrazor_lite.engine.resume import seeded_dataloader

    preprocessor = ClsDataPreprocessor(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7], num_classes=10).to(DEVICE)
    rows = []
    for name, config in loaders(root, batch, workers).items():
        began = time.perf_counter()
        loader = Runner.build_dataloader(seeded_dataloader(config, True, logging.getLogger(__name__)), seed=0)
        batches = iter(loader)
        preprocessor(next(batches), True)
        ready = time.perf_counter() - began
        rate = _rate(batches, preprocessor, seconds) * batch
        rows.append({"loader": name, "images_per_second": round(rate), "seconds_to_first_batch": round(ready, 1)})
        print(f"{name}: {rate:,.0f} images/s, first batch after {ready:.1f} s", flush=True)
        del batches, loader
    return rows


def _rate(batches: Iterator, preprocessor: nn.Module, seconds: float) -> float:
    """Median batches/s over five windows."""
    rates = []
    for _ in range(5):
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / 5:
            preprocessor(next(batches), True)
            count += 1
        _wait()
        rates.append(count / (time.perf_counter() - began))
    return statistics.median(rates)


def activated(arch: str, batch: int, rounds: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Training images/s of activated subnets beside plain static networks: forward, backward, update."""
    algorithm = build(args.channels_last, CONFIG.format(arch))
    space, rows = algorithm.search_space, []
    subnets = {"max": space.max(), "random": space.sample(np.random.default_rng(0)), "min": space.min()}
    images, labels = random_batch(batch, args.channels_last)
    for name, subnet in subnets.items():
        static = algorithm.mutator.export(subnet).train()
        sides = {
            "activated": _training(algorithm.architecture, images, labels, args.amp),
            "static": _training(static, images, labels, args.amp),
        }
        if args.compile:
            compiled = algorithm.mutator.export(subnet).train()
            compiled.backbone.compile()
            sides["compiled"] = _training(compiled, images, labels, args.amp)
        algorithm.mutator.activate(subnet)
        times = interleaved(sides, rounds)
        row = {"subnet": name, "batch": batch}
        row |= {f"{side}_images_per_second": round(batch / statistics.median(times[side])) for side in sides}
        row["ratio"] = round(median_ratio(times["static"], times["activated"]), 3)
        rows.append(row)
        print(f"activated / static images/s, {name} subnet: {row['ratio']:.3f}  {row}", flush=True)
    return rows


def _training(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, amp: bool) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)

    def step() -> None:
        with torch.autocast(DEVICE, dtype=torch.bfloat16) if amp else nullcontext():
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def sandwich(arch: str, batch: int, rounds: int, args: argparse.Namespace) -> dict[str, Any]:
    """A supernet's training step, through its optimizer wrapper, beside the sum of its static parts."""
    algorithm = build(args.channels_last, CONFIG.format(arch))
    images, labels = random_batch(batch, args.channels_last)
    passes = algorithm.passes(0)
    statics = [algorithm.mutator.export(item.subnet).train() for item in passes]
    update = torch.optim.SGD(statics[0].parameters(), 1e-3, momentum=0.9, nesterov=True)
    step = training_step(algorithm)
    algorithm.passes = lambda number: passes  # the same four subnets in every step, on both sides

    def parts() -> None:
        for static in statics:
            forward_backward(static, images, labels)
        update.step()
        for static in statics:
            static.zero_grad(set_to_none=True)

    times = interleaved({"sandwich": lambda: step(images, labels), "parts": parts}, rounds)
    row = {"batch": batch, "images_per_second": round(batch / statistics.median(times["sandwich"]))}
    row["ratio"] = round(median_ratio(times["parts"], times["sandwich"]), 3)
    print(f"sandwich / parts images/s: {row['ratio']:.3f}, {row['images_per_second']:,} images/s", flush=True)
    return row


def random_batch(size: int, channels_last: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 32, 32, generator=generator).to(DEVICE)
    images = images.contiguous(memory_format=torch.channels_last) if channels_last else images
    return images, torch.randint(10, (size,), generator=generator).to(DEVICE)


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["data", "activated", "sandwich"])
    parser.add_argument("--data", default="data/cifar10", help="folder of CIFAR-10 in any of its forms")
    parser.add_argument("--arch", choices=["resnet56", "wrn40_4", "mbv2"], default="resnet56")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20, help="per data loader")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the ordinary pipeline")
    parser.add_argument("--amp", action="store_true", help="bfloat16, of the part 'activated'")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="the static network compiled too")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    print(machine(), flush=True)
    figures: dict[str, Any] = {"machine": machine(), "settings": vars(args)}
    parts = {
        "data": lambda: data(args.data, args.batch, args.workers, args.seconds),
        "activated": lambda: activated(args.arch, args.batch, args.rounds, args),
        "sandwich": lambda: sandwich(args.arch, args.batch, args.rounds, args),
    }
    for name in [args.only] if args.only else list(parts):
        figures[name] = parts[name]()
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
