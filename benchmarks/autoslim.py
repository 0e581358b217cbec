"""Speed and memory of AutoSlim on MobileNetV2-1.5x, as ratios to the static networks of the same size.

    python benchmarks/autoslim.py                     # all parts, about 10 minutes on 2 cores
    python benchmarks/autoslim.py --only cost_model   # one part

Parts: ``activated`` (activated subnet against its static export, forward and backward), ``sandwich`` (one AutoSlim
step against the sum of its four static steps, and its seconds beside MMRazor's), ``memory`` (peak of a sandwich step
against a plain step of the max subnet), ``cost_model`` (subnets per second).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
warnings.filterwarnings("ignore")

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks._timing import cost_rate, interleaved, machine, median_ratio

MMRAZOR_STEP = 2.02  # seconds: MMRazor 1.0.0, torch 2.0.1, same kind of CPU, 2 cores, batch 8, 224x224
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


CONFIG = "configs/pruning/autoslim/autoslim_mbv2_supernet_8xb256_in1k.py"


def build(channels_last: bool, path: str = CONFIG) -> nn.Module:
    """The supernet of a config, by default AutoSlim's MobileNetV2 1.5x."""
    from mmengine.logging import MMLogger

    from mmrazor_lite.cli.allocator import keep_freed_memory
    from mmrazor_lite.config.load import load_config
    from mmrazor_lite.registry import MODELS

    keep_freed_memory()  # as every command does
    MMLogger.get_instance("mmengine", log_level="WARNING")
    root = Path(__file__).resolve().parent.parent
    config = load_config(root / path, {})
    model = dict(config.model)
    model.setdefault("data_preprocessor", config.get("data_preprocessor"))
    torch.manual_seed(0)
    algorithm = MODELS.build(model).to(DEVICE)
    algorithm.init_weights()
    if channels_last:
        algorithm.use_channels_last()
    return algorithm.train()


def batch(size: int, channels_last: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 224, 224, generator=generator).to(DEVICE)
    images = images.contiguous(memory_format=torch.channels_last) if channels_last else images
    return images, torch.randint(1000, (size,), generator=generator).to(DEVICE)


def forward_backward(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    F.cross_entropy(model(images), labels).backward()


def activated(sizes: tuple[int, ...], rounds: int, channels_last: bool) -> list[dict]:
    """Forward and backward of activated subnets against their static exports."""
    algorithm = build(channels_last)
    mutator, space = algorithm.mutator, algorithm.search_space
    subnets = {"min": space.min(), "random": space.sample(np.random.default_rng(0)), "max": space.max()}
    rows = []
    for size in sizes:
        images, labels = batch(size, channels_last)
        for name, subnet in subnets.items():
            static = mutator.export(subnet).train()

            def dynamic_step(subnet=subnet) -> None:
                mutator.activate(subnet)
                forward_backward(algorithm.architecture, images, labels)
                algorithm.zero_grad(set_to_none=True)

            def static_step(static=static) -> None:
                forward_backward(static, images, labels)
                static.zero_grad(set_to_none=True)

            seconds = interleaved({"activated": dynamic_step, "static": static_step}, rounds)
            ratio = median_ratio(seconds["activated"], seconds["static"])
            rows.append(
                {
                    "batch": size,
                    "subnet": name,
                    "ratio": round(ratio, 3),
                    "static_s": round(float(np.median(seconds["static"])), 3),
                }
            )
            print(f"activated / static, batch {size}, {name} subnet: {ratio:.3f}", flush=True)
    return rows


def training_step(algorithm: nn.Module) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """The step of the algorithm itself, through its optimizer wrapper."""
    from mmpretrain.structures import DataSample

    from mmrazor_lite.engine.optim import SubnetOptimWrapper

    wrapper = SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), 1e-3, momentum=0.9, nesterov=True))
    algorithm.data_preprocessor = _Pass()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        samples = [DataSample().set_gt_label(label) for label in labels]
        algorithm.train_step({"inputs": images, "data_samples": samples}, wrapper)

    return step


class _Pass(nn.Module):
    def forward(self, data: dict, training: bool = False) -> dict:
        return data


def sandwich(size: int, rounds: int, channels_last: bool) -> dict:
    """One sandwich step against the sum of its static steps (four forwards and backwards, one update)."""
    algorithm = build(channels_last)
    images, labels = batch(size, channels_last)
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

    seconds = interleaved({"sandwich": lambda: step(images, labels), "parts": parts}, rounds)
    ratio = median_ratio(seconds["sandwich"], seconds["parts"])
    median = float(np.median(seconds["sandwich"]))
    print(
        f"sandwich / sum of static steps, batch {size}: {ratio:.3f}; {median:.3f} s a step"
        f" (MMRazor 1.0.0: {MMRAZOR_STEP} s at batch 8 on a CPU of this kind)",
        flush=True,
    )
    return {"batch": size, "ratio": round(ratio, 3), "seconds": round(median, 3)}


def memory_of(kind: str, size: int, channels_last: bool) -> int:
    """Bytes that a step of ``kind`` holds at its peak beyond those before it; run in a process of its own."""
    algorithm = build(channels_last)
    images, labels = batch(size, channels_last)
    if kind == "sandwich":
        step = training_step(algorithm)
    else:
        static = algorithm.mutator.export(algorithm.search_space.max()).train()
        del algorithm
        update = torch.optim.SGD(static.parameters(), 1e-3, momentum=0.9, nesterov=True)

        def step(images: torch.Tensor, labels: torch.Tensor) -> None:
            forward_backward(static, images, labels)
            update.step()
            static.zero_grad(set_to_none=True)

    if DEVICE == "cuda":
        for _ in range(3):
            step(images, labels)
        return torch.cuda.max_memory_allocated()
    step(images, labels)  # the optimizer's buffers are there from now on
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step(images, labels)
    events = profile.kineto_results.events()
    memory = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(int(total) for total in np.cumsum([size for _, size in memory]))


def memory(size: int, channels_last: bool) -> dict:
    """Peak memory of a sandwich step against a plain step of the max subnet."""
    peaks = {}
    for kind in ("sandwich", "plain"):
        command = [sys.executable, __file__, "--memory-of", kind, "--batch", str(size)]
        command += ["--channels-last"] if channels_last else []
        peaks[kind] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    ratio = peaks["sandwich"] / peaks["plain"]
    print(f"peak memory, sandwich / plain step of the max subnet, batch {size}: {ratio:.3f} "
          f"({peaks['sandwich'] / 2**20:.0f} MiB, {peaks['plain'] / 2**20:.0f} MiB)", flush=True)  # fmt: skip
    return {"batch": size, "ratio": round(ratio, 3), **{kind: peak for kind, peak in peaks.items()}}


def cost_model() -> dict:
    """Subnets per second of the cost model, all four resources, in one call on one core."""
    torch.set_num_threads(1)
    algorithm = build(False)
    rows = algorithm.search_space.sample_indices(np.random.default_rng(0), 200_000)
    rate = cost_rate(algorithm.cost_model, rows)
    print(f"cost model: {rate:,.0f} subnets/s", flush=True)
    return {"subnets_per_second": round(rate)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["activated", "sandwich", "memory", "cost_model"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--memory-of", choices=["sandwich", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=8, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(memory_of(args.memory_of, args.batch, args.channels_last))
        return
    print(machine())
    figures: dict = {"machine": machine(), "channels_last": args.channels_last}
    parts = {
        "activated": lambda: activated(tuple(args.batches), args.rounds, args.channels_last),
        "sandwich": lambda: sandwich(8, args.rounds, args.channels_last),
        "memory": lambda: memory(8, args.channels_last),
        "cost_model": cost_model,
    }
    for name in [args.only] if args.only else list(parts):
        figures[name] = parts[name]()
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
