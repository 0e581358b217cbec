"""A machine that is a third slower for most of the time: what is measured is what it does at full speed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mmrazor_lite.estimators.measure import interleaved
from mmrazor_lite.estimators.steady_rounds import MOST, Steady

PERIOD, STEP = 0.9, 1e-4  # seconds


class Machine:
    """Runs work; ``is_fast`` says of a second whether it is at full speed then."""

    def __init__(self, is_fast: Callable[[float], bool], slow: float = 1.45) -> None:
        self.is_fast, self.slow, self.now = is_fast, slow, 0.0

    def timer(self, work: float) -> Callable[[int], float]:
        def run(runs: int) -> float:
            start, left = self.now, runs * work
            while left > 0:
                self.now += min(left, STEP) * (1.0 if self.is_fast(self.now) else self.slow)
                left -= STEP
            return self.now - start

        return run

    def timers(self) -> dict[str, Callable[[int], float]]:
        return {name: self.timer(seconds) for name, seconds in WORK.items()}


WORK = {f"op {number}": seconds for number, seconds in enumerate(np.geomspace(2e-4, 2e-2, 12))}


def errors(times: dict) -> np.ndarray:
    return np.array([min(times[name]) / (1000 * seconds) - 1 for name, seconds in WORK.items()])


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_what_runs_while_the_machine_is_slow_does_not_count(share):
    def is_fast(now: float) -> bool:
        return now % PERIOD >= (1 - share) * PERIOD

    machine = Machine(is_fast)
    found = Steady(machine.timer(5e-4))(machine.timers(), 5, 0.005, np.random.default_rng(0))
    assert np.abs(errors(found)).max() < 0.02
    assert max(max(times) / min(times) for times in found.values()) < 1.06  # none was slow
    if share == 0.25:
        plain = interleaved(Machine(is_fast).timers(), 5, 0.005, np.random.default_rng(0))
        assert max(max(times) / min(times) for times in plain.values()) > 1.4


def test_what_never_runs_at_full_speed_is_scaled():
    machine = Machine(lambda now: now < 1.5)  # while it looks around
    found = Steady(machine.timer(5e-4))(machine.timers(), 5, 0.005, np.random.default_rng(0))
    assert np.abs(errors(found)).max() < 0.02 and all(len(times) == 5 for times in found.values())


def test_repeats_are_as_many_as_are_wanted():
    count = []

    def timer(runs: int) -> float:
        count.append(runs)
        return 0.01 * runs

    assert Steady(None)({"op": timer}, 3, 0.01, np.random.default_rng(0)) == {"op": [pytest.approx(10)] * 3}
    assert len(count) == 2 + 3  # two warm-ups
    count.clear()
    falling = iter(np.linspace(0.2, 0.1, 200))  # never as slow as before: hardly anything is within 5% of the best
    times = Steady(lambda runs: next(falling))({"op": timer}, 3, 0.01, np.random.default_rng(0))["op"]
    assert len(count) <= 2 + 3 * MOST and 1 <= len(times) <= 3 * MOST
