"""Networks slimmed to 70 % of their milliseconds, in torch and onnxruntime; beside it what half the macs alone gives.

    python -m benchmarks.latency_budget --work DIR                       # alone on an idle machine
    python -m benchmarks.latency_budget --work DIR --only resnet50-torch
    python -m benchmarks.latency_budget --work DIR --table               # the rows, of what is there

A job is a network in a runtime; its result is one JSON file in ``DIR/jobs``. Interrupted, the same command goes on.
Channels are ordered by the size of their weights, which are random: widths decide about milliseconds, not weights.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import nn

import mmrazor_lite
from mmrazor_lite.estimators.latency_build import build_table
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.measure import Bench
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.slimming.prepared import Prepared, prepare
from mmrazor_lite.slimming.speed import compare_latency
from mmrazor_lite.slimming.timed import NEAR

IMAGES = 16
SHARE, MACS = "70%", "50%"
NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "mobilenet_v2": ("MobileNetV2-1.5x", lambda: torchvision.models.mobilenet_v2(width_mult=1.5)),
    "resnet50": ("ResNet-50", torchvision.models.resnet50),
    "lite0": ("EfficientNet-Lite0", lambda: timm.create_model("efficientnet_lite0")),
}
BACKENDS = ("torch", "onnxruntime")
HEADS = (
    "network", "runtime", "full, ms", f"{SHARE} of it", "predicted", "measured", "of the limit", "within 3%",
    "macs left", f"{MACS} of macs alone, ms", "of full", "table: error, worst",
)  # fmt: skip


def job(name: str, backend: str, args: argparse.Namespace) -> dict[str, Any]:
    """What one network takes in one runtime, before and after."""
    network, shape = _network(name), (3, args.size, args.size)
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    bench, prepared = Bench(backend=backend, threads=args.threads, clock=args.clock), prepare(network, shape)
    options = {"images": IMAGES, "importance": "l1", "latency": False}
    table, found = args.work / f"{name}-{backend}.json", {}
    if not table.exists():
        report = build_table(
            prepared.mutator, bench, f"{table}.journal", checks=args.checks, repeats=7, min_seconds=0.005
        )
        report.table.write(table)
        write_text_atomic(table.with_suffix(".errors"), json.dumps(report.errors().tolist()))
    errors = json.loads(table.with_suffix(".errors").read_text())

    by_time = _slimmed(
        network, images, {"latency": SHARE}, args.work / f"{name}-{backend}", {**options, "table": table}
    )
    by_macs = _slimmed(network, images, MACS, args.work / f"{name}-macs", options)
    found["predicted"] = read_table(table, prepared.mutator).of(by_time.subnet)
    for key, small in (("time", by_time), ("macs", by_macs)):
        times = compare_latency(_full(prepared), small.model, shape, bench=bench)
        (_, full, _), _ = times.quartiles
        found[key] = {"full": full, "ratio": 1 / times.speedup[1], "spread": [1 / end for end in times.speedup]}
        costs = small.report.costs
        found[key]["macs"] = costs["slimmed"]["macs"] / costs["original"]["macs"]
    notes = [note for note in by_time.report.notes if "measurement" in note or "pays" in note]
    return {**found, "errors": errors, "notes": notes, "machine": bench.facts()}


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name][1]().eval()


def _full(prepared: Prepared) -> nn.Module:
    return prepared.mutator.export(prepared.mutator.search_space.max()).eval()


def _slimmed(network: nn.Module, images: torch.Tensor, budget: Any, folder: Path, options: dict) -> Any:
    """A network slimmed in a folder, going on with what is there."""
    return mmrazor_lite.slim(network, images, budget, work_dir=folder, resume=folder.exists(), **options)


def rows(found: Iterable[tuple[str, str, dict[str, Any]]]) -> list[list[str]]:
    """Lines of the table."""
    lines = []
    for name, backend, data in found:
        full, limit = data["time"]["full"], float(SHARE.rstrip("%")) / 100
        measured, share = data["time"]["ratio"] * full, data["time"]["ratio"] / limit
        met = "yes" if abs(share - 1) <= NEAR else "no"
        milliseconds = [f"{ms:.3g}" for ms in (full, limit * full, data["predicted"], measured)]
        macs, errors = data["macs"], data["errors"]
        alone = [f"{macs['ratio'] * macs['full']:.3g}", f"{macs['ratio']:.0%}"]
        told = f"{sum(errors) / len(errors):.1%}, {max(errors):.1%}"
        ours = [*milliseconds, f"{share:.1%}", met, f"{data['time']['macs']:.0%}"]
        lines.append([NETWORKS[name][0], backend, *ours, *alone, told])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="of NETWORK-RUNTIME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a machine that does other work"
    )
    parser.add_argument("--checks", type=int, default=6, help="random subnets that a table is checked on")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    (args.work / "jobs").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    found = []
    for name in NETWORKS:
        for backend in BACKENDS:
            file = args.work / "jobs" / f"{name}-{backend}.json"
            wanted = any(fnmatchcase(file.stem, pattern) for pattern in args.only)
            if wanted and not file.exists() and not args.table:
                print(f"{file.stem} ...", flush=True)
                write_text_atomic(file, json.dumps(job(name, backend, args), indent=1))
            if file.exists():
                found.append((name, backend, json.loads(file.read_text())))
    for row in (HEADS, ["---"] * len(HEADS), *rows(found)):
        print("| " + " | ".join(row) + " |")
    for name, backend, data in found:
        print(f"{name}-{backend}: {'; '.join(data['notes'])}")


if __name__ == "__main__":
    main()
