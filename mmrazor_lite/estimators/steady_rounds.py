"""Rounds of measurements on a machine that is not always equally fast: what runs while it is slow does not count."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping

import numpy as np

from .measure import Timer, calibrated

SLOWER = 1.05  # than the machine's best pace: from there on it is slow
BEST = 0.1  # share of the paces that are at least as fast as what is called the best: one alone may be chance
FIRST = 2.0  # seconds that paces are taken for before anything else, to know the best one
MOST = 4  # times the repeats that are wanted: after so many rounds what is there has to do


class Steady:
    """Measures timers while a pace says that the machine is as fast as it can be.

    A processor that is shared, or grows warm, changes its speed for parts of a second by a third. What runs then takes
    a third longer, whatever it is. So something of always the same work runs between all measurements, and those count
    that stand between two fast runs of it.

    Args:
        pace: Seconds of that work; None: the machine is always equally fast.
    """

    def __init__(self, pace: Timer | None) -> None:
        self._pace = pace
        self._paces: list[float] = []  # ascending
        self._known = False

    def __call__(
        self, timers: Mapping[str, Timer], repeats: int, min_seconds: float, rng: np.random.Generator
    ) -> dict[str, list[float]]:
        """Milliseconds of one run of each timer, ``repeats`` each, in rounds of a new random order.

        Of a timer that never ran at full speed, the times are scaled by the paces around them.

        Args:
            min_seconds: That a timer runs in a round.
        """
        self._look_around()
        runs = calibrated(timers, min_seconds)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in timers}
        for _ in range(repeats if self._pace is None else MOST * repeats):
            wanting = [name for name in timers if len(self._fast(found[name])) < repeats]
            if not wanting:
                break
            before = self._paced()
            for index in rng.permutation(len(wanting)).tolist():
                name = wanting[index]
                ms = timers[name](runs[name]) / runs[name] * 1000
                after = self._paced()
                found[name].append((ms, max(before, after)))
                before = after
        return {name: self._kept(pairs, repeats) for name, pairs in found.items()}

    def _look_around(self) -> None:
        """What the machine can do, before the first measurement."""
        spent = 0.0
        while self._pace is not None and not self._known:
            spent += self._paced()
            self._known = spent >= FIRST

    def _paced(self) -> float:
        seconds = 1.0 if self._pace is None else self._pace(1)
        insort(self._paces, seconds)
        return seconds

    @property
    def _best(self) -> float:
        return self._paces[int(BEST * len(self._paces))]

    def _fast(self, pairs: list[tuple[float, float]]) -> list[float]:
        return [ms for ms, pace in pairs if pace <= SLOWER * self._best]

    def _kept(self, pairs: list[tuple[float, float]], repeats: int) -> list[float]:
        fast = self._fast(pairs)
        if fast:
            return fast
        nearest = sorted(pairs, key=lambda pair: pair[1])[:repeats]
        return [ms * self._best / pace for ms, pace in nearest]
