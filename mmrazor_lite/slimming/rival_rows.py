"""Different ways to spend one budget: rows to try in earnest, since curves of single groups do not tell all.

Shape letters: D choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from functools import partial

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.importance import Ranking
from mmrazor_lite.models.importance.definition import Widths as Network
from mmrazor_lite.search.cost import Cost
from mmrazor_lite.subnet import SearchSpace

from .allocation import Curves, Divisor, allocate, uniform

STREAMS, UNIFORM = "streams kept", "uniform"


def candidates(
    curves: Curves,
    rankings: Mapping[str, Ranking],
    cost: Cost,
    space: SearchSpace,
    limits: Mapping[str, float],
    divisor: Divisor = "auto",
    least: Mapping[str, int] | None = None,
    streams: frozenset[str] | set[str] = frozenset(),
    only: str | None = None,
) -> dict[str, np.ndarray]:
    """Rows (D,) within all limits by how they came about, different ones only, the most promising first.

    'measured': by the curves. 'streams kept': by the curves, with the groups ``streams`` at full width, where that can
    meet the limits. 'global': by the rankings' own errors, of all groups alike. 'uniform': every group the same share,
    where that can.

    Args:
        curves: Measured ones, see :func:`sensitivity`.
        rankings: See ``rank``.
        cost, space, limits, divisor, least: See :func:`allocate`.
        streams: See :func:`streams_of`.
        only: The one of them that is wanted.

    Raises:
        UserError: As :func:`allocate`.
    """
    within, least = (cost, space, limits, divisor), dict(least or {})
    ways = {"measured": partial(allocate, curves, *within, least)}
    whole = {name: space[name].candidates[-1] for name in space if name in streams}
    if whole:
        kept = {**whole, **{pattern: value for pattern, value in least.items() if pattern not in whole}}
        ways[STREAMS] = partial(allocate, curves, *within, kept)
    plain = {name: ranking.errors for name, ranking in rankings.items()}
    ways["global"] = partial(allocate, plain, *within, least)
    ways[UNIFORM] = partial(uniform, curves, *within, least)
    different: dict[str, np.ndarray] = {}
    for name in ways if only is None else [only]:
        with suppress(UserError) if name in (STREAMS, UNIFORM) else nullcontext():  # may not reach the limits
            row = ways[name]()
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
