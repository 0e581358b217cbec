"""Two processes, each with half of the batch, do what one process does with all of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from robustness.processes import run_script, start_server

WORKER = Path(__file__).with_name("ddp_worker.py")
LEAVING = """
import sys, torch
from mmrazor_lite.cli.environment import leave_process_group
for index in range(20):
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/{index}", rank=0, world_size=1)
    for _ in range(20):
        torch.distributed.all_reduce(torch.ones(1000), async_op=True)
    leave_process_group(failed=False)
"""
SCENARIOS = ("sandwich", "accumulated", "single_path", "joint", "tried")


def two_processes(folder: Path, *options: str) -> dict:
    """Run the worker twice and return what rank 0 saved."""
    words = [[rank, 2, folder / "meet", folder / "two.pt", *options] for rank in range(2)]
    logs = [folder / f"log_{rank}" for rank in range(2)]
    statuses = on_gpus(words, logs) if options else run_script(start_server(), WORKER, words, logs)
    said = "\n".join(log.read_text() for log in logs)
    assert statuses == [0, 0], said
    assert "Warning" not in said
    return torch.load(folder / "two.pt", weights_only=True, map_location="cpu")


def on_gpus(words: Sequence[Sequence[object]], logs: Sequence[Path]) -> list[int]:
    """What ``run_script`` does, for processes that use GPUs: those that were forked from another cannot."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[2])}
    jobs = []
    for line, log in zip(words, logs, strict=True):
        command = [sys.executable, str(WORKER), *map(str, line)]
        with log.open("w") as output:
            jobs.append(subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT))
    try:
        return [job.wait(timeout=240) for job in jobs]
    finally:
        for job in jobs:
            job.kill()


def one_process(sync_bn: bool = False) -> dict:
    """The same with the joined batch, here."""
    spec = importlib.util.spec_from_file_location("ddp_worker", WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    return worker.run(0, 1, sync_bn)


def assert_same_training(one: dict, two: dict) -> None:
    assert len(one["gradients"]) == len(two["gradients"])
    for mine, theirs in zip(one["gradients"], two["gradients"], strict=True):
        for name, gradient in mine.items():
            other = theirs[name]
            if gradient is None:  # a parameter that no pass used on any rank
                assert other is None, name
                continue
            gradient = gradient.cpu()
            assert (gradient - other).abs().max() <= 1e-9 * gradient.abs().max() + 1e-15, name
    for name, weight in one["weights"].items():
        torch.testing.assert_close(weight.cpu(), two["weights"][name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[dict, dict]:
    """What one process and what two processes computed."""
    return one_process(), two_processes(tmp_path_factory.mktemp("ddp"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_processes_equal_one_with_the_joined_batch(results, scenario):
    one, two = (result[scenario] for result in results)
    assert len(one["gradients"]) == (1 if scenario == "accumulated" else 3)
    assert_same_training(one, two)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_unused_path_did_not_move(results, scenario):
    for result in results:
        gradients = [step["architecture.other.0.weight"] for step in result[scenario]["gradients"]]
        assert gradients == [None] * len(gradients)


def test_all_processes_take_the_order_that_is_faster_on_the_whole(results):
    assert [result["tried"]["channels_last"] for result in results] == [True, True]


def test_the_steps_moved_the_weights(results):
    first, last = (results[0]["sandwich"]["gradients"][i]["architecture.head.weight"] for i in (0, -1))
    assert not torch.equal(first, last)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="SyncBatchNorm runs on CUDA tensors only: needs two GPUs")
def test_synchronised_batch_norms_see_the_joined_batch(tmp_path):
    assert_same_training(one_process(sync_bn=True)["sync_bn"], two_processes(tmp_path, "sync_bn")["sync_bn"])


def test_a_group_that_has_just_worked_ends(tmp_path):
    """Its threads drop tensors while it ends: torch 2.6 alone hangs here three times out of four."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(WORKER.parents[2])}
    words = [sys.executable, "-c", LEAVING, str(tmp_path)]
    assert subprocess.run(words, env=environment, timeout=60).returncode == 0
