"""What tests of kills share: moments, going on from them, and comparing what came out."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from robustness.processes import Write

from mmrazor_lite.export import read_checkpoint

FEW = 1  # drawn moments


def moments(kills: str, number: int, seed: int, writes: Sequence[Write]) -> list[float | Write]:
    """``writes`` and, up to ``number`` in all, parts of the run, drawn uniformly between 0 and 1.

    Args:
        kills: ``"few"`` or ``"rest"``: the writes and the first ones drawn, or the others, which take minutes.
    """
    drawn = np.random.default_rng(seed).uniform(0, 1, number - len(writes)).tolist()
    return [*writes, *drawn[:FEW]] if kills == "few" else drawn[FEW:]


def kill_and_resume(
    command: Callable, folder: Path, seconds: float, at: Sequence[float | Write], check: Callable, *, resume: Sequence
) -> list[Path]:
    """Kill a run once at each of ``at``, check what it left, let it go on, and return the folders.

    Args:
        command: Takes (folder, kill=...) and, for going on, (folder, *resume).
        folder: Gets one folder per run.
        seconds: Time that an uninterrupted run computes.
        at: Parts of that time, or writings.
        check: Called with the folder after the kill.
        resume: Words that make a run go on.
    """

    def one(number: int) -> Path:
        place, when = folder / f"killed_{number}", at[number]
        kill = when if isinstance(when, Write) else when * seconds
        while command(place, kill=kill)[0] == 0:  # ran faster than the run that was timed
            assert not isinstance(kill, Write), f"{kill} never came"
            shutil.rmtree(place)
            kill *= 0.8
        if place.exists():
            check(place)
        command(place, *resume)
        return place

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(len(at))))


def check_files(folder: Path) -> None:
    """Whatever has its final name is whole."""
    for path in folder.rglob("*.pth"):
        read_checkpoint(path)
    for path in [*folder.rglob("*.pth"), *folder.rglob("*.pt2")]:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None, path
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    for path in folder.glob("*.yaml"):
        assert {"format", "space", "choices", "resources"} <= yaml.safe_load(path.read_text()).keys()
    pointer = folder / "last_checkpoint"
    if pointer.exists():
        named = Path(pointer.read_text())
        assert named.parent == folder.resolve()
        assert {"state_dict", "optimizer", "param_schedulers"} <= read_checkpoint(named).keys()


def assert_equal(found: Any, expected: Any, where: str) -> None:
    """Compare nested data, tensors bit by bit."""
    assert type(found) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_equal(found[key], expected[key], f"{where}: {key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), where
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_equal(*pair, f"{where}: {index}")
    else:
        assert found == expected, where


def names(folder: Path, *patterns: str) -> list[str]:
    return sorted(path.name for pattern in patterns for path in folder.glob(pattern))


def log_without_times(folder: Path) -> dict:
    log = json.loads((folder / "search_log.json").read_text())
    return {**log, "steps": [{key: step[key] for key in step if key != "seconds"} for step in log["steps"]]}
