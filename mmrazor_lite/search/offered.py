"""The widths that a search may choose from: a small space inside the one that has every width.

Shapes: n rows, D choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmrazor_lite.search.cost import Cost
from mmrazor_lite.search.extremes import extreme_of
from mmrazor_lite.subnet import Choice, SearchSpace


class OfferedCost:
    """What rows of a space cost that offers some of the candidates of another one; a :class:`Cost`.

    Args:
        space: Has the same choices with fewer candidates.
        cost: Of the rows of ``every``.
        every: The space that has all candidates.
    """

    def __init__(self, space: SearchSpace, cost: Cost, every: SearchSpace) -> None:
        self._cost = cost
        deep = max(len(choice.candidates) for choice in space.values())
        self._places = np.zeros((len(space), deep), np.int64)
        self._offered = []
        for line, (name, choice) in zip(self._places, space.items(), strict=True):
            line[: len(choice.candidates)] = [every[name].index(value) for value in choice.candidates]
            self._offered.append(line[: len(choice.candidates)])
        self._full = np.array([len(line) - 1 for line in self._offered])

    def __call__(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        """(n, D) rows to what each of them costs."""
        return self._cost(self.whole(rows))

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) as those of the space that has all candidates."""
        return self._places[np.arange(len(self._places)), rows]

    def of(self, subnet: Mapping[str, Any]) -> dict[str, int | float]:
        """Costs of one subnet."""
        return self._cost.of(subnet)

    def extreme_row(self, resource: str, largest: bool) -> np.ndarray:
        """The row (D,) of the largest, or smallest, cost, see :func:`extreme_of`."""
        row = extreme_of(self._cost, resource, largest, self._offered)
        return np.array([np.searchsorted(line, at) for line, at in zip(self._offered, row, strict=True)])

    def extreme(self, resource: str, largest: bool) -> int | float:
        """What that row costs."""
        return self(self.extreme_row(resource, largest)[None])[resource][0].item()

    def max(self) -> dict[str, int | float]:
        """What all largest widths cost in each resource."""
        return {name: values[0].item() for name, values in self(self._full[None]).items()}

    def min(self) -> dict[str, int | float]:
        """The smallest cost in each resource."""
        return {name: self.extreme(name, False) for name in self.max()}

    @property
    def fingerprint(self) -> str:
        """Of the network."""
        return self._cost.fingerprint


def offered(every: SearchSpace, indices: Sequence[np.ndarray]) -> SearchSpace:
    """The space of those candidates of each choice, by their indices; its subnets are of ``every`` too."""
    choices = [
        Choice(name, tuple(choice.candidates[i] for i in found.tolist()))
        for (name, choice), found in zip(every.items(), indices, strict=True)
    ]
    return SearchSpace(choices, every.layers)


def that_pay(every: SearchSpace, steps: Mapping[str, int]) -> list[np.ndarray]:
    """Indices of the candidates of each choice that pay.

    Widths take as long as the next multiple of their step. So of all that go up to one multiple the largest pays.

    Args:
        every: A space of widths.
        steps: Width -> its step; any width pays of those that are not in it.
    """
    found = []
    for name, choice in every.items():
        up = -(-np.asarray(choice.candidates, np.int64) // steps.get(name, 1))
        found.append(np.flatnonzero(np.append(up[:-1] != up[1:], True)))
    return found
