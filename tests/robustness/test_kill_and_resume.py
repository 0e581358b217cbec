"""A run that is killed at any moment leaves whole files, and goes on to what the uninterrupted run would have given.

20 kills each of training, search and split: most at times drawn uniformly over the run, the others inside a writing.
All of them with ``-m "slow or not slow"``; else those inside a writing and two of the drawn ones of each run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from robustness.kills import FEW, assert_equal, check_files, kill_and_resume, log_without_times, moments, names
from robustness.processes import KILLED, Write, run, start_server

from mmrazor_lite.export import read_checkpoint

AUTOSLIM = "configs/pruning/autoslim/autoslim_{}_digits.py"
TINY = [
    "model.architecture.backbone.settings=[]",  # two convs: tracing them is most of a run
    "model.architecture.backbone.stem_channels=24",
    "model.architecture.backbone.last_channels=24",
    "model.architecture.head.in_channels=24",
]
DATA = [
    "train_dataloader.dataset.dataset.indices=60",
    "train_dataloader.batch_size=16",
    "val_dataloader.dataset.indices=20",
    "train_cfg.val_interval=2",
    "train_cfg.max_epochs=3",
    "param_scheduler.end=3",
]
SEARCH_DATA = [
    "search_cfg.dataloader.dataset.dataset.indices=100",
    "search_cfg.score_on_trained_images=True",  # of fewer images others are held out
    "search_cfg.calibrate_dataloader.dataset.dataset.indices=40",
    "search_cfg.calibrate_sample_num=20",
    "search_cfg.target_macs=[80%,40%]",
]
BY_EPOCH = ["default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=2"]
WITHIN_EPOCHS = ["default_hooks.checkpoint.interval=2", "default_hooks.checkpoint.by_epoch=False"]


@pytest.fixture(scope="module")
def command(root, tmp_path_factory) -> Iterator[Callable]:
    """Run a command line in a process that may be killed; returns the exit status and the seconds."""
    context = start_server()
    log = tmp_path_factory.mktemp("logs")

    def command(step: str, config: str, *argv: object, options: Sequence[str] = (), kill: Any = None) -> tuple:
        words = [step, root / AUTOSLIM.format(config), *argv, "--cfg-options", *TINY, *options]
        file = log / f"{step}.log"
        status, seconds = run(context, words, file, kill)
        assert status == (0 if kill is None else status if status == 0 else KILLED), file.read_text()[-3000:]
        return status, seconds

    return command


TRAINING = {
    "epochs": (BY_EPOCH, [Write("epoch_*", 1, "half"), Write("epoch_*", 3, "before"), Write("last_*", 2, "before")]),
    "iterations": (
        WITHIN_EPOCHS,
        [Write("iter_*", 2, "half"), Write("iter_*", 4, "after"), Write("last_*", 3, "half")],
    ),
}


@pytest.mark.parametrize(("kind", "workers"), [pytest.param("epochs", 0, marks=pytest.mark.wide), ("iterations", 2)])
def test_training(command, tmp_path, kind, workers, kills):
    hooks, writes = TRAINING[kind]
    options = [*DATA, *hooks, f"train_dataloader.num_workers={workers}"]

    def train(place: Path, *resume: str, kill: Any = None) -> tuple[int, float]:
        return command("train", "supernet", "--work-dir", place, *resume, options=options, kill=kill)

    whole = tmp_path / "whole"
    _, seconds = train(whole)
    last = Path((whole / "last_checkpoint").read_text()).name
    expected = read_checkpoint(whole / last)
    for place in kill_and_resume(
        train, tmp_path, seconds, moments(kills, 10, 0, writes), check_files, resume=["--resume"]
    ):
        check_files(place)
        assert names(place, "*.pth") == names(whole, "*.pth")
        assert Path((place / "last_checkpoint").read_text()).name == last
        assert_equal(read_checkpoint(place / last), expected, str(place))


@pytest.fixture(scope="module")
def supernet(command, tmp_path_factory) -> Path:
    """Checkpoint of a supernet."""
    folder = tmp_path_factory.mktemp("supernet")
    command("train", "supernet", "--work-dir", folder, options=[*DATA, "train_cfg.val_interval=9"])
    return folder / "epoch_3.pth"


@pytest.fixture(scope="module")
def search(command, supernet) -> Callable:
    """Search with a number of worker processes."""

    def search(place: Path, *resume: str, kill: Any = None, workers: int = 0) -> tuple[int, float]:
        loaders = [f"search_cfg.{name}.num_workers={workers}" for name in ("dataloader", "calibrate_dataloader")]
        words = [supernet, "--work-dir", place, *resume]
        return command("search", "search", *words, options=[*SEARCH_DATA, *loaders], kill=kill)

    return search


@pytest.fixture(scope="module")
def searched(search, tmp_path_factory) -> tuple[Path, float]:
    """Folder and seconds of an uninterrupted search."""
    folder = tmp_path_factory.mktemp("searched")
    return folder, search(folder)[1]


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_search(search, searched, tmp_path, workers, kills):
    writes = {
        0: [Write("search_state.json", 2, "half"), Write("search_state.json", 4, "after"), Write("*.yaml", 2, "half")],
        2: [Write("search_state.json", 1, "before"), Write("search_log.json", 3, "after"), Write("*.yaml", 1, "after")],
    }
    whole, seconds = searched

    def run_search(place: Path, *resume: str, kill: Any = None) -> tuple[int, float]:
        return search(place, *resume, kill=kill, workers=workers)

    at = moments(kills, 10, 1 + workers, writes[workers])
    for place in kill_and_resume(run_search, tmp_path, seconds, at, check_files, resume=["--resume"]):
        check_files(place)
        assert names(place, "*.yaml") == names(whole, "*.yaml") != []
        for name in names(whole, "*.yaml"):
            assert (place / name).read_bytes() == (whole / name).read_bytes()
        assert log_without_times(place) == log_without_times(whole)
        states = [json.loads((folder / "search_state.json").read_text()) for folder in (place, whole)]
        assert states[0]["memo"] == states[1]["memo"]


def programme_weights(path: Path) -> dict[str, int]:
    """Check sum of every weight in a ``.pt2``; older releases of torch have one entry for all."""
    with zipfile.ZipFile(path) as archive:
        items = archive.infolist()
    return {item.filename: item.CRC for item in items if re.search("/weights/|state_dict", item.filename)}


def test_split(command, searched, tmp_path, kills):
    files = [str(searched[0] / name) for name in names(searched[0], "*.yaml")]
    chosen = [f"algorithm.channel_cfg={','.join(files)}", "train_cfg.max_epochs=1", "param_scheduler.end=1"]
    joint = tmp_path / "joint"
    command("train", "subnet", "--work-dir", joint, options=[*DATA, *chosen])

    def split(place: Path, kill: Any = None, chosen: Sequence[str] = files) -> tuple[int, float]:
        words = ["split", "subnet", joint / "epoch_1.pth", "--output-dir", place, "--channel-cfgs", *chosen]
        return command(*words, kill=kill)

    writes = [
        Write("checkpoint_1.pth", 1, "half"),
        Write("*_2.pth", 1, "before"),
        Write("*_1.pt2", 1, "half"),
        Write("*_2.pt2", 1, "after"),
    ]

    def killed(of: Callable, folder: Path, number: int, writes: Sequence[Write]) -> None:
        whole = folder / "whole"
        _, seconds = of(whole)
        for place in kill_and_resume(of, folder, seconds, moments(kills, number, 4, writes), check_files, resume=[]):
            assert_same_parts(place, whole)

    if kills == "few":  # all writings, and the moments that are few
        killed(split, tmp_path / "two", len(writes) + FEW, writes)
    else:
        killed(lambda place, kill=None: split(place, kill, files[:1]), tmp_path / "one", FEW + 14, [])


def assert_same_parts(place: Path, whole: Path) -> None:
    check_files(place)
    assert names(place, "checkpoint_*") == names(whole, "checkpoint_*") != []
    for name in names(whole, "*.pth"):
        assert_equal(read_checkpoint(place / name), read_checkpoint(whole / name), f"{place}/{name}")
    for name in names(whole, "*.pt2"):
        assert programme_weights(place / name) == programme_weights(whole / name) != {}
