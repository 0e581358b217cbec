"""``launch --nnodes 2 --rdzv HOST:PORT`` on two hosts: training, a search over both, and a cable that is pulled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from robustness.hosts import ADDRESSES, Hosts, two_hosts
from robustness.processes import free_port
from robustness.small_runs import SEARCH, TIMEOUT, training

from mmrazor_lite.checkpoints import read_checkpoint
from mmrazor_lite.cli import main
from mmrazor_lite.cli.launch import PROGRAM

pytestmark = pytest.mark.wide

CONFIG = "configs/pruning/autoslim/autoslim_{}_digits.py"
EPOCHS = 12
TRAIN = training(EPOCHS)
PATIENCE = 400  # seconds, for a busy machine


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def launch(hosts, root) -> Callable:
    """Type one line on both hosts; returns both launchers and their logs."""

    def launch(folder: Path, name: str, *words: object) -> list[tuple]:
        meet, started = f"{ADDRESSES[0]}:{free_port()}", []
        folder.mkdir(exist_ok=True)
        for host in range(2):
            line = ["launch", "--nproc", 1, "--nnodes", 2, "--rdzv", meet, "--node-rank", host, *words]
            log = folder / f"{name}_{host}.log"
            started.append((hosts.start(host, [PROGRAM, *line], log, PYTHONPATH=str(root)), log))
        return started

    return launch


def end(started: list[tuple], status: int = 0) -> list[str]:
    """Wait for both launchers; return what they have said."""
    try:
        ended = [launcher.wait(timeout=PATIENCE) for launcher, _ in started]
    finally:
        for launcher, _ in started:
            launcher.kill()
    said = [log.read_text() for _, log in started]
    assert ended == [status] * 2, (ended, [text[-2000:] for text in said])
    return said


def until(ready: Callable[[], bool], started: list[tuple]) -> None:
    last = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < last and all(launcher.poll() is None for launcher, _ in started)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def trained(launch, root, tmp_path_factory) -> Path:
    """Work dir of a training on both hosts."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["train", root / CONFIG.format("supernet"), "--work-dir", folder / "W", "--cfg-options", *TRAIN]
    end(launch(folder, "train", *words))
    return folder / "W"


def test_a_search_is_spread_over_both_and_finds_what_one_process_finds(launch, root, trained, tmp_path):
    words = ["search", root / CONFIG.format("search"), trained / f"epoch_{EPOCHS}.pth"]
    started = launch(tmp_path, "search", *words, "--work-dir", tmp_path / "two", "--cfg-options", *SEARCH)
    journals = [tmp_path / "two" / f"search_scores_{rank}.jsonl" for rank in range(2)]
    until(lambda: all(journal.is_file() and len(journal.read_text().splitlines()) > 1 for journal in journals), started)
    end(started)
    assert main([*map(str, words), "--work-dir", str(tmp_path / "one"), "--cfg-options", *SEARCH]) == 0
    found = [sorted((tmp_path / name).glob("subnet_*.yaml")) for name in ("one", "two")]
    assert found[0] and [file.name for file in found[0]] == [file.name for file in found[1]]
    assert all(a.read_text() == b.read_text() for a, b in zip(*found, strict=True))


def test_a_host_that_is_cut_off_ends_the_other_in_one_line_and_resume_goes_on(hosts, launch, root, trained, tmp_path):
    words = ["train", root / CONFIG.format("supernet"), "--work-dir", tmp_path / "W"]
    started = launch(tmp_path, "cut", *words, "--cfg-options", *TRAIN)
    until((tmp_path / "W" / "epoch_2.pth").is_file, started)
    hosts.pull()
    try:
        began = time.monotonic()
        said = end(started, status=2)
        assert time.monotonic() - began < 6 * TIMEOUT  # processes take a while to end where many others run
    finally:
        hosts.plug()
    assert not (tmp_path / "W" / f"epoch_{EPOCHS}.pth").exists()
    for host, text in enumerate(said):
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert len(errors) == 2 and "Traceback" not in text, text[-3000:]
        assert (
            "error: another process of this run has ended or does not answer" in errors[0] and "--resume" in errors[0]
        )
        assert errors[1].startswith(f"error: process {host} has ended with exit code 2, its error is above")
    end(launch(tmp_path, "resumed", *words, "--resume", "--cfg-options", *TRAIN))
    ours, whole = (
        read_checkpoint(folder / f"epoch_{EPOCHS}.pth")["state_dict"] for folder in (tmp_path / "W", trained)
    )
    assert all(torch.equal(value, ours[name]) for name, value in whole.items())
