"""Slim a small network on handwritten digits: AutoSlim's five steps, and slim without any, in about two minutes."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from mmrazor_lite.folder_lock import hold
from mmrazor_lite.shipped import PREFIX

from .steps import CONFIGS, TOP1, CommandLine, run_step

SUPERNET, SEARCH, SUBNET = (str(CONFIGS / f"autoslim_{step}_digits.py") for step in ("supernet", "search", "subnet"))
BUDGET, FEW = "macs=0.75M", ("--images", "200")
NEXT = "configs/pruning/autoslim/autoslim_mbv2_supernet_cifar10.py --work-dir work_dirs/cifar10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--work-dir", default="work_dirs/demo", help="folder for all files (default: %(default)s)")


def run(args: argparse.Namespace, cli: CommandLine) -> None:
    """Run the five steps and slim through the subcommands, then show what came out."""
    print("mmrazor_lite demo: slim a network that reads handwritten digits", flush=True)
    work, step = Path(args.work_dir), partial(run_step, cli)
    hold(work, "demo")
    with _one_thread():
        supernet = step("1/5 train the supernet", "train", SUPERNET, "--work-dir", work / "supernet")
        full = step("    test it", "test", SUPERNET, supernet, "--work-dir", work / "test")
        found = step("2/5 search", "search", SEARCH, supernet, "--work-dir", work / "search")
        files = [str(result["file"]) for result in found]
        chosen = _choose(files)
        joint = step("3/5 retrain both subnets", "train", SUBNET, "--work-dir", work / "retrain", *chosen)
        retrained = step("    test them", "test", SUBNET, joint, "--work-dir", work / "test", *chosen)
        target = work / "split"
        split = step("4/5 split", "split", SUBNET, joint, "--output-dir", target, "--channel-cfgs", *files)
        alone = [
            step(
                f"5/5 test {Path(file).stem}", "test", SUBNET, checkpoint, "--work-dir", work / "test", *_choose([file])
            )
            for file, checkpoint in zip(files, split, strict=True)
        ]
        small, subnet = (work / "slim" / f"slimmed{suffix}" for suffix in (".pth", ".yaml"))
        slimmed = step("and without training: slim the full network", *_slim(supernet, work / "slim"))
        kept = step("    test it", "test", SUBNET, small, "--work-dir", work / "test", *_choose([str(subnet)]))
        picture = work / "channels.png"
        algorithm = _draw(found, picture)
        rows = [_full_row(algorithm, full["max_subnet." + TOP1])]
        for index, (result, checkpoint) in enumerate(zip(found, split, strict=True), start=1):
            accuracies = (result["score"][TOP1], retrained[f"subnet_{index}.{TOP1}"], alone[index - 1][TOP1])
            rows.append(_subnet_row(Path(result["file"]).stem, result["resources"], accuracies, checkpoint))
        costs = slimmed.report.costs["slimmed"]
        rows.append(_subnet_row("slim, nothing trained", costs, (None, None, kept[TOP1]), small))
    _show(rows)
    print(f"\nChannels before and after: {picture}\nPlain networks:            {', '.join(map(str, [*split, small]))}")
    train = "python ./tools/train.py " if Path("tools/train.py").is_file() else f"mmrazor-lite train {PREFIX}"
    print(f"\nNext, with CIFAR-10 in data/cifar10/{{train,test}}/CLASS/IMAGE:\n  {train}{NEXT}")


def _slim(checkpoint: Path, folder: Path) -> list[str]:
    """The command that slims the full network of the supernet to the larger budget of the search."""
    shutil.rmtree(folder, ignore_errors=True)  # of a demo before
    return ["slim", SUPERNET, "--weights", str(checkpoint), "--budget", BUDGET, *FEW, "--work-dir", str(folder)]


def _choose(files: list[str]) -> list[str]:
    value = files[0] if len(files) == 1 else f"[{','.join(files)}]"
    return ["--cfg-options", f"algorithm.channel_cfg={value}"]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: sums then come out the same on every run, and small layers are as fast."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _draw(found: list[dict], picture: Path) -> Any:
    """Draw the channels of every layer and return the supernet's algorithm."""
    from mmrazor_lite.config import build_model, load_config
    from mmrazor_lite.visualization import layer_channels, plot_channels

    algorithm = build_model(load_config(SUPERNET))
    subnets = {Path(result["file"]).stem: layer_channels(algorithm, result["subnet"]) for result in found}
    full = layer_channels(algorithm, algorithm.search_space.max())
    plot_channels(picture, full, subnets, "Channels per layer: full network and searched subnets")
    return algorithm


def _latency(model: Callable, shape: tuple[int, ...]) -> float:
    """Return the median of 30 runs of one image on the CPU, in milliseconds."""
    import torch

    image = torch.zeros(1, *shape)
    times = []
    with torch.inference_mode():
        for _ in range(35):
            began = time.perf_counter()
            model(image)
            times.append((time.perf_counter() - began) * 1e3)
    return median(times[5:])


def _full_row(algorithm: Any, accuracy: float) -> tuple[str, ...]:
    costs = algorithm.cost_model.max()
    model = algorithm.mutator.export(algorithm.search_space.max()).eval()
    return _row("full network", costs, (accuracy, None, None), _latency(model, algorithm.input_shape))


def _subnet_row(name: str, costs: dict, accuracies: tuple, checkpoint: Path) -> tuple[str, ...]:
    import mmrazor_lite

    return _row(name, costs, accuracies, _latency(mmrazor_lite.load_subnet(checkpoint), (3, 8, 8)))


def _row(name: str, costs: dict, accuracies: tuple, latency: float) -> tuple[str, ...]:
    shown = ("-" if value is None else f"{value:.2f} %" for value in accuracies)
    return name, f"{costs['macs']:,}", f"{costs['params']:,}", *shown, f"{latency:.2f} ms"


def _show(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="\nFrom one supernet to plain networks",
        caption="In the supernet, subnets are scored on held-out training images; all other accuracies: test images.",
    )
    table.add_column("subnet")
    stages = ("in the\nsupernet", "after\nretraining", "after\nsplit")
    for header in ("macs", "params", *stages, "CPU latency\n(measured)"):
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    Console(width=max(console.width, 110)).print(table)
