"""The subnet of the largest, or smallest, sum over the parts of a network; exact, without trying all subnets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmrazor_lite.subnet import SearchSpace

from .cells import Axis, Cell, axis_size, names_of


def extreme_row(space: SearchSpace, parts: Sequence[Cell], largest: bool) -> np.ndarray:
    """The canonical row (D,) whose sum over the first measure of ``parts`` is largest, or smallest.

    Choices are settled one after the other, each by a table of the best over those that meet it in a part, and are
    read from these tables backwards.

    Args:
        space: The search space.
        parts: With entries of 0 where a part does not run; each choice that shares an axis is in that axis alone.
        largest: Which of the two.
    """
    worst = -math.inf if largest else math.inf
    left = [(part.choices, np.where(reachable(space, part), part.values[..., 0], worst)) for part in parts]
    axes = dict.fromkeys(axis for choices, _ in left for axis in choices)
    sizes = {axis: axis_size(space, axis) for axis in axes}
    settled: list[tuple[Axis, list[Axis], np.ndarray]] = []

    def together(axis: Axis) -> list[Axis]:
        return list(dict.fromkeys(other for choices, _ in left if axis in choices for other in choices))

    while axes:
        axis = min(axes, key=lambda axis: math.prod(sizes[other] for other in together(axis)))
        meets = together(axis)
        total = sum(aligned(choices, values, meets) for choices, values in left if axis in choices)
        at = meets.index(axis)
        others = [other for other in meets if other != axis]
        settled.append((axis, others, total.argmax(at) if largest else total.argmin(at)))
        left = [part for part in left if axis not in part[0]]
        left.append((tuple(others), total.max(at) if largest else total.min(at)))
        del axes[axis]
    found: dict[Axis, int] = {}
    for axis, others, best in reversed(settled):
        found[axis] = int(best[tuple(found[other] for other in others)])
    column = {name: index for index, name in enumerate(space)}
    row = np.zeros(len(space), np.int64)
    for axis, index in found.items():
        for name in names_of(axis):  # of a shared axis, canonical() keeps the one that matters
            row[column[name]] = min(index, len(space[name].candidates) - 1)
    return space.canonical(row[None])[0]


def reachable(space: SearchSpace, cell: Cell) -> np.ndarray:
    """Which entries of a part can be looked up, (candidates of each axis...): none past the end of a shared axis."""
    found = np.ones(cell.values.shape[:-1], dtype=bool)
    for position, axis in enumerate(cell.choices):
        if isinstance(axis, str):
            continue
        parent = space[axis[0]].active_if[0]
        valid = np.zeros((len(space[parent].candidates), found.shape[position]), dtype=bool)
        valid[:, 0] = True  # a candidate without a choice of its own looks up the first one
        for name in axis:
            for value in space[name].active_if[1]:
                valid[space[parent].candidates.index(value), : len(space[name].candidates)] = True
        found &= aligned((parent, axis), valid, cell.choices)
    return found


def aligned(choices: Sequence[Axis], values: np.ndarray, names: Sequence[Axis]) -> np.ndarray:
    """``values`` over ``choices`` as an array that has an axis for each of ``names``, which hold them all."""
    ordered = sorted(choices, key=names.index)
    values = values.transpose([list(choices).index(choice) for choice in ordered])
    sizes = iter(values.shape)
    return values.reshape([next(sizes) if name in choices else 1 for name in names])
