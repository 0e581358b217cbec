"""Milliseconds at full speed, on a machine that is not always equally fast: what runs while it is slow does not count.

Whatever says milliseconds measures here: tables, budgets, what is delivered. A timer is called with a number of runs
and gives the seconds that they took together.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Timer = Callable[[int], float]
Clock = Callable[[], float]
WARM_UP = 3  # runs before the clock is looked at: memory is allocated, kernels are chosen
MAX_RUNS = 10_000  # of one round
SLOWER = 1.05  # than the machine's best pace: from there on it is slow
BEST = 0.1  # share of the paces that are at least as fast as what is called the best: one alone may be chance
FIRST, FIRST_BRIEF = 2.0, 0.5  # seconds that paces are taken for before anything else, to know the best one
LOOKS = 10_000  # of them at most
MOST, MOST_BRIEF = 4, 2  # times the repeats that are wanted: after so many rounds what is there has to do
ENOUGH = 3  # rounds at full speed that a median may be of


class Pace:
    """How fast a machine is, by work that is always the same.

    Args:
        timer: Times that work.
        clocks: Of the wall, and of what this process computes, where it computes with one thread: the difference is
            what other processes had of the processor meanwhile. None: nothing says that.
        known: The seconds of the work at full speed, as far as another measurement knows: full speed is no slower.
    """

    def __init__(self, timer: Timer, clocks: tuple[Clock, Clock] | None = None, known: float | None = None) -> None:
        self._timer, self._known, self.clocks = timer, known, clocks
        self._seen: list[float] = []  # ascending

    def with_known(self, known: float) -> Pace:
        """The same pace, where full speed is no slower than that; what either sees the other knows."""
        pace = Pace(self._timer, self.clocks, known)
        pace._seen = self._seen
        return pace

    def look_around(self, seconds: float) -> None:
        """What the machine can do, before the first measurement."""
        spent = sum(self._seen)
        while spent < seconds and len(self._seen) < LOOKS:
            spent += self()

    def __call__(self) -> float:
        """The seconds of the work, now."""
        seconds = self._timer(1)
        insort(self._seen, seconds)
        return seconds

    @property
    def best(self) -> float:
        """The seconds of it at full speed."""
        seen = self._seen[int(BEST * len(self._seen))] if self._seen else np.inf
        return float(seen if self._known is None else min(seen, self._known))


@dataclass(frozen=True)
class Measured:
    """Milliseconds of one run at full speed.

    Attributes:
        times: Of each timer, of the repeats that count.
        speeds: Of each timer, how fast the machine was then: 1.0 at full speed; below it, the times are scaled by it.
    """

    times: Mapping[str, Sequence[float]]
    speeds: Mapping[str, float]

    @property
    def speed(self) -> float:
        """The lowest of them."""
        return min(self.speeds.values(), default=1.0)


def calibrated(timers: Mapping[str, Timer], min_seconds: float) -> dict[str, int]:
    """How often each timer has to run to fill ``min_seconds``, after a warm-up."""
    runs = {}
    for name, timer in timers.items():
        timer(WARM_UP)
        once = max(timer(WARM_UP) / WARM_UP, 1e-9)
        runs[name] = min(max(1, round(min_seconds / once)), MAX_RUNS)
    return runs


def spread(times: Sequence[float]) -> float:
    """How far repeats lie apart: the distance of the quartiles, as a share of the median."""
    low, middle, high = np.percentile(times, [25, 50, 75])
    return float((high - low) / middle) if middle else 0.0


def slow_note(speed: float) -> list[str]:
    """What is to be said where the machine was never at full speed."""
    if speed >= 1:
        return []
    return [f"the machine ran at {speed:.0%} of its full speed while this was timed: milliseconds are scaled by that"]


class Steady:
    """Measures timers while a pace says that the machine is as fast as it can be.

    A processor that is shared, or grows warm, changes its speed for parts of a second by a third. What runs then takes
    a third longer, whatever it is. So something of always the same work runs between all measurements, and those count
    that stand between two fast runs of it, and that no other process interrupted.

    Args:
        pace: None: the machine is always equally fast.
        brief: Try for less long, where no table and no limit depends on it.
    """

    def __init__(self, pace: Pace | None, brief: bool = False) -> None:
        self._pace, self._brief = pace, brief

    def __call__(
        self, timers: Mapping[str, Timer], repeats: int, min_seconds: float, rng: np.random.Generator
    ) -> Measured:
        """So many repeats of each timer, in rounds of a new random order.

        Of a timer that never ran at full speed, the times are scaled by the paces around them.

        Args:
            min_seconds: That a timer runs in a round.
        """
        runs = self._began(timers, min_seconds)
        found: dict[str, list[_Slice]] = {name: [] for name in timers}
        for _ in range(self._most(repeats)):
            wanting = [name for name in timers if len(self._fast(found[name])) < repeats]
            if not wanting:
                break
            for name, one in self._round(wanting, timers, runs, rng).items():
                found[name].append(one)
        kept = {name: self._kept(slices, repeats) for name, slices in found.items()}
        return Measured({name: times for name, (times, _) in kept.items()}, {name: s for name, (_, s) in kept.items()})

    def rounds(
        self, timers: Mapping[str, Timer], repeats: int, min_seconds: float, rng: np.random.Generator
    ) -> Measured:
        """As a call, but the i-th times of all timers are of one round, so that they may be compared one by one.

        Those rounds count in which the machine was at full speed all the while. Of fewer than three, all times are
        scaled by the paces around them.
        """
        runs, names = self._began(timers, min_seconds), list(timers)
        found: list[dict[str, _Slice]] = []
        for _ in range(self._most(repeats)):
            if sum(map(self._all_fast, found)) >= repeats:
                break
            found.append(self._round(names, timers, runs, rng))
        fast = [one for one in found if self._all_fast(one)]
        if len(fast) >= min(ENOUGH, repeats):
            return Measured({name: [one[name].ms for one in fast] for name in names}, dict.fromkeys(names, 1.0))
        nearest = sorted(found, key=lambda one: max(part.slowest for part in one.values()))[:repeats]
        kept = {name: self._scaled([one[name] for one in nearest]) for name in names}
        return Measured({name: times for name, (times, _) in kept.items()}, {name: s for name, (_, s) in kept.items()})

    def _began(self, timers: Mapping[str, Timer], min_seconds: float) -> dict[str, int]:
        """How often each timer runs in a round."""
        if self._pace is not None:
            self._pace.look_around(FIRST_BRIEF if self._brief else FIRST)
        return calibrated(timers, min_seconds)

    def _most(self, repeats: int) -> int:
        return repeats if self._pace is None else (MOST_BRIEF if self._brief else MOST) * repeats

    def _round(
        self, names: Sequence[str], timers: Mapping[str, Timer], runs: Mapping[str, int], rng: np.random.Generator
    ) -> dict[str, _Slice]:
        """Each of them once, in a random order."""
        found, before = {}, self._paced()
        for index in rng.permutation(len(names)).tolist():
            name = names[index]
            started = self._read_clocks()
            ms = timers[name](runs[name]) / runs[name] * 1000
            wall, computed = (end - start for end, start in zip(self._read_clocks(), started, strict=True))
            after = self._paced()
            found[name] = _Slice(ms, before, after, computed / wall if 0 < computed < wall else 1.0)
            before = after
        return found

    def _read_clocks(self) -> tuple[float, float]:
        clocks = None if self._pace is None else self._pace.clocks
        return (0.0, 0.0) if clocks is None else (clocks[0](), clocks[1]())

    def _paced(self) -> float:
        return 1.0 if self._pace is None else self._pace()

    def _is_fast(self, one: _Slice) -> bool:
        return self._pace is None or one.slowest <= SLOWER * self._pace.best

    def _all_fast(self, one: Mapping[str, _Slice]) -> bool:
        return all(map(self._is_fast, one.values()))

    def _fast(self, slices: Sequence[_Slice]) -> list[float]:
        return [one.ms for one in slices if self._is_fast(one)]

    def _kept(self, slices: Sequence[_Slice], repeats: int) -> tuple[list[float], float]:
        """The times that count, and how fast the machine was."""
        fast = self._fast(slices)
        if fast:
            return fast, 1.0
        return self._scaled(sorted(slices, key=lambda one: one.slowest)[:repeats])

    def _scaled(self, slices: Sequence[_Slice]) -> tuple[list[float], float]:
        speeds = [one.share * self._pace.best / one.pace for one in slices]
        return [one.ms * speed for one, speed in zip(slices, speeds, strict=True)], float(min(np.median(speeds), 1.0))


@dataclass(frozen=True)
class _Slice:
    """A measurement between two paces, and the share of the processor that it had."""

    ms: float
    before: float
    after: float
    share: float = 1.0

    @property
    def slowest(self) -> float:
        """The slower pace, and slower still where other processes ran meanwhile."""
        return max(self.before, self.after) / self.share

    @property
    def pace(self) -> float:
        return (self.before + self.after) / 2
