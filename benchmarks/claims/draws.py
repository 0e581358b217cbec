"""Subnets of a space that are drawn with limits of cost.

Shapes: n rows, D choices.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np


def within(space: Any, cost: Any, resource: str, low: float, high: float, number: int, seed: int) -> list[Any]:
    """Return ``number`` different random subnets that cost ``low`` to ``high``: a pure function of the arguments.

    Raises:
        ValueError: There are not so many.
    """
    from mmrazor_lite.search.within_limits import LegalRows

    none = np.empty((0, len(space)), dtype=np.int64)
    legal = LegalRows(space, cost, [(resource, low, high)])
    found = legal.draw(np.random.default_rng(seed), number, set(), none)
    if len(found) < number:
        raise ValueError(f"{len(found)} of {number} subnets have {low:,.0f} to {high:,.0f} {resource}")
    return [space.subnet(row) for row in found]


def over_range(space: Any, cost: Any, resource: str, number: int, seed: int) -> list[Any]:
    """Return one random subnet in each of ``number`` equal parts of what the space can cost, the cheapest first."""
    low, high = cost.extreme(resource, largest=False), cost.extreme(resource, largest=True)
    edges = np.linspace(low, high, number + 1)
    drawn = (within(space, cost, resource, a, b, 1, seed) for a, b in itertools.pairwise(edges))
    return [subnet for part in drawn for subnet in part]


def spread_first(number: int, first: int) -> list[int]:
    """An order of 0 .. number - 1 in which the ``first`` ones are spread evenly, and the rest follows in order."""
    chosen = sorted({round((index + 0.5) * number / first - 0.5) for index in range(first)})
    return chosen + [index for index in range(number) if index not in chosen]


def dealt(number: int, seeds: Sequence[int], seed: int) -> list[int]:
    """Which of 0 .. number - 1 are trained with a seed, where each is trained once and the seeds are dealt in turns."""
    return list(range(seeds.index(seed), number, len(seeds)))
