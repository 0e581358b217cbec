"""Whether ops run in steps of 8, 16 or 32 channels, so that widths in between cost time and gain nothing.

An op is measured at a few widths close to each other, with all channels on its other axis. Where rounding a width up to
a multiple takes next to no more time than the width itself, other widths do not pay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmrazor_lite.graph import OpCall
from mmrazor_lite.subnet import SearchSpace

STEPS = (8, 16, 32)
BESIDE = (0, 4, 8, 16, 32)  # channels above a multiple of 32 that an op is measured at
PAYS = 0.35  # rounding up costs at most so much of what as many more channels cost on the way to the full width
LONGER = 1.15  # times as long as the next multiple: numbers of channels beside the lanes of a kernel
COVERED = 0.8  # share of the time of all ops that is looked at


@dataclass(frozen=True)
class Stair:
    """An axis of an op, and the widths on it to be measured.

    Attributes:
        call: The op.
        axis: Number of its axis.
        low: The lowest width, a multiple of 32.
    """

    call: OpCall
    axis: int
    low: int

    def at(self, channels: int) -> tuple[int, ...]:
        """So many channels of this axis, all of the other."""
        return (*self.call.fulls[: self.axis], channels, *self.call.fulls[self.axis + 1 :])

    @property
    def points(self) -> list[tuple[int, ...]]:
        """Channels of all axes, of each measurement."""
        return [self.at(self.low + beside) for beside in BESIDE]

    def of_step(self, step: int, ms: Mapping[tuple[int, ...], float]) -> tuple[float, float]:
        """What rounding up to multiples of ``step`` costs here, and what so many more channels cost on a straight line.

        Args:
            ms: Channels of all axes -> milliseconds, of :attr:`points` and of all channels.
        """
        full = self.call.fulls[self.axis]
        per_channel = ms[self.at(full)] / full
        cost = straight = 0.0
        for beside in BESIDE:
            up = -(-beside // step) * step
            if up != beside:
                cost += ms[self.at(self.low + up)] - ms[self.at(self.low + beside)]
                straight += per_channel * (up - beside)
        return cost, straight


def lanes_of(stair: Stair, ms: Mapping[tuple[int, ...], float]) -> tuple[int, float]:
    """The number of channels of whose multiples an op is fast, and how many times longer other numbers take.

    Those between take longer than the next multiple itself; what takes as long as that has steps, and no lanes.

    Args:
        ms: Of the stair's points.
    """
    four, eight, *aligned = (ms[stair.at(stair.low + beside)] for beside in (4, 8, 0, 16, 32))
    line = np.maximum(np.interp([4, 8], [0, 16, 32], aligned), 1e-12)
    if eight > LONGER * aligned[1]:
        return 16, float(max(np.mean([four, eight] / line), 1.0))
    return (8, float(max(four / line[0], 1.0))) if four > LONGER * eight else (1, 1.0)


def stairs_of(call: OpCall) -> Iterator[Stair]:
    """The axes of an op that are wide enough, and that count the channels of one width."""
    for axis, (full, step, counted) in enumerate(zip(call.fulls, call.steps, call.axes, strict=True)):
        single = len(counted.terms) == 1 and not counted.constant and counted.terms[0][1] == counted.terms[0][2]
        low = (3 * full // 4) // 32 * 32
        if single and step == 1 and low >= 32 and low + 32 <= full:
            yield Stair(call, axis, low)


def heaviest(times: Mapping[str, float]) -> list[str]:
    """Keys of what takes longest, longest first, until most of the time is among them."""
    found, left = [], (1 - COVERED) * sum(times.values())
    rest = sum(times.values())
    for key in sorted(times, key=lambda key: -times[key]):
        if rest <= left:
            break
        found.append(key)
        rest -= times[key]
    return found


def paying_steps(
    space: SearchSpace,
    calls: Sequence[OpCall],
    stairs: Mapping[str, Sequence[Stair]],
    ms: Mapping[str, Mapping[tuple[int, ...], float]],
) -> dict[str, int]:
    """Width -> the largest step that pays; widths that may as well be any are not in it.

    A width is judged by the ops that read or make it, one that no measured op has by all of them.

    Args:
        space: The search space.
        calls: All ops.
        stairs: Of distinct ops, by their keys.
        ms: Of the same, what they take at their points.
    """
    own: dict[str, dict[int, list[float]]] = {name: {step: [0.0, 0.0] for step in STEPS} for name in space}
    every: dict[int, list[float]] = {step: [0.0, 0.0] for step in STEPS}
    for call in calls:
        for stair in stairs.get(call.key, ()):
            ((name, _, _),) = call.axes[stair.axis].terms
            for step in STEPS:
                cost, straight = stair.of_step(step, ms[call.key])
                for sums in (own[name][step], every[step]):
                    sums[0] += cost
                    sums[1] += straight
    found = {}
    for name, choice in space.items():
        judged = own[name] if own[name][STEPS[0]][1] else every
        paying = [step for step in STEPS if _pays(*judged[step]) and 2 * step <= choice.candidates[-1]]
        if paying:
            found[name] = paying[-1]
    return found


def _pays(cost: float, straight: float) -> bool:
    return straight > 0 and cost <= PAYS * straight
