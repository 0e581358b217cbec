"""Sums over the parts of a network, each of which depends on a few choices: one table look-up per part.

Shape letters: S subnets, D choices, P parts, M measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmrazor_lite.subnet import SearchSpace

Axis = str | tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Cell:
    """A part of a network and what it costs.

    Attributes:
        name: The module, such as ``backbone.layers.1.0``.
        choices: The axes of ``values``: names of the choices that it depends on; none for what is always the same. A
            tuple of names is one axis for several choices of which at most one matters, such as a width for each
            operator; it is as long as the longest of them.
        values: Costs, of shape (candidates of each of ``choices``..., M).
    """

    name: str
    choices: tuple[Axis, ...]
    values: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """All choices that it depends on."""
        return tuple(name for axis in self.choices for name in names_of(axis))


def names_of(axis: Axis) -> tuple[str, ...]:
    """The choices of one axis."""
    return (axis,) if isinstance(axis, str) else axis


def axis_size(space: SearchSpace, axis: Axis) -> int:
    """How long an axis of a cell is."""
    return max(len(space[name].candidates) for name in names_of(axis))


class CellTable:
    """What each part costs in a subnet.

    Args:
        space: The search space.
        cells: The parts; all of the same M.

    Raises:
        ValueError: An unknown choice, or values whose shape is not that of the choices.
    """

    def __init__(self, space: SearchSpace, cells: Sequence[Cell]) -> None:
        self.space, self.cells = space, tuple(cells)
        column = {name: index for index, name in enumerate(space)}
        strides, shared = np.zeros((len(space), len(self.cells))), set()
        for part, cell in enumerate(self.cells):
            unknown = next((name for name in cell.names if name not in column), None)
            if unknown is not None:
                raise ValueError(f"'{cell.name}' depends on '{unknown}', not a choice of the space")
            sizes = tuple(axis_size(space, axis) for axis in cell.choices)
            if cell.values.shape[:-1] != sizes:
                raise ValueError(f"'{cell.name}' has values of shape {cell.values.shape}, its choices {sizes}")
            for position, axis in enumerate(cell.choices):
                for name in names_of(axis):
                    strides[column[name], part] = math.prod(sizes[position + 1 :])
                shared |= set() if isinstance(axis, str) else {column[name] for name in axis}
        self.shared = frozenset(shared)  # choices that share an axis: those that do not matter must be at 0
        self.columns = np.flatnonzero(strides.any(1))  # choices that matter here
        self._strides = strides[self.columns]
        entries = [math.prod(cell.values.shape[:-1]) for cell in self.cells]
        self._offsets = np.cumsum([0, *entries[:-1]])[: len(entries)].astype(np.int64)
        flat = [cell.values.reshape(-1, cell.values.shape[-1]) for cell in self.cells]
        self._flat = np.concatenate(flat) if flat else np.zeros((0, 1))

    def __len__(self) -> int:
        return len(self.cells)

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        """Candidate ``indices`` (S, D) to the costs of each part (S, P, M)."""
        if self.shared:
            indices = self.space.canonical(indices)
        where = indices[:, self.columns] @ self._strides  # exact: far below 2**53, and faster than integers
        # Parts first in memory: sums and maxima over them are then sums and maxima of long lines.
        entries = (where.astype(np.int64) + self._offsets).T
        return self._flat.take(entries, axis=0).transpose(1, 0, 2)
