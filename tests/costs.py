"""A whole cost model of a function of rows, for tests of what asks one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mmrazor_lite.search.cost import costs_of
from mmrazor_lite.search.within_limits import ENUMERATED, _all_rows
from mmrazor_lite.subnet import SearchSpace


class CostOfRows:
    """Costs by ``function``: rows (n, D) to resource -> (n,).

    Its ends are those of all subnets of a small space. In a larger one each choice is settled on its own: exact where
    the costs of the choices just add up.
    """

    fingerprint = "sha256:of rows"

    def __init__(self, space: SearchSpace, function: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> None:
        self.space, self.function = space, function

    def __call__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.asarray(values) for name, values in self.function(rows).items()}

    def of(self, subnet: Mapping) -> dict[str, int | float]:
        return costs_of(self, self.space.index(subnet))

    def extreme_row(self, resource: str, largest: bool) -> np.ndarray:
        sign = 1 if largest else -1
        if self.space.size <= ENUMERATED:
            rows = _all_rows(self.space)
            return rows[(sign * self(rows)[resource]).argmax()]
        row = self.space.index(self.space.max())
        for column, choice in enumerate(self.space.values()):
            rows = np.repeat(row[None], len(choice.candidates), axis=0)
            rows[:, column] = np.arange(len(rows))
            row = rows[(sign * self(self.space.canonical(rows))[resource]).argmax()]
        return self.space.canonical(row[None])[0]

    def extreme(self, resource: str, largest: bool) -> int | float:
        return costs_of(self, self.extreme_row(resource, largest))[resource]

    def max(self) -> dict[str, int | float]:
        return {name: self.extreme(name, True) for name in self(self.space.index(self.space.max())[None])}

    def min(self) -> dict[str, int | float]:
        return {name: self.extreme(name, False) for name in self(self.space.index(self.space.max())[None])}
