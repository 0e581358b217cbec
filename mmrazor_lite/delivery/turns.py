"""How long networks take in every runtime at full speed, in turns: what slows the machine down meets all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmrazor_lite.estimators.measure import machine_pace
from mmrazor_lite.estimators.steady_rounds import Steady, Timer, spread

from .runtime import Runner

REPEATS, MIN_SECONDS = 15, 0.03  # rounds, and how long each runs in one


@dataclass(frozen=True)
class Taken:
    """Times of one network in one runtime.

    Attributes:
        name: Of the runtime, such as ``onnx`` or ``onnx int8``.
        network: ``delivered``, or ``before``: the network that it was made of.
        batch_size: Images of a run.
        times: Milliseconds of a run, of each repeat that counts.
        speed: Of the machine, as a share of its full speed; below 1 the times are scaled by it.
    """

    name: str
    network: str
    batch_size: int
    times: tuple[float, ...]
    speed: float = 1.0

    @property
    def median(self) -> float:
        return float(np.median(self.times))

    @property
    def spread(self) -> float:
        """Distance of the quartiles, as a share of the median."""
        return spread(self.times)


def measure(
    runners: Mapping[tuple[str, str], Runner],
    shape: Sequence[int],
    batch_sizes: Sequence[int],
    threads: int,
    scale: float = 1.0,
    seed: int = 0,
    repeats: int = REPEATS,
    min_seconds: float = MIN_SECONDS,
) -> list[Taken]:
    """Run all of them in rounds of a new random order, for one number of images after the other.

    Args:
        runners: By name and network, see :class:`Taken`.
        shape: (C, H, W) of one image.
        batch_sizes: Images of a run, each number by itself.
        threads: That torch computes with inside the call; other runtimes were loaded for as many.
        scale: Of the random pixels.
    """
    before, rng = torch.get_num_threads(), np.random.default_rng(seed)
    found, steady = [], Steady(machine_pace(threads), brief=True)
    try:
        torch.set_num_threads(threads)
        for size in batch_sizes:
            images = (rng.standard_normal((size, *shape)) * scale).astype(np.float32)
            timers = {"|".join(key): _timer(runner, images) for key, runner in runners.items()}
            measured = steady(timers, repeats, min_seconds, rng)
            for key in runners:
                name = "|".join(key)
                found.append(Taken(*key, size, tuple(measured.times[name]), measured.speeds[name]))
    finally:
        torch.set_num_threads(before)
    return found


def _timer(runner: Runner, images: np.ndarray) -> Timer:
    def timer(runs: int) -> float:
        start = time.perf_counter()
        for _ in range(runs):
            runner(images)
        return time.perf_counter() - start

    return timer
