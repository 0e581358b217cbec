"""An evolution search that is killed at any moment goes on to the same result, and two processes find it as one does.

26 kills: 20 at times drawn uniformly over the run, 6 inside a writing; half of a search in one process, half of one in
two. All of them with ``-m "slow or not slow"``; else 10, the writings among them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robustness.kills import assert_equal, check_files, kill_and_resume, log_without_times, moments, names
from robustness.processes import KILLED, Write, run, start, start_server

from mmrazor_lite.cli import main
from mmrazor_lite.export import read_checkpoint

CONFIG = Path(__file__).with_name("spos") / "search.py"


@pytest.fixture(scope="module")
def context():
    """Of processes that have imported everything."""
    return start_server()


@pytest.fixture(scope="module")
def supernet(context, tmp_path_factory) -> Path:
    """Checkpoint of a supernet."""
    folder = tmp_path_factory.mktemp("supernet")
    words = ["train", CONFIG, "--work-dir", folder, "--cfg-options", "search_cfg=None"]
    assert run(context, words, folder / "log")[0] == 0, (folder / "log").read_text()[-3000:]
    return folder / "epoch_4.pth"


@pytest.fixture(scope="module")
def search(context, supernet, tmp_path_factory) -> Callable:
    """Search in a number of processes that may be killed; returns the exit status and the seconds."""
    log = tmp_path_factory.mktemp("logs") / "search.log"

    def search(place: Path, *resume: str, kill: Any = None, ranks: int = 1) -> tuple[int, float]:
        status, seconds = run(context, ["search", CONFIG, supernet, "--work-dir", place, *resume], log, kill, ranks)
        assert status == (0 if kill is None else status if status == 0 else KILLED), log.read_text()[-3000:]
        return status, seconds

    return search


@pytest.fixture(scope="module")
def searched(search, tmp_path_factory) -> Path:
    """Folder of an uninterrupted search in one process."""
    folder = tmp_path_factory.mktemp("searched")
    search(folder)
    return folder


def assert_same_result(place: Path, whole: Path) -> None:
    assert names(place, "*.yaml", "*.pth") == ["best_subnet.pth", "best_subnet.yaml"]
    assert (place / "best_subnet.yaml").read_bytes() == (whole / "best_subnet.yaml").read_bytes()
    best = [read_checkpoint(folder / "best_subnet.pth") for folder in (place, whole)]
    assert_equal(*best, str(place))
    assert log_without_times(place) == log_without_times(whole)
    states = [json.loads((folder / "search_state.json").read_text()) for folder in (place, whole)]
    assert states[0]["memo"] == states[1]["memo"]


WRITES = {
    1: [Write("search_state.json", 2, "half"), Write("best_subnet.pth", 1, "half"), Write("*.yaml", 1, "after")],
    2: [Write("search_state.json", 1, "before"), Write("search_log.json", 3, "after"), Write("*.pth", 1, "after")],
}


def test_two_processes_go_on_to_what_one_finds(search, searched, tmp_path):
    """One moment of those below: the second step is scored, and its state half written."""
    search(tmp_path / "killed", kill=Write("search_state.json", 2, "half"), ranks=2)
    check_files(tmp_path / "killed")
    search(tmp_path / "killed", "--resume", ranks=2)
    assert_same_result(tmp_path / "killed", searched)


@pytest.mark.wide
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_search(search, searched, tmp_path, ranks, kills):
    def run_search(place: Path, *resume: str, kill: Any = None) -> tuple[int, float]:
        return search(place, *resume, kill=kill, ranks=ranks)

    whole = tmp_path / "whole"
    _, seconds = run_search(whole)
    assert_same_result(whole, searched)
    scores = json.loads((searched / "search_log.json").read_text())["steps"]
    assert len(scores) == 4
    at = moments(kills, 13, ranks, WRITES[ranks])
    for place in kill_and_resume(run_search, tmp_path, seconds, at, check_files, resume=["--resume"]):
        check_files(place)
        assert_same_result(place, searched)


GONE = {  # step, which process, what happens to it, the file after which it happens
    "search": ("search", 0, signal.SIGKILL, "search_state.json"),
    "train": ("train", 1, signal.SIGKILL, "last_checkpoint"),
    "hung": ("search", 1, signal.SIGSTOP, "search_state.json"),
    "start": ("search", 1, signal.SIGKILL, "log"),
}
TIMEOUT = 6.0
PATIENCE = 90.0  # what a busy machine may take for it; without a timeout of ours it is torch's 30 minutes


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.wide] * (n == "start")) for n in GONE])
def test_a_process_that_is_gone_ends_the_other(context, supernet, tmp_path, name):
    """It ends with one line and in time: at once where the process died, else after the timeout."""
    step, victim, how, sign = GONE[name]
    words = [step, CONFIG, *([supernet] if step == "search" else []), "--work-dir", tmp_path, "--cfg-options"]
    words += ["search_cfg=None", "train_cfg.max_epochs=999", "default_hooks.checkpoint.interval=1"] * (step == "train")
    words += ["search_cfg.searcher.max_epochs=999"] * (step == "search")
    words += [f"env_cfg.dist_cfg.timeout={TIMEOUT}"]
    processes = start(context, words, tmp_path / "log", ranks=2)
    while not (tmp_path / sign).exists():
        assert not any(process.exitcode for process in processes), (tmp_path / "log").read_text()
        time.sleep(0.01)
    if name != "start":  # then it has not joined the other yet
        time.sleep(np.random.default_rng(list(GONE).index(name)).uniform(0, 0.5))
    os.kill(processes[victim].pid, how)
    other, began = processes[1 - victim], time.monotonic()
    other.join(PATIENCE)
    seconds = time.monotonic() - began
    if how == signal.SIGSTOP:
        assert processes[victim].exitcode is None and seconds > TIMEOUT / 2
        os.kill(processes[victim].pid, signal.SIGCONT)  # finds the other gone
        processes[victim].join(PATIENCE)
        assert processes[victim].exitcode == 2
    processes[victim].kill()
    text = (tmp_path / "log").read_text()
    assert other.exitcode == 2, text[-3000:]
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == (2 if how == signal.SIGSTOP else 1) and "Traceback" not in text, text[-3000:]
    assert all("another process of this run has ended or does not answer" in line for line in lines)
    assert all("--resume" in line for line in lines)


@pytest.mark.parametrize("timeout", ["0", "-1", "soon"])
def test_timeout_that_is_none(capsys, supernet, tmp_path, timeout):
    words = ["search", CONFIG, supernet, "--work-dir", tmp_path, "--cfg-options", f"env_cfg.dist_cfg.timeout={timeout}"]
    assert main([str(word) for word in words]) == 2
    assert "env_cfg.dist_cfg.timeout=" in capsys.readouterr().err
