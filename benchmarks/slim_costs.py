"""Seconds and peak memory of ``slim``, and of a forward pass, each in a process that does nothing else."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.slim_jobs import Job
from benchmarks.slim_networks import CASES


def measure_costs(job: Job, work: Path) -> dict[str, Any]:
    """Of the job ``forward``: all 500 images in one batch. Of ``slim``: all of it, latencies of the report included.

    What torch.export and the package bring in at their first use is in neither: a small network is slimmed before.
    """
    from benchmarks.slim import slimmed, watched

    case = CASES[job.case]
    network = case.build(work).eval()
    images = case.data.calibration(work, job.seed)
    found: dict[str, Any] = {"weights_mb": _megabytes(sum(p.nbytes for p in network.parameters()))}
    if job.method == "slim":
        _warm_up(job)
    with watched() as seen:
        base = peak(reset=True)
        wall, cpu = time.monotonic(), time.process_time()
        if job.method == "forward":
            with torch.no_grad():
                network(images.images)
        else:
            slimmed(network, images.batches(50), job)
        found |= {"spent_s": round(time.monotonic() - wall, 1), "spent_cpu_s": round(time.process_time() - cpu, 1)}
    return {**found, "above_mb": _megabytes(peak() - base), "base_mb": _megabytes(base), "seconds": seen["seconds"]}


def _warm_up(job: Job) -> None:
    from benchmarks.slim import slimmed

    layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(64, 10)]
    torch.manual_seed(0)
    batch = (torch.randn(20, 3, 6, 6), torch.arange(20) % 10)
    slimmed(nn.Sequential(*layers).eval(), [batch], job)


def peak(reset: bool = False) -> int:
    """Bytes that the process held at most; with ``reset`` from now on, where the system can."""
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _megabytes(size: int) -> float:
    return round(size / 2**20, 1)
