"""What a search asks about costs: the interface between the searchers and every cost model.

Shapes: n rows, D choices; see :mod:`mmrazor_lite.subnet.space` for what a row is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mmrazor_lite.subnet.choice import plain_scalar

MEASURED = "latency"  # the one resource that is not counted: it may fall as a width grows


@runtime_checkable
class Cost(Protocol):
    """Costs of subnets by resource, and what the space reaches in each: counts and bytes, milliseconds for latency."""

    def __call__(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        """(n, D) rows to what each of them costs: resource -> (n,) array."""

    def of(self, subnet: Mapping[str, Any]) -> dict[str, int | float]:
        """Costs of one subnet as plain numbers."""

    def extreme_row(self, resource: str, largest: bool) -> np.ndarray:
        """A canonical row (D,) of the largest, or smallest, cost in one resource."""

    def extreme(self, resource: str, largest: bool) -> int | float:
        """What that row costs."""

    def max(self) -> dict[str, int | float]:
        """What the largest subnet costs in each resource, which shares of a budget are of.

        It is the largest cost of any; but for milliseconds, where others may take longer than what is widest.
        """

    def min(self) -> dict[str, int | float]:
        """The smallest cost of any subnet, in each resource."""

    @property
    def fingerprint(self) -> str:
        """Of the network: tells networks apart that have one space, such as those of two widths."""


def costs_of(cost: Cost, row: np.ndarray) -> dict[str, int | float]:
    """Costs of one row (D,) as plain numbers."""
    return {str(name): plain_scalar(np.asarray(values)[0]) for name, values in cost(row[None]).items()}
