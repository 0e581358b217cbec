"""Sums over the parts of a network, each of which depends on a few choices: one table look-up per part.

Shape letters: S subnets, D choices, P parts, M measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmrazor_lite.subnet import SearchSpace


@dataclass(frozen=True, eq=False)
class Cell:
    """A part of a network and what it costs.

    Attributes:
        name: The module, such as ``backbone.layers.1.0``.
        choices: Names of the choices that it depends on; none for what is always the same.
        values: Costs, of shape (candidates of each of ``choices``..., M).
    """

    name: str
    choices: tuple[str, ...]
    values: np.ndarray


class CellTable:
    """What each part costs in a subnet.

    Args:
        space: The search space.
        cells: The parts; all of the same M.

    Raises:
        ValueError: Values whose shape is not that of the choices.
    """

    def __init__(self, space: SearchSpace, cells: Sequence[Cell]) -> None:
        self.space, self.cells = space, tuple(cells)
        names, choices = list(space), list(space.values())
        strides = np.zeros((len(space), len(self.cells)))
        for part, cell in enumerate(self.cells):
            columns = [names.index(name) for name in cell.choices]
            sizes = tuple(len(choices[column].candidates) for column in columns)
            if cell.values.shape[:-1] != sizes:
                raise ValueError(f"'{cell.name}' has values of shape {cell.values.shape}, its choices {sizes}")
            for position, column in enumerate(columns):
                strides[column, part] = math.prod(sizes[position + 1 :])
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
        where = indices[:, self.columns] @ self._strides  # exact: far below 2**53, and faster than integers
        return self._flat[where.astype(np.int64) + self._offsets]
