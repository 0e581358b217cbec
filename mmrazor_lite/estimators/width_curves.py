"""Milliseconds of ops by the channels that they read and make: curves measured at some widths, added up over a network.

Shapes: S subnets, D choices, A different sums of widths, P pairs of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.graph import ChannelSum
from mmrazor_lite.search.extremes import settled
from mmrazor_lite.subnet import SearchSpace

MOST = 2**25  # entries of the look-ups of one table
CHUNK = 4096  # subnets at a time: keeps the temporaries in cache
ONE = ChannelSum(1)  # the second axis of an op that has one


@dataclass(frozen=True, eq=False)
class Curve:
    """What an op takes by the channels of its one or two axes; linear between the widths that were measured.

    It never falls as a width grows: a network would not use a width that takes longer than a larger one. But for lanes:
    some kernels, of depthwise convolutions above all, and whole runtimes are fast at multiples of 8 or 16 channels.

    Attributes:
        what: The op in words.
        widths: Of each axis the channels that were measured, ascending.
        ms: Milliseconds, (widths of the first axis, of the second); of multiples of ``lanes``.
        lanes, beside: Numbers of channels of the first axis, the one that is read, which are no multiple of ``lanes``
            take ``beside`` times as long.
    """

    what: str
    widths: tuple[np.ndarray, ...]
    ms: np.ndarray
    lanes: int = 1
    beside: float = 1.0

    def __call__(self, *channels: np.ndarray) -> np.ndarray:
        """Milliseconds (S,) at so many channels (S,) of each axis; beyond the ends as at them."""
        return self.straight(*channels) * np.where(np.asarray(channels[0]) % self.lanes, self.beside, 1.0)

    def straight(self, *channels: np.ndarray) -> np.ndarray:
        """The same as if all channels were multiples of the lanes."""
        grids = [*self.widths, np.array([1])][:2]
        values = self.ms.reshape([len(grid) for grid in grids])
        (low, share), (other, rest) = (
            place(grid, np.asarray(n)) for grid, n in zip(grids, [*channels, np.ones(1)][:2], strict=True)
        )
        high, top = np.minimum(low + 1, len(grids[0]) - 1), np.minimum(other + 1, len(grids[1]) - 1)
        lower = values[low, other] * (1 - share) + values[high, other] * share
        upper = values[low, top] * (1 - share) + values[high, top] * share
        return lower * (1 - rest) + upper * rest


@dataclass(frozen=True)
class Priced:
    """An op of a network: its name, the number of its curve, and what each of its axes counts."""

    name: str
    curve: int
    axes: tuple[ChannelSum, ...]


class WidthCurves:
    """What the ops of a network take whose sizes follow widths.

    Args:
        space: The search space; its widths are the names in the axes.
        curves: What ops take.
        calls: The ops.
        where: The beginning of errors.

    Raises:
        UserError: An unknown width, a number of channels that no width of the space gives, or a curve that is unknown
            or has other axes.
    """

    def __init__(
        self, space: SearchSpace, curves: Sequence[Curve], calls: Sequence[Priced], where: str = "latency table"
    ) -> None:
        self.space, self.curves, self.calls = space, tuple(curves), tuple(calls)
        _check(space, self.curves, self.calls, where)
        axes = list(dict.fromkeys(axis for call in self.calls for axis in _two(call.axes)))
        place_of = {axis: index for index, axis in enumerate(axes)}
        columns = {name: index for index, name in enumerate(space)}
        self._per, self._units = np.zeros((len(space), len(axes))), np.ones(len(space))
        for axis in axes:
            for name, per, unit in axis.terms:
                self._units[columns[name]] = unit
                self._per[columns[name], place_of[axis]] = per
        self._constant = np.array([axis.constant for axis in axes], np.float64)
        knots = self._knots(axes)
        full = np.array([choice.candidates[-1] for choice in space.values()], np.float64)
        most = (full // self._units) @ self._per + self._constant if axes else np.zeros(0)
        if sum(most) > MOST:
            raise UserError(f"{where}: its ops count {sum(most):.3g} channels, more than any network has ({MOST})")
        places = [place(grid, np.arange(int(top) + 1)) for grid, top in zip(knots, most, strict=True)]
        starts = np.cumsum([0, *(len(found) for found, _ in places)])
        self._starts, self._most = starts[:-1].astype(np.int64), most.astype(np.int64)
        self._low = np.concatenate([found for found, _ in places] or [np.zeros(0, np.int64)])
        self._share = np.concatenate([share for _, share in places] or [np.zeros(0)])
        self._lay_out(knots, place_of)

    def _knots(self, axes: Sequence[ChannelSum]) -> list[np.ndarray]:
        """Of every axis the widths at which any curve over it bends."""
        found: dict[ChannelSum, list[np.ndarray]] = {axis: [np.array([1])] if axis == ONE else [] for axis in axes}
        for call in self.calls:
            for axis, widths in zip(call.axes, self.curves[call.curve].widths, strict=True):
                found[axis].append(widths)
        return [np.unique(np.concatenate(lists)) for lists in found.values()]

    def _lay_out(self, knots: list[np.ndarray], place_of: Mapping[ChannelSum, int]) -> None:
        """Add up the curves over one pair of axes, on all widths at which one of them bends."""
        sums: dict[tuple[int, int, int], np.ndarray] = {}  # by axes, and by lanes that channels are no multiple of
        for call in self.calls:
            first, second = (place_of[axis] for axis in _two(call.axes))
            if len(knots[first]) * len(knots[second]) > MOST:
                raise UserError(f"the curve of '{call.name}' has more widths than can be measured; measure it again")
            grids = np.meshgrid(knots[first], knots[second], indexing="ij")
            curve = self.curves[call.curve]
            values = curve.straight(*(grid.ravel() for grid in grids[: len(call.axes)])).reshape(grids[0].shape)
            sums[first, second, 1] = sums.get((first, second, 1), 0.0) + values
            if curve.lanes > 1:
                more = (curve.beside - 1) * values
                sums[first, second, curve.lanes] = sums.get((first, second, curve.lanes), 0.0) + more
        sizes = [grid.size for grid in sums.values()]
        keys = np.array(list(sums), np.int64).reshape(-1, 3)
        self._pairs, self._lanes = keys[:, :2], keys[:, 2]
        self._offsets = np.cumsum([0, *sizes])[:-1].astype(np.int64)
        self._lines = np.array([grid.shape[1] for grid in sums.values()], np.int64)
        self._values = np.concatenate([grid.ravel() for grid in sums.values()] or [np.zeros(0)])
        # The last knot of an axis has none above it; its share is 0, so the entry that is read does not count.
        self._last = max(len(self._values) - 1, 0)

    @property
    def names(self) -> frozenset[str]:
        """The choices that it depends on."""
        return frozenset(name for call in self.calls for axis in call.axes for name, _, _ in axis.terms)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Milliseconds (S,) of candidate indices (S, D)."""
        rows = np.atleast_2d(np.asarray(rows))
        found = [self.of_widths(self.space.numeric(rows[at : at + CHUNK])) for at in range(0, len(rows), CHUNK)]
        return np.concatenate(found) if found else np.zeros(0)

    def extreme_row(self, row: np.ndarray, largest: bool) -> np.ndarray:
        """A row (D,) with the widths that take most, or least, in the place of its own, see :func:`settled`.

        An op takes less at more channels only where they become a multiple of its lanes. So of the widths that leave
        one rest, the last takes most and the first takes least, whatever the others are.
        """
        names, options, ends, whole = self.names, [np.arange(0)] * len(row), row.copy(), row.copy()
        lanes = math.lcm(*(self.curves[call.curve].lanes for call in self.calls))
        for column, (name, choice) in enumerate(self.space.items()):
            if name in names:
                units = np.asarray(choice.candidates) // int(self._units[column])
                rests = units % min(lanes, int(units[-1]) + 1)
                _, first = np.unique(rests[::-1] if largest else rests, return_index=True)
                options[column] = found = len(rests) - 1 - first if largest else first
                ends[column] = len(rests) - 1 if largest else 0
                whole[column] = found[0] if rests[found[0]] == 0 else ends[column]  # a multiple of all lanes
        return settled(np.stack([ends, whole]), options, self, largest)

    def of_widths(self, widths: np.ndarray) -> np.ndarray:
        """Milliseconds (S,) of widths (S, D) in channels, whether they are candidates or not."""
        if not self.calls:
            return np.zeros(len(widths))
        channels = (np.asarray(widths, np.float64) // self._units) @ self._per + self._constant
        channels = np.minimum(channels.astype(np.int64), self._most)
        entries = channels + self._starts
        low, share = self._low[entries], self._share[entries]
        first, second = self._pairs.T
        at = self._offsets + low[:, first] * self._lines + low[:, second]
        along, across = share[:, first], share[:, second]
        below, above = (
            self._values[at] * (1 - across) + self._values[np.minimum(at + 1, self._last)] * across,
            self._values[np.minimum(at + self._lines, self._last)] * (1 - across)
            + self._values[np.minimum(at + self._lines + 1, self._last)] * across,
        )
        counts = (self._lanes == 1) | (channels[:, first] % self._lanes != 0)
        return ((below * (1 - along) + above * along) * counts).sum(1)

    def of(self, subnet: Mapping[str, Any]) -> float:
        """Milliseconds of one subnet, of any widths."""
        return float(self.of_widths(np.array([[subnet[name] for name in self.space]], np.float64))[0])


def place(grid: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entry of an ascending grid below each number, and how far the number is on the way to the next one."""
    at = np.clip(at, grid[0], grid[-1])
    low = np.searchsorted(grid, at, side="right") - 1
    gap = np.append(np.diff(grid), 1)[low]
    return low, (at - grid[low]) / gap


def never_falling(ms: np.ndarray) -> np.ndarray:
    """Times on a grid so that none falls as a width grows: half way between the least that was measured above and the
    most below."""
    for axis in range(ms.ndim):
        most = np.maximum.accumulate(ms, axis)
        least = np.flip(np.minimum.accumulate(np.flip(ms, axis), axis), axis)
        ms = (most + least) / 2
    return ms


def _two(axes: tuple[ChannelSum, ...]) -> tuple[ChannelSum, ChannelSum]:
    return (axes[0], axes[1]) if len(axes) == 2 else (axes[0], ONE)


def _check(space: SearchSpace, curves: Sequence[Curve], calls: Sequence[Priced], where: str) -> None:
    units: dict[str, int] = {}
    for call in calls:
        here = f"{where}: '{call.name}'"
        if not 0 <= call.curve < len(curves):
            raise UserError(f"{here} names curve {call.curve}, of {len(curves)}; measure the table again")
        if len(call.axes) != len(curves[call.curve].widths):
            raise UserError(f"{here} has {len(call.axes)} axes, its curve {len(curves[call.curve].widths)}")
        for name, _, unit in (term for axis in call.axes for term in axis.terms):
            if name not in space:
                raise UserError(f"{here} depends on the unknown choice '{name}'{nearest(name, space)}")
            if space[name].kind != "width" or space[name].candidates[-1] % unit:
                raise UserError(f"{here}: '{name}' is no width in units of {unit}")
            if units.setdefault(name, unit) != unit:
                raise UserError(f"{here} has '{name}' in units of {unit}, another op in units of {units[name]}")
        for axis, widths in zip(call.axes, curves[call.curve].widths, strict=True):
            full = axis.at({name: space[name].candidates[-1] for name, _, _ in axis.terms})
            if widths[-1] < full:
                raise UserError(f"{here} has up to {full} channels, its curve ends at {widths[-1]}: measure it again")
