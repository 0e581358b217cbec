"""Running what a latency table has to measure, a few at a time; all that is done is on disk at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mmrazor_lite.errors import UserError

from .latency_parts import Job
from .measure import Measures
from .measurement_log import Journal
from .steady_rounds import Steady

CHUNK = 32  # timers that exist at a time


def check_numbers(checks: int, repeats: int, seed: int) -> None:
    """Raise :class:`UserError` for a number that is out of range."""
    for name, value, lowest in (("checks", checks, 3), ("repeats", repeats, 1), ("seed", seed, 0)):
        if type(value) is not int or value < lowest:
            raise UserError(f"{name}={value!r} must be a whole number, {lowest} or more")


def measure(
    jobs: Mapping[str, Job],
    bench: Measures,
    book: Journal,
    repeats: int,
    min_seconds: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Measure what the journal lacks, in a random order, a few at a time."""
    rng, steady = np.random.default_rng([seed, 2]), Steady(bench.pace)
    todo = [key for key in rng.permutation(sorted(jobs)).tolist() if key not in book]
    for start in range(0, len(todo), CHUNK):
        keys = todo[start : start + CHUNK]
        timers = bench.timers({key: (jobs[key].make(), jobs[key].size) for key in keys})
        for key, times in steady(timers, repeats, min_seconds, rng).items():
            book.add(key, times, f"{jobs[key].label} on {'x'.join(map(str, jobs[key].size))}")
        if progress is not None:
            progress(len(jobs) - len(todo) + start + len(keys), len(jobs))
