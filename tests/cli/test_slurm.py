"""``launch --slurm`` and slurm itself, on two nodes: a training, a search over both, and what ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from robustness.processes import free_port
from robustness.slurm import Cluster, cluster
from robustness.small_runs import SEARCH, training

from mmrazor_lite.cli import main
from mmrazor_lite.cli.launch import PROGRAM

pytestmark = pytest.mark.wide

CONFIG = "configs/pruning/autoslim/autoslim_{}_digits.py"
PATIENCE = 300  # seconds, for a busy machine


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as made:
        yield made


@pytest.fixture(scope="module")
def launch(slurm, root) -> Callable:
    """Type one line, with a task on each node."""

    def listen() -> None:  # whoever runs the tests in the background has this one ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def launch(log: Path, *words: object) -> subprocess.Popen:
        line = [PROGRAM, "launch", "--slurm", "part", "--nproc", 1, "--nnodes", 2, "--cpus-per-task", 1, *words]
        known = {**slurm.environment, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PORT": str(free_port())}
        with log.open("w") as output:
            return subprocess.Popen(
                [sys.executable, *map(str, line)],
                env=known,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=listen,
            )

    return launch


@pytest.fixture(scope="module")
def trained(launch, root, tmp_path_factory) -> Path:
    """Work dir of a training on both nodes."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["train", root / CONFIG.format("supernet"), "--work-dir", folder / "W", "--cfg-options", *training(2)]
    assert launch(folder / "log", *words).wait(PATIENCE) == 0, (folder / "log").read_text()
    return folder / "W"


def test_a_search_is_spread_over_both_nodes_and_finds_what_one_process_finds(launch, root, trained, tmp_path):
    words = ["search", root / CONFIG.format("search"), trained / "epoch_2.pth"]
    line = [*words, "--work-dir", tmp_path / "two", "--cfg-options", *SEARCH]
    assert launch(tmp_path / "log", *line).wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    assert main([*map(str, words), "--work-dir", str(tmp_path / "one"), "--cfg-options", *SEARCH]) == 0
    found = [sorted((tmp_path / name).glob("subnet_*.yaml")) for name in ("one", "two")]
    assert found[0] and [file.name for file in found[0]] == [file.name for file in found[1]]
    assert all(a.read_text() == b.read_text() for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_the_job(launch, slurm, root, tmp_path, sign):
    words = ["train", root / CONFIG.format("supernet"), "--work-dir", tmp_path / "W", "--cfg-options", *training(500)]
    started = launch(tmp_path / "log", *words)
    last = time.monotonic() + PATIENCE
    try:
        while not (tmp_path / "W" / "epoch_1.pth").is_file():
            assert time.monotonic() < last and started.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        os.kill(started.pid, sign)
        assert started.wait(60) == 128 + sign
        while slurm.said("squeue", "--noheader"):
            assert time.monotonic() < last
            time.sleep(0.2)
    finally:
        started.kill()
        slurm.said("scancel", "--signal=KILL", "--user=root")
    assert (tmp_path / "log").read_text().splitlines()[-1].endswith(": --resume continues from what was kept")


def test_an_error_of_all_tasks_is_told_once(launch, root, tmp_path):
    words = ["train", root / CONFIG.format("supernet"), "--work-dir", tmp_path / "W", "--cfg-options"]
    # srun's status is the greatest of all tasks, of which it ends one by a signal
    assert launch(tmp_path / "log", *words, "load_from=none.pth").wait(PATIENCE) >= 2
    errors = [text for text in (tmp_path / "log").read_text().splitlines() if text.startswith("error: ")]
    assert errors == ["error: checkpoint none.pth: no such file"]
