"""Ratios of interleaved measurements: both sides meet the same machine at the same moment."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch


def interleaved(
    steps: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3, seconds: float | None = None
) -> dict[str, list[float]]:
    """Seconds of every step in every round; within a round each step runs once, in turn.

    The clock starts and stops with nothing waiting on the device. After ``seconds`` no further round is begun, once
    there are three.
    """
    for _ in range(warmup):
        for step in steps.values():
            step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    synchronize()
    began = time.perf_counter()
    for number in range(rounds):
        if seconds is not None and number >= 3 and time.perf_counter() - began > seconds:
            break
        for name, step in steps.items():
            synchronize()
            start = time.perf_counter()
            step()
            synchronize()
            taken[name].append(time.perf_counter() - start)
    return taken


def median_ratio(a: list[float], b: list[float]) -> float:
    """Median over the rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def cost_rate(cost: Callable[[np.ndarray], object], rows: np.ndarray) -> float:
    """Rows per second of a cost model, of one call."""
    cost(rows[:1000])
    start = time.perf_counter()
    cost(rows)
    return len(rows) / (time.perf_counter() - start)


def machine() -> str:
    """Processor, threads and versions, for the record."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu}{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def synchronize() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
