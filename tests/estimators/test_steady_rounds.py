"""A machine that is a third slower for most of the time: what is measured is what it does at full speed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from mmrazor_lite.estimators.steady_rounds import MAX_RUNS, MOST, MOST_BRIEF, Pace, Steady, slow_note, spread

PERIOD, STEP = 0.9, 1e-4  # seconds
RNG = partial(np.random.default_rng, 0)


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


def counted(timer: Callable[[int], float], calls: list[int]) -> Callable[[int], float]:
    """The timer; every call of it is noted."""

    def run(runs: int) -> float:
        calls.append(runs)
        return timer(runs)

    return run


WORK = {f"op {number}": seconds for number, seconds in enumerate(np.geomspace(2e-4, 2e-2, 12))}


def errors(found) -> np.ndarray:
    return np.array([min(found.times[name]) / (1000 * seconds) - 1 for name, seconds in WORK.items()])


def apart(found) -> float:
    """How far the repeats of one timer lie apart at most."""
    return max(max(times) / min(times) for times in found.times.values())


def slow_at_first(share: float) -> Callable[[float], bool]:
    """At full speed for a share of each period."""
    return lambda now: now % PERIOD >= (1 - share) * PERIOD


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_what_runs_while_the_machine_is_slow_does_not_count(share):
    machine = Machine(slow_at_first(share))
    found = Steady(Pace(machine.timer(5e-4)))(machine.timers(), 5, 0.005, np.random.default_rng(0))
    assert np.abs(errors(found)).max() < 0.02 and found.speed == 1
    assert apart(found) < 1.06  # none was slow
    if share == 0.25:
        plain = Steady(None)(Machine(slow_at_first(share)).timers(), 5, 0.005, np.random.default_rng(0))
        assert apart(plain) > 1.4


def test_what_never_runs_at_full_speed_is_scaled():
    machine = Machine(lambda now: now < 1.5)  # while it looks around
    found = Steady(Pace(machine.timer(5e-4)))(machine.timers(), 5, 0.005, np.random.default_rng(0))
    assert np.abs(errors(found)).max() < 0.02 and all(len(times) == 5 for times in found.times.values())
    assert list(found.speeds.values()) == pytest.approx([1 / 1.45] * len(WORK), rel=0.02)
    assert slow_note(1.0) == [] and "at 69% of its full speed" in slow_note(found.speed)[0]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.0])
def test_rounds_count_in_which_all_ran_at_full_speed(share):
    """Both of a pair, a large and a small network, whose times are compared round by round."""
    machine = Machine(slow_at_first(share) if share else (lambda now: now < 1.5))
    timers = {"full": machine.timer(4e-2), "small": machine.timer(2.8e-2)}
    found = Steady(Pace(machine.timer(5e-4))).rounds(timers, 15, 0.02, np.random.default_rng(0))
    full, small = (np.array(found.times[name]) for name in timers)
    assert len(full) == len(small) <= 15 and found.speed == pytest.approx(1.0 if share else 1 / 1.45, rel=0.02)
    assert len(full) >= (12 if share == 0.25 else 15)  # of four times as many rounds that were tried
    assert np.median(full) == pytest.approx(40, rel=0.02) and np.median(small / full) == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize("every", [3, 1])
def test_what_another_process_interrupts_does_not_count(every):
    """It takes the processor in the middle of a measurement, which no pace shows."""
    machine, computed, count = Machine(lambda now: True), [0.0], [0]

    def timer(work: float) -> Callable[[int], float]:
        def run(runs: int) -> float:
            start, own = machine.now, machine.timer(work)(runs)
            computed[0] += own
            count[0] += 1
            machine.now += 0.4 * own if count[0] % every == 0 else 0.0
            return machine.now - start

        return run

    pace = Pace(machine.timer(5e-4), (lambda: machine.now, lambda: computed[0]))
    timers = {name: timer(seconds) for name, seconds in WORK.items()}
    for measured in (Steady.__call__, Steady.rounds):
        found = measured(Steady(pace), timers if every > 1 else {"op 3": timers["op 3"]}, 5, 0.005, RNG())
        for name, times in found.times.items():
            assert min(times) == pytest.approx(1000 * WORK[name], rel=0.02)
        if every == 1:
            assert found.speed == pytest.approx(1 / 1.4, rel=0.02)


def test_full_speed_is_what_another_measurement_knew():
    """A machine that is slow for a whole measurement: milliseconds are those of the table before."""
    fast, slow = Machine(lambda now: True), Machine(lambda now: False)
    before, now = Pace(fast.timer(5e-4)), Pace(slow.timer(5e-4))
    Steady(before)(fast.timers(), 1, 0.005, np.random.default_rng(0))
    alone = Steady(now)(slow.timers(), 3, 0.005, np.random.default_rng(0))
    assert errors(alone).max() > 0.4 and alone.speed == 1  # it cannot know
    told = Steady(now.with_known(before.best)).rounds(slow.timers(), 3, 0.005, np.random.default_rng(0))
    assert np.abs(errors(told)).max() < 0.02 and told.speed == pytest.approx(1 / 1.45, rel=0.02)
    assert now.with_known(1.0).best == now.best  # a slower one than is seen here is not the full speed


def test_repeats_are_as_many_as_are_wanted():
    count = []

    def timer(runs: int) -> float:
        count.append(runs)
        return 0.01 * runs

    assert Steady(None)({"op": timer}, 3, 0.01, np.random.default_rng(0)).times == {"op": [pytest.approx(10)] * 3}
    assert len(count) == 2 + 3  # two warm-ups
    for measured in (Steady.__call__, Steady.rounds):
        count.clear()
        falling = iter(np.linspace(0.2, 0.1, 200))  # never as slow as before: hardly anything is within 5% of the best
        pace = Pace(lambda runs, falling=falling: next(falling))
        times = measured(Steady(pace), {"op": timer}, 3, 0.01, np.random.default_rng(0)).times["op"]
        assert len(count) <= 2 + 3 * MOST and 1 <= len(times) <= 3 * MOST


@pytest.mark.parametrize("measured", [Steady.__call__, Steady.rounds])
def test_what_is_brief_gives_up_earlier(measured):
    tried = []
    for brief in (False, True):
        machine, calls = Machine(lambda now: now < 0.4), []
        timers = {"op": counted(machine.timer(5e-3), calls)}
        assert measured(Steady(Pace(machine.timer(5e-4)), brief), timers, 5, 0.005, RNG()).speed < 0.75
        tried.append(len(calls) - 2)  # warm-ups
    assert tried == [5 * MOST, 5 * MOST_BRIEF]


@pytest.mark.parametrize("measured", [Steady.__call__, Steady.rounds])
def test_rounds_have_a_random_order_and_fill_the_clock(measured):
    calls = []

    def timer(name: str, seconds: float):
        def run(runs: int) -> float:
            calls.append((name, runs))
            return runs * seconds

        return run

    timers = {"fast": timer("fast", 1e-4), "slow": timer("slow", 0.02), "free": timer("free", 0.0)}
    found = measured(Steady(None), timers, 8, 0.01, np.random.default_rng(0)).times
    assert found["fast"] == pytest.approx([0.1] * 8) and found["slow"] == pytest.approx([20] * 8)
    rounds = [calls[i : i + 3] for i in range(6, len(calls), 3)]  # behind two warm-ups of each
    assert len(rounds) == 8 and all({name for name, _ in one} == set(timers) for one in rounds)
    assert len({tuple(name for name, _ in one) for one in rounds}) > 2
    assert {name: runs for one in rounds for name, runs in one} == {"fast": 100, "slow": 1, "free": MAX_RUNS}
    assert spread([1.0, 1.0, 1.0]) == 0 and spread([1.0, 2.0, 3.0]) == 0.5 and spread([0.0]) == 0
