"""Running what a latency table has to measure, a few at a time; all that is done is on disk at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError

from .latency_parts import Job
from .measure import Measures
from .measurement_log import Journal
from .steady_rounds import Steady, spread

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
    rng, pace = np.random.default_rng([seed, 2]), bench.pace
    if pace is not None and book.pace is not None:
        pace = pace.with_known(book.pace)
    steady = Steady(pace)
    todo = [key for key in rng.permutation(sorted(jobs)).tolist() if key not in book]
    for start in range(0, len(todo), CHUNK):
        keys = todo[start : start + CHUNK]
        timers = bench.timers({key: (jobs[key].make(), jobs[key].size) for key in keys})
        found = steady(timers, repeats, min_seconds, rng)
        for key, times in found.times.items():
            label = f"{jobs[key].label} on {'x'.join(map(str, jobs[key].size))}"
            book.add(key, list(times), label, found.speeds[key], pace and pace.best)
        if progress is not None:
            progress(len(jobs) - len(todo) + start + len(keys), len(jobs))


def facts_of_repeats(jobs: Collection[str], book: Journal) -> dict[str, Any]:
    """What a table says of its measurements.

    Returns:
        ``repeats``, the fewest; ``spread``, in the median; ``pace``, in milliseconds, at full speed; ``slow``, the
        share that never was at full speed, where there is one.
    """
    times = [book.times[key] for key in jobs]
    slow = sum(key in book.speeds for key in jobs) / len(times)
    return {
        "repeats": min(map(len, times)),
        "spread": round(float(np.median([spread(found) for found in times])), 4),
        **({} if book.pace is None else {"pace": round(1000 * book.pace, 6)}),
        **({} if slow == 0 else {"slow": round(slow, 4)}),
    }
