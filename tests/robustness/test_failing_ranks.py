"""What fails in one of several processes is one line, of that process, and exit status 2."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from robustness.processes import run, start, start_server

from mmrazor_lite.cli import main

CONFIG = Path(__file__).with_name("spos") / "search.py"
PATIENCE = 60.0  # seconds
IMPORTS = """
custom_imports = dict(imports=["robustness.failing_parts"])
"""
TRANSFORM = "[dict(type='FailingTransform', rank={rank}), dict(type='PackInputs')]"
# Command, what is added to the config, what the line says.
FAILURES = {
    "train": (
        "model = dict(architecture=dict(head=dict(loss=dict(_delete_=True, type='FailingLoss', rank={rank}))))",
        "first training",
    ),
    "test": ("test_evaluator = dict(_delete_=True, type='FailingMetric', rank={rank})", "test_evaluator cannot score"),
    "search": (
        "search_cfg = dict(dataloader=dict(dataset=dict(dataset=dict(pipeline=" + TRANSFORM + "))))",
        "cannot be read",
    ),
}


@pytest.fixture(scope="module")
def context():
    """Of processes that have imported everything."""
    return start_server()


@pytest.fixture(scope="module")
def supernet(context, tmp_path_factory):
    folder = tmp_path_factory.mktemp("supernet")
    config, log = _config(folder, "train", ""), folder / "log"
    options = ["train_cfg.max_epochs=1", "default_hooks.checkpoint.interval=1"]
    words = ["train", config, "--work-dir", folder, "--cfg-options", *options]
    assert run(context, words, log)[0] == 0, log.read_text()[-3000:]
    return folder / "epoch_1.pth"


def _config(folder: Path, command: str, more: str) -> Path:
    path = folder / f"{command}.py"
    without = "" if command == "search" else "search_cfg = None\n"
    path.write_text(f"_base_ = {str(CONFIG)!r}\n{IMPORTS}{without}{more}\n")
    return path


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.wide] * (name != "train")) for name in FAILURES]
)
def test_the_rank_that_fails_says_so_in_one_line(context, supernet, tmp_path, command):
    rank = 0 if command == "test" else 1
    more, said = FAILURES[command]
    config, log = _config(tmp_path, command, more.format(rank=rank)), tmp_path / "log"
    weights = [] if command == "train" else [supernet]
    processes = start(context, [command, config, *weights, "--work-dir", tmp_path / "run"], log, ranks=2)
    processes[rank].join(PATIENCE)
    status, text = processes[rank].exitcode, log.read_text()
    for process in processes:
        process.kill()  # what torchrun does
        process.join()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    errors = [line for line in errors if not line.startswith("error: another process of this run has ended")]
    assert status == 2 and "Traceback" not in text, text[-3000:]
    assert len(errors) == 1 and said in errors[0] and f"of process {rank}" in errors[0], errors


def test_a_process_that_is_ended_while_it_waits_to_speak_says_the_signal(monkeypatch):
    """Else its launcher would take it for the cause."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("time.sleep", lambda seconds: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["print-config", "nowhere.py"]) == 128 + signal.SIGTERM
