"""Slim a small network on handwritten digits: all five steps of AutoSlim in about two minutes."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from mmrazor_lite.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs/pruning/autoslim"
SUPERNET, SEARCH, SUBNET = (str(CONFIGS / f"autoslim_{step}_digits.py") for step in ("supernet", "search", "subnet"))
NEXT = "python ./tools/train.py configs/pruning/autoslim/autoslim_mbv2_supernet_cifar10.py --work-dir work_dirs/cifar10"
TOP1 = "accuracy/top1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--work-dir", default="work_dirs/demo", help="folder for all files (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Run the five steps through the subcommands, then show what came out."""
    if not CONFIGS.is_dir():
        raise UserError(f"the demo needs the configs of the repository, '{CONFIGS}' not found: run it in a clone")
    print("mmrazor_lite demo: slim a network that reads handwritten digits", flush=True)
    work = Path(args.work_dir)
    with _one_thread():
        supernet = _step("1/5 train the supernet", "train", SUPERNET, "--work-dir", work / "supernet")
        full = _step("    test it", "test", SUPERNET, supernet, "--work-dir", work / "test")
        found = _step("2/5 search", "search", SEARCH, supernet, "--work-dir", work / "search")
        files = [str(result["file"]) for result in found]
        chosen = _choose(files)
        joint = _step("3/5 retrain both subnets", "train", SUBNET, "--work-dir", work / "retrain", *chosen)
        retrained = _step("    test them", "test", SUBNET, joint, "--work-dir", work / "test", *chosen)
        target = work / "split"
        split = _step("4/5 split", "split", SUBNET, joint, "--output-dir", target, "--channel-cfgs", *files)
        alone = [
            _step(
                f"5/5 test {Path(file).stem}", "test", SUBNET, checkpoint, "--work-dir", work / "test", *_choose([file])
            )
            for file, checkpoint in zip(files, split, strict=True)
        ]
        picture = work / "channels.png"
        algorithm = _draw(found, picture)
        rows = [_full_row(algorithm, full["max_subnet." + TOP1])]
        for index, (result, checkpoint) in enumerate(zip(found, split, strict=True), start=1):
            accuracies = (result["score"][TOP1], retrained[f"subnet_{index}.{TOP1}"], alone[index - 1][TOP1])
            rows.append(_subnet_row(Path(result["file"]).stem, result["resources"], accuracies, checkpoint))
    _show(rows)
    print(f"\nChannels before and after: {picture}\nPlain networks:            {', '.join(map(str, split))}")
    print(f"\nNext, with CIFAR-10 in data/cifar10/{{train,test}}/CLASS/IMAGE:\n  {NEXT}")


def _choose(files: list[str]) -> list[str]:
    value = files[0] if len(files) == 1 else f"[{','.join(files)}]"
    return ["--cfg-options", f"algorithm.channel_cfg={value}"]


def _step(title: str, *command: Any) -> Any:
    """Run one subcommand as typed on the command line, showing only its progress, and return its result."""
    from .main import SUBCOMMANDS, build_parser

    print(f"\n[{title}]", flush=True)
    args = build_parser().parse_args([str(part) for part in command])
    began = time.monotonic()
    with contextlib.redirect_stdout(_Highlights(sys.stdout)) as shown:
        result = SUBCOMMANDS[args.command].run(args)
    shown.finish(f"  {time.monotonic() - began:.0f} s")
    return result


class _Highlights(io.TextIOBase):
    """Passes on the progress, file and accuracy lines of a run's log; the rest is in the log file of its work dir."""

    _TRAIN = re.compile(r"Epoch\(train\)\s+\[(\d+)\].*?eta: (\S+).*?loss: (\S+)")
    _SEARCH = re.compile(r"INFO - search: (step .*)")
    _RESULT = re.compile(
        r"INFO - (?:split: )?((?:loaded|read|wrote) \S+ \(sha256.*\))|Epoch\((?:val|test)\).*?\]\s+(.*?)  data"
    )

    def __init__(self, out: Any) -> None:
        self.out = out
        self.terminal = out.isatty()

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if found := self._TRAIN.search(line):
                self._progress(f"  epoch {found[1]}, loss {found[3]}, {found[2]} left")
            elif found := self._SEARCH.search(line):
                self._progress(f"  {found[1]}")
            elif found := self._RESULT.search(line):
                self._say(f"  {found[1] or found[2]}")
        return len(text)

    def _progress(self, line: str) -> None:
        if self.terminal:
            self.out.write(f"\r\x1b[2K{line}")
            self.out.flush()
        else:
            self._say(line)

    def _say(self, line: str) -> None:
        start = "\r\x1b[2K" if self.terminal else ""
        self.out.write(f"{start}{line}\n")
        self.out.flush()

    finish = _say


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
    from mmrazor_lite.visualization import plot_channels

    from .config import load_config
    from .environment import build_model

    algorithm = build_model(load_config(SUPERNET))
    modules = dict(algorithm.architecture.named_modules())
    layers = {
        name.removesuffix(".conv"): layer
        for name, layer in algorithm.search_space.layers.items()
        if modules[name].weight.dim() > 1  # convolutions and linear layers
    }

    def channels(subnet: Any) -> dict[str, int]:
        return {name: subnet[layer.choice] if layer.choice else layer.full for name, layer in layers.items()}

    subnets = {Path(result["file"]).stem: channels(result["subnet"]) for result in found}
    full = channels(algorithm.search_space.max())
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
