"""Networks slimmed to 70 % of their milliseconds, in torch and onnxruntime; beside it what half the macs alone gives.

    python -m benchmarks.latency_budget mobilenet_v2-torch --work DIR     # one case; on an idle machine
    python -m benchmarks.latency_budget 'resnet50-*' --work DIR --minutes 8
    python -m benchmarks.latency_budget --work DIR                        # all cases
    python -m benchmarks.latency_budget --work DIR --table                # the rows, of what is there

A case is a network in a runtime; its result is one JSON file in ``DIR/cases``. Its steps are a latency table, the
network by its milliseconds, the network by its macs, and both beside the full one. Interrupted, or stopped after
``--minutes``, the same command goes on with the measurement of the table, or the step, that it was at. Channels are
ordered by the size of their weights, which are random: widths decide about milliseconds, not weights.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
MEASURED = {"repeats": 7, "min_seconds": 0.005}  # of a table
NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "mobilenet_v2": ("MobileNetV2-1.5x", lambda: torchvision.models.mobilenet_v2(width_mult=1.5)),
    "resnet50": ("ResNet-50", torchvision.models.resnet50),
    "lite0": ("EfficientNet-Lite0", lambda: timm.create_model("efficientnet_lite0")),
}
BACKENDS = ("torch", "onnxruntime")
HEADS = (
    "network, pixels", "runtime", "full, ms", f"{SHARE} of it", "predicted", "measured", "of the limit", "within 3%",
    "macs left", f"{MACS} of macs alone, ms", "of full", "table: error, worst",
)  # fmt: skip


class Enough(Exception):
    """The time is up."""


class Deadline:
    """Ends a case between two measurements.

    Args:
        minutes: From now on; None: never.
    """

    def __init__(self, minutes: float | None) -> None:
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def __call__(self, *_: Any) -> None:
        if time.monotonic() > self._end:
            raise Enough


def case(name: str, backend: str, args: argparse.Namespace, late: Deadline) -> dict[str, Any]:
    """What one network takes in one runtime, before and after."""
    network, shape = _network(name), (3, args.size, args.size)
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    bench, prepared = Bench(backend=backend, threads=args.threads, clock=args.clock), prepare(network, shape)
    options = {"images": IMAGES, "importance": "l1", "latency": False}
    table = args.work / f"{name}-{backend}.json"
    errors, spent = table.with_suffix(".errors"), _Seconds(table.with_suffix(".seconds"))
    with spent("table"):
        if not errors.exists():
            report = build_table(
                prepared.mutator, bench, f"{table}.journal", checks=args.checks, progress=late, **MEASURED
            )
            report.table.write(table)
            write_text_atomic(errors, json.dumps(report.errors().tolist()))
    late()
    with spent("time"):
        where = args.work / f"{name}-{backend}"
        by_time = _slimmed(network, images, {"latency": SHARE}, where, {**options, "table": table})
    late()
    with spent("macs"):
        by_macs = _slimmed(network, images, MACS, args.work / f"{name}-macs", options)
    late()
    found: dict[str, Any] = {"predicted": read_table(table, prepared.mutator).of(by_time.subnet)}
    for key, small in (("time", by_time), ("macs", by_macs)):
        with spent("measured"):
            times = compare_latency(_full(prepared), small.model, shape, bench=bench)
        (_, full, _), _ = times.quartiles
        found[key] = {"full": full, "ratio": 1 / times.speedup[1], "spread": [1 / end for end in times.speedup]}
        costs = small.report.costs
        found[key]["macs"] = costs["slimmed"]["macs"] / costs["original"]["macs"]
        found[key]["speed"] = times.speed
    notes = [note for note in by_time.report.notes if "measurement" in note or "pays" in note]
    about = {"size": args.size, "seconds": spent.kept, "machine": bench.facts()}
    return {**found, "errors": json.loads(errors.read_text()), "notes": notes, **about}


class _Seconds:
    """What steps took, over all runs, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kept: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.kept[step] = round(self.kept.get(step, 0.0) + time.monotonic() - start, 1)
            write_text_atomic(self._path, json.dumps(self.kept))


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
        title = f"{NETWORKS[name][0]}, {data['size']}"
        lines.append([title, backend, *ours, *alone, told])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["*"], metavar="CASE", help="NETWORK-RUNTIME, or a pattern of them")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, help="stop after so many; the same command goes on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="pixels (default: 224)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a machine that does other work"
    )
    parser.add_argument("--checks", type=int, default=6, help="random subnets that a table is checked on")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    (args.work / "cases").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    files = {
        (name, runtime): args.work / "cases" / f"{name}-{runtime}.json" for name in NETWORKS for runtime in BACKENDS
    }
    wanted = [key for key, file in files.items() if any(fnmatchcase(file.stem, pattern) for pattern in args.cases)]
    if not wanted:
        parser.error(f"no case is '{args.cases[0]}'; there are {', '.join(file.stem for file in files.values())}")
    late = Deadline(args.minutes)
    for key in wanted if not args.table else ():
        if not files[key].exists():
            print(f"{files[key].stem} ...", flush=True)
            try:
                write_text_atomic(files[key], json.dumps(case(*key, args, late), indent=1))
            except Enough:
                print(f"{files[key].stem}: stopped after {args.minutes:g} minutes; the same command goes on")
                break
    found = [(*key, json.loads(file.read_text())) for key, file in files.items() if file.exists()]
    for row in (HEADS, ["---"] * len(HEADS), *rows(found)):
        print("| " + " | ".join(row) + " |")
    for name, backend, data in found:
        seconds = ", ".join(f"{step} {spent:.0f} s" for step, spent in data["seconds"].items())
        print(f"{name}-{backend}: {'; '.join([*data['notes'], seconds])}")


if __name__ == "__main__":
    main()
