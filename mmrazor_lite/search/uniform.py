"""Uniform scaling: the control that a search of widths has to beat.

Shapes: R ratios, D choices.
"""

from __future__ import annotations

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.search.cost import Cost
from mmrazor_lite.subnet import SearchSpace, Subnet

STEPS = 1000


def uniform_subnet(space: SearchSpace, cost: Cost, resource: str, limit: float) -> Subnet:
    """Return the subnet with one ratio of the full width in every layer that is closest to a limit from below.

    Args:
        space: of widths; every choice takes its candidate nearest to the ratio, so candidates should be fine.
        cost: what rows cost.
        resource: what is limited, such as ``'macs'``.
        limit: unscaled.

    Raises:
        UserError: Even the smallest ratio is above the limit.
    """
    columns = []
    for choice in space.values():
        widths = np.asarray(choice.candidates)
        ratios = np.arange(1, STEPS + 1) / STEPS
        columns.append(np.abs(widths[None, :] - ratios[:, None] * widths[-1]).argmin(axis=1))
    rows = np.stack(columns, axis=1)
    costs = np.asarray(cost(rows)[resource])
    within = np.flatnonzero(costs <= limit)
    if not len(within):
        raise UserError(f"uniform scaling: no ratio has {limit:,.12g} {resource} or less, the least is {costs.min():,}")
    return space.subnet(rows[within[costs[within].argmax()]])
