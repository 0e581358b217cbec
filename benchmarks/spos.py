"""Speed of SPOS: a step beside the static network of its path, costs per second, and the time shares of a search.

    python benchmarks/spos.py                     # all parts but the search, some minutes on 2 cores
    python benchmarks/spos.py --only search --checkpoint SUPERNET.pth

Parts: ``step`` (one SPOS step of the ShuffleNetV2 supernet against the static export of the same path, each with its
update), ``cost_model`` (candidates per second, all four resources, and of a constraint check in a search), ``search``
(an evolution search on CIFAR-10 by the config, from its ``search_log.json``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore")

import numpy as np
import torch
from torch import nn

from benchmarks._timing import cost_rate, interleaved, machine, median_ratio
from benchmarks.autoslim import batch, build, forward_backward, training_step

SUPERNET = "configs/nas/spos/spos_supernet_shufflenetv2_8xb128_in1k.py"
MMRAZOR_STEP = 0.37  # seconds: MMRazor 1.0.0, torch 2.0.1, same kind of CPU, 2 cores, batch 8, 224x224
MMRAZOR_CHECK = 0.21  # seconds: one constraint check, the same


def step(sizes: list[int], rounds: int, paths: int, channels_last: bool) -> list[dict]:
    """One training step against the static network of the same path, for several paths in turn."""
    rows = []
    for size in sizes:
        algorithm = build(channels_last, SUPERNET)
        images, labels = batch(size, channels_last)
        ours = training_step(algorithm)
        ratios, seconds = [], []
        for number in range(paths):
            chosen = algorithm.passes(number)
            static = algorithm.mutator.export(chosen[0].subnet).train()
            update = torch.optim.SGD(static.parameters(), 1e-3, momentum=0.9, nesterov=True)

            def plain(static: nn.Module = static, update: torch.optim.Optimizer = update) -> None:
                forward_backward(static, images, labels)
                update.step()
                update.zero_grad(set_to_none=True)

            algorithm.passes = lambda _, chosen=chosen: chosen
            times = interleaved({"spos": lambda: ours(images, labels), "static": plain}, max(rounds // paths, 4))
            del algorithm.passes
            ratios.append(median_ratio(times["spos"], times["static"]))
            seconds.append(float(np.median(times["spos"])))
        ratio, median = float(np.median(ratios)), float(np.median(seconds))
        rows.append({"batch": size, "ratio": round(ratio, 3), "ratios": [round(r, 3) for r in ratios], "s": median})
        print(
            f"SPOS step / static step, batch {size}: {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f} over {paths} "
            f"paths); {median:.3f} s a step (MMRazor 1.0.0: {MMRAZOR_STEP} s at batch 8 on a CPU of this kind)",
            flush=True,
        )
    return rows


def cost_model() -> dict:
    """Candidates per second on one core: costs alone, and drawn, counted and compared as a search does it."""
    torch.set_num_threads(1)
    algorithm = build(False, SUPERNET)
    space, cost = algorithm.search_space, algorithm.cost_model
    rows = space.sample_indices(np.random.default_rng(0), 200_000)
    rate = cost_rate(cost, rows)
    start = time.perf_counter()
    drawn = space.sample_indices(np.random.default_rng(1), 200_000)
    legal = cost(drawn)["flops"] <= 330e6
    checked = len(drawn) / (time.perf_counter() - start)
    print(
        f"cost model: {rate:,.0f} candidates/s; drawn and checked: {checked:,.0f} candidates/s, "
        f"{legal.mean():.1%} legal (MMRazor 1.0.0: {1 / MMRAZOR_CHECK:.1f} checks/s)",
        flush=True,
    )
    return {"costs_per_second": round(rate), "checked_per_second": round(checked)}


def search(checkpoint: str, folder: str) -> dict:
    """Candidates per second with everything in, and the share of each part, of a search on CIFAR-10."""
    from mmrazor_lite.cli.main import main as command

    config = str(ROOT / "configs/nas/spos/spos_evolution_search_shufflenetv2_cifar10.py")
    if command(["search", config, checkpoint, "--work-dir", folder]):
        raise SystemExit(2)
    log = json.loads((Path(folder) / "search_log.json").read_text())
    shares: dict[str, float] = {}
    for part in log["steps"]:
        for name, seconds in part["seconds"].items():
            shares[name] = shares.get(name, 0.0) + seconds
    total = shares.pop("all")
    rate = log["subnets_scored"] / total
    shown = ", ".join(f"{name} {seconds / total:.1%}" for name, seconds in shares.items())
    print(f"search: {log['subnets_scored']} candidates in {total:.0f} s, {rate:.2f} a second; {shown}", flush=True)
    return {"candidates": log["subnets_scored"], "seconds": round(total, 1), "spent": shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["step", "cost_model", "search"])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--paths", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--checkpoint", help="trained supernet of the CIFAR-10 config, for the search")
    parser.add_argument("--work-dir", default="work_dirs/spos_benchmark")
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    print(machine())
    parts = {
        "step": lambda: step(args.batches, args.rounds, args.paths, args.channels_last),
        "cost_model": cost_model,
        "search": lambda: search(args.checkpoint, args.work_dir),
    }
    names = [args.only] if args.only else [name for name in parts if name != "search" or args.checkpoint]
    if "search" in names and not args.checkpoint:
        parser.error("--only search needs --checkpoint")
    figures = {"machine": machine(), **{name: parts[name]() for name in names}}
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
