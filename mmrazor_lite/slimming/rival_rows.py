"""Different ways to spend one budget: rows to try in earnest, since curves of single groups do not tell all.

Shape letters: D choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.importance import Ranking
from mmrazor_lite.models.importance.definition import Widths as Network
from mmrazor_lite.search.cost import Cost
from mmrazor_lite.subnet import SearchSpace

from .allocation import Curves, allocate, uniform


def candidates(
    curves: Curves,
    rankings: Mapping[str, Ranking],
    cost: Cost,
    space: SearchSpace,
    limits: Mapping[str, float],
    divisor: int | str = "auto",
    least: Mapping[str, int] | None = None,
    streams: frozenset[str] | set[str] = frozenset(),
) -> dict[str, np.ndarray]:
    """Rows (D,) within all limits by how they came about, different ones only, the most promising first.

    'measured': by the curves. 'streams kept': by the curves, with the groups ``streams`` at full width, where that can
    meet the limits. 'global': by the rankings' own errors, of all groups alike. 'uniform': every group the same share.

    Args:
        curves: Measured ones, see :func:`sensitivity`.
        rankings: See ``rank``.
        cost, space, limits, divisor, least: See :func:`allocate`.
        streams: See :func:`streams_of`.

    Raises:
        UserError: As :func:`allocate`.
    """
    found = {"measured": allocate(curves, cost, space, limits, divisor, least)}
    least = dict(least or {})
    whole = {name: space[name].candidates[-1] for name in space if name in streams}
    if whole:
        kept = {**whole, **{pattern: value for pattern, value in least.items() if pattern not in whole}}
        with suppress(UserError):  # what is left may not reach the limits
            found["streams kept"] = allocate(curves, cost, space, limits, divisor, kept)
    plain = {name: ranking.errors for name, ranking in rankings.items()}
    found["global"] = allocate(plain, cost, space, limits, divisor, least)
    found["uniform"] = uniform(curves, cost, space, limits, divisor, least)
    different: dict[str, np.ndarray] = {}
    for name, row in found.items():
        if not any(np.array_equal(row, other) for other in different.values()):
            different[name] = row
    return different


def streams_of(network: Network) -> frozenset[str]:
    """Groups that several layers make and several read, such as residual streams: narrow ones hurt all that follows."""
    makers = {name: set() for name in network.unit_counts}
    readers = {name: set() for name in network.unit_counts}
    for member in network.members:
        if member.kind is None or not member.kind.makes_channels or member.tensor.dim() < 2:
            continue
        grouped = member.kind.is_grouped(network.architecture.get_submodule(member.layer))
        for index, name in enumerate(network.unit_counts):
            if index in member.side.counts and not grouped:
                (makers if member.role == "outputs" else readers)[name].add(member.layer)
    return frozenset(name for name in makers if min(len(makers[name]), len(readers[name])) > 1)
