"""Slim a small network on handwritten digits: AutoSlim's five steps, and slim without any, in about two minutes."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mmrazor_lite import shipped
from mmrazor_lite.folder_lock import hold
from mmrazor_lite.shipped import PREFIX
from mmrazor_lite.visualization import layer_channels

from .demo_result import Row, full_network, show, timed, write_page
from .steps import CONFIGS, TOP1, CommandLine, run_step

SUPERNET, SEARCH, SUBNET = (str(CONFIGS / f"autoslim_{step}_digits.py") for step in ("supernet", "search", "subnet"))
BUDGET, FEW = "macs=0.75M", ("--images", "200")
USE = "import torch, mmrazor_lite; print(mmrazor_lite.load_subnet({file})(torch.zeros(1, 3, 8, 8)).argmax())"
NEXT = "configs/pruning/autoslim/autoslim_mbv2_supernet_cifar10.py --work-dir work_dirs/cifar10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--work-dir", default="work_dirs/demo", help="folder for all files (default: %(default)s)")


def run(args: argparse.Namespace, cli: CommandLine) -> None:
    """Run the five steps and slim through the subcommands, then show what came out."""
    print("mmrazor_lite demo: slim a network that reads handwritten digits", flush=True)
    work, step = Path(args.work_dir), Steps(cli)
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
        algorithm, network = full_network(SUPERNET, supernet)
        widths = partial(layer_channels, algorithm)
        space, costs = algorithm.search_space, algorithm.cost_model
        rows = [Row("full network", costs.max(), (full["max_subnet." + TOP1], None, None), widths(space.max()))]
        for index, (result, checkpoint) in enumerate(zip(found, split, strict=True), start=1):
            accuracies = (result["score"][TOP1], retrained[f"subnet_{index}.{TOP1}"], alone[index - 1][TOP1])
            name = Path(result["file"]).stem
            rows.append(Row(name, result["resources"], accuracies, widths(result["subnet"]), Path(checkpoint)))
        after = (None, None, kept[TOP1])
        cheaper = slimmed.report.costs["slimmed"]
        rows.append(Row("slim, nothing trained", cheaper, after, widths(slimmed.subnet), small))
        times = timed(network, rows, algorithm.input_shape)
    show(rows, times)
    for page in write_page(work, rows, times, step.seconds, step.commands)[:1]:
        print(f"\nAll of it as a page: {page}")
    train = "python ./tools/train.py " if Path("tools/train.py").is_file() else f"mmrazor-lite train {PREFIX}"
    print(f"\nNext, with CIFAR-10 in data/cifar10/{{train,test}}/CLASS/IMAGE:\n  {train}{NEXT}")
    print(f"\nUse a network:\n  python -c {shlex.quote(USE.format(file=json.dumps(str(split[-1]))))}")


class Steps:
    """Runs the steps one by one, and keeps what each took and the command that it was."""

    def __init__(self, cli: CommandLine) -> None:
        self._cli = cli
        self.seconds: dict[str, float] = {}
        self.commands: dict[str, str] = {}

    def __call__(self, title: str, *words: Any) -> Any:
        began = time.monotonic()
        result = run_step(self._cli, title, *words)
        name = title if title[0] != " " else f"{list(self.seconds)[-1]}: {title.strip()}"
        self.seconds[name] = round(time.monotonic() - began, 1)
        self.commands[name] = shlex.join(["mmrazor-lite", *(shipped.name_of(str(word)) for word in words)])
        return result


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
