"""From channel ids to the units of width groups: sides of layers, of tensors and of what modules hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from .channels import FIXED, Side
from .ids import CONSTANT


class Units:
    """Which unit of which group each channel id is.

    Args:
        component: Number of the component of every id, (ids,): ids of one live or die together.
        place: Component -> (group, unit); of one that always stays, none.
    """

    def __init__(self, component: np.ndarray, place: Mapping[int, tuple[int, int]]) -> None:
        self.component = component
        self._table = np.full((component.max() + 2, 2), [FIXED, 0], np.int64)  # the last row answers for constants (-1)
        if place:
            keys = np.fromiter(place, np.int64, len(place))
            self._table[keys] = np.array(list(place.values()), np.int64)
        self._sides: dict[int, Side] = {}

    def entries(self, ids: torch.Tensor) -> np.ndarray:
        """(group, unit) of every id, (*shape, 2)."""
        return self._table[components_of(ids, self.component)]

    def side(self, ids: torch.Tensor) -> Side:
        """Side of an id vector; vectors that are one tensor (a layer's output and all that pass it on) share it."""
        if id(ids) not in self._sides:
            self._sides[id(ids)] = _side(self.entries(ids.reshape(-1)))
        return self._sides[id(ids)]

    def side_along(self, ids: torch.Tensor, dim: int) -> Side:
        """Side of one dimension, at the first place of the others."""
        return _side(self.entries(ids.movedim(dim, 0).reshape(ids.shape[dim], -1)[:, 0]))

    def varying(self, ids: torch.Tensor) -> dict[int, Side]:
        """The dimensions of a tensor whose size follows widths, and their sides: of heads their number alone."""
        wide = [dim for dim, size in enumerate(ids.shape) if size > 1]
        if len(wide) == 1:
            side = self.side(ids)
            return {} if side.is_fixed else {wide[0]: side}
        sides = {dim: self.side_along(ids, dim) for dim in wide}
        return {dim: side for dim, side in sides.items() if _has_several_units(side)}

    def held(
        self, tensors: Mapping[tuple[str, str], torch.Tensor]
    ) -> tuple[dict[str, dict[str, tuple[int, Side]]], set[int]]:
        """Sides of the tensors that modules hold, and the groups that such a tensor does not hold along one dim."""
        held: dict[str, dict[str, tuple[int, Side]]] = {}
        crossed: set[int] = set()
        alone = np.append(np.bincount(self.component) == 1, False)  # elements nothing was tied to; last: constants
        for (module, name), ids in tensors.items():
            entries = self.entries(ids)
            found = set(np.unique(entries[..., 0]).tolist()) - {FIXED}
            if not found:
                continue
            untouched = alone[components_of(ids, self.component)]
            lines = {dim: _line(entries, untouched, dim) for dim in range(ids.dim())}
            fitting = [dim for dim, line in lines.items() if line is not None]
            if len(fitting) == 1:
                held.setdefault(module, {})[name] = (fitting[0], _side(lines[fitting[0]]))
            else:
                crossed |= found
        return held, crossed


def components_of(ids: torch.Tensor, component: np.ndarray) -> np.ndarray:
    """Component of each id, -1 for constants."""
    numbers = ids.numpy()
    return np.where(numbers == CONSTANT, -1, component[numbers])


def _has_several_units(side: Side) -> bool:
    return any(len(np.unique(side.unit[side.group == group])) > 1 for group in side.counts)


def _side(entries: np.ndarray) -> Side:
    return Side(entries[:, 0].copy(), entries[:, 1].copy())


def _line(entries: np.ndarray, untouched: np.ndarray, dim: int) -> np.ndarray | None:
    """(group, unit) along one dimension of a tensor (*shape, 2), None where it also varies along another.

    Elements that no op touched, such as rows of a table that no index names, may be of any channel.
    """
    rows = np.moveaxis(entries, dim, 0).reshape(entries.shape[dim], -1, 2)
    free = np.moveaxis(untouched, dim, 0).reshape(entries.shape[dim], -1)
    first = np.argmin(free, axis=1)  # the first element that counts, or the first one
    line = rows[np.arange(len(rows)), first]
    return line if ((rows == line[:, None]).all(-1) | free).all() else None
