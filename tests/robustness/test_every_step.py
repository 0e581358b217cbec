"""Each step of the way from a supernet to its parts, killed at drawn moments, ends in the uninterrupted result.

55 kills by SIGKILL: 5 of each step in one process and in two, split in one. All of them with ``-m "slow or not slow"``;
else one of those steps that no other test kills.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robustness.kills import assert_equal, check_files, kill_and_resume, log_without_times
from robustness.processes import KILLED, run, start_server

from mmrazor_lite.export import read_checkpoint

SPOS = Path(__file__).with_name("spos")
AUTOSLIM = "configs/pruning/autoslim/autoslim_subnet_digits.py"
JOINT = [
    "model.architecture.backbone.settings=[]",
    "model.architecture.backbone.stem_channels=24",
    "model.architecture.backbone.last_channels=24",
    "model.architecture.head.in_channels=24",
    "algorithm.channel_cfg=[1.0,0.5]",
    "train_dataloader.dataset.dataset.indices=60",
    "train_dataloader.batch_size=16",
    "train_cfg.max_epochs=1",
    "train_cfg.val_interval=9",
]
NUMBER = 5
FEW = [("specialize", 1), ("collect", 2)]
ALL = [(step, ranks) for step in ("train", "search", "retrain", "specialize", "collect") for ranks in (1, 2)]
ALL.append(("split", 1))


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Iterator[Callable]:
    """Run a command line in processes that may be killed; returns the exit status and the seconds."""
    context, log = start_server(), tmp_path_factory.mktemp("logs") / "log"

    def command(words: list, kill: float | None = None, ranks: int = 1) -> tuple[int, float]:
        status, seconds = run(context, words, log, kill, ranks)
        assert status == (0 if kill is None else status if status == 0 else KILLED), log.read_text()[-3000:]
        return status, seconds

    return command


@pytest.fixture(scope="module")
def made(command, root, tmp_path_factory) -> Callable:
    """What the steps before give, made when it is first asked for."""
    folder, known = tmp_path_factory.mktemp("made"), {}

    def made(name: str) -> Path:
        if name not in known:
            known[name] = folder / name
            if name == "supernet":
                command(["train", SPOS / "search.py", "--work-dir", known[name], "--cfg-options", "search_cfg=None"])
                known[name] /= "epoch_4.pth"
            elif name == "best":
                command(["search", SPOS / "search.py", made("supernet"), "--work-dir", known[name]])
                known[name] /= "best_subnet.pth"
            else:
                command(["train", root / AUTOSLIM, "--work-dir", known[name], "--cfg-options", *JOINT])
                known[name] /= "epoch_1.pth"
        return known[name]

    return made


def words_of(step: str, place: Path, made: Callable, root: Path) -> list:
    """The command line of a step."""
    every_epoch = ["default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=2"]
    config, where = SPOS / "search.py", ["--work-dir", place]
    if step == "train":
        return ["train", config, *where, "--cfg-options", "search_cfg=None", *every_epoch]
    if step == "retrain":
        subnet = f"model.fix_subnet={made('best').with_suffix('.yaml')}"
        longer = ["train_cfg.max_epochs=4", "param_scheduler.end=4"]
        weights = f"model.init_cfg.checkpoint={made('best')}"
        return ["train", SPOS / "subnet.py", *where, "--cfg-options", subnet, weights, *longer, *every_epoch]
    if step == "split":
        parts = ["--output-dir", place, "--channel-cfgs", "1.0", "0.5"]
        return ["split", root / AUTOSLIM, made("joint"), *parts, "--cfg-options", *JOINT]
    if step == "specialize":
        return ["specialize", config, made("supernet"), *where, "--flops", "0.024M", "0.02M"]
    if step == "collect":
        return ["predictor-collect", config, made("supernet"), *where, "-n", "12"]
    return ["search", config, made("supernet"), *where]


def check(place: Path) -> None:
    """Whatever has its final name is whole, in the folders below too."""
    for folder in (place, *(path for path in place.iterdir() if path.is_dir())):
        check_files(folder)


def result(place: Path) -> dict[str, Any]:
    """What a step gives, by the name of the file: content without times."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.suffix == ".pth":
            found[name] = read_checkpoint(path)
        elif path.name == "search_log.json":
            found[name] = log_without_times(path.parent)
        elif path.name == "search_state.json":
            found[name] = json.loads(path.read_text())["memo"]
        elif path.suffix == ".yaml" or path.name == "scores.jsonl":
            found[name] = path.read_text()
        elif path.name == "last_checkpoint":
            found[name] = Path(path.read_text()).name
        elif path.suffix == ".pt2":
            found[name] = True
    return found


@pytest.mark.parametrize(
    ("step", "ranks", "which"),
    [pytest.param(step, ranks, "few", marks=[pytest.mark.wide] * (step == "specialize")) for step, ranks in FEW]
    + [pytest.param(step, ranks, "rest", marks=pytest.mark.slow) for step, ranks in ALL],
)
def test_killed_at_drawn_moments(command, made, root, tmp_path, step, ranks, which):
    def one(place: Path, *resume: str, kill: float | None = None) -> tuple[int, float]:
        words = words_of(step, place, made, root)
        if resume:
            words[(start := words.index("--work-dir")) : start] = resume
        return command(words, kill, ranks)

    whole = tmp_path / "whole"
    _, seconds = one(whole)
    expected = result(whole)
    assert expected
    drawn = np.random.default_rng([ALL.index((step, ranks)), 15]).uniform(0, 1, NUMBER).tolist()
    at = drawn[:1] if which == "few" else drawn[1:] if (step, ranks) in FEW else drawn
    resume = [] if step in ("split", "collect") else ["--resume"]
    places = kill_and_resume(one, tmp_path, seconds, at, check, resume=resume)
    assert len(places) == len(at)
    for place in places:
        assert_equal(result(place), expected, str(place))
        assert not list(place.rglob("*.tmp")) and not list(place.rglob("run.lock"))
