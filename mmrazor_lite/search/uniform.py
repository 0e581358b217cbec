"""Uniform scaling: the control that a search of widths has to beat.

Shapes: R ratios, n rows, D choices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.search.cost import Cost
from mmrazor_lite.subnet import SearchSpace, Subnet

STEPS = 1000
SWAPS = 50  # most exchanges of a rounding up for another one


def uniform_subnet(space: SearchSpace, cost: Cost, resource: str, limit: float) -> Subnet:
    """Return a subnet of the space with one ratio of the full width in every layer, as close to a limit as it can be.

    The largest ratio within the limit comes first, each width rounded to its nearest candidate. Then single widths are
    rounded up by one candidate while that stays within the limit, those that cost most first, and one of these is
    exchanged for another where that comes closer. So no width is more than one candidate off the ratio, and coarse
    units, such as whole heads, leave little of the limit unused.

    Args:
        space: Its widths follow the ratio; other choices stay at their last candidate.
        cost: What rows cost.
        resource: What is limited, such as ``'macs'``.
        limit: Unscaled.

    Raises:
        UserError: There is no width to choose, or even the smallest ratio is above the limit.
    """
    widths = [column for column, choice in enumerate(space.values()) if choice.kind == "width"]
    if not widths:
        raise UserError("uniform scaling is of widths, and the search space has none")

    def costs(rows: np.ndarray) -> np.ndarray:
        return np.asarray(cost(space.canonical(rows))[resource], dtype=np.float64)

    rows = _ratios(space, widths)
    found = costs(rows)
    within = np.flatnonzero(found <= limit)
    if not len(within):
        raise UserError(
            f"uniform scaling: no ratio has {limit:,.12g} {resource} or less, the least is {found.min():,.12g}"
        )
    start = rows[within[found[within].argmax()]]
    sizes = np.array([len(choice.candidates) for choice in space.values()])
    free = np.array([column for column in widths if start[column] + 1 < sizes[column]], dtype=np.int64)
    up = np.zeros(len(free), dtype=bool)  # which of them are rounded up

    def options(flips: np.ndarray) -> np.ndarray:
        """What it costs to change each row of ``flips`` (n, free) in ``up``; minus infinity above the limit."""
        tried = np.repeat(start[None], len(flips), axis=0)
        tried[:, free] += up ^ flips
        value = costs(tried)
        return np.where(value <= limit, value, -np.inf)

    if len(free):
        single = np.eye(len(free), dtype=bool)
        _settle(up, options, lambda: single[~up])
        _settle(up, options, lambda: (single[~up][:, None] | single[up][None]).reshape(-1, len(free)), SWAPS)
        _settle(up, options, lambda: single[~up])
        start[free] += up
    return space.subnet(space.canonical(start[None])[0])


def _ratios(space: SearchSpace, widths: list[int]) -> np.ndarray:
    """The rows (R, D) of all ratios."""
    rows = np.repeat(space.index(space.max())[None], STEPS, axis=0)
    ratios = np.arange(1, STEPS + 1) / STEPS
    choices = list(space.values())
    for column in widths:
        candidates = np.asarray(choices[column].candidates)
        rows[:, column] = np.abs(candidates[None, :] - ratios[:, None] * candidates[-1]).argmin(axis=1)
    return rows


def _settle(
    up: np.ndarray,
    options: Callable[[np.ndarray], np.ndarray],
    changes: Callable[[], np.ndarray],
    most: int | None = None,
) -> None:
    """Make the best of the changes, time after time, while it comes closer to the limit; ``up`` is changed in place."""
    now = options(np.zeros((1, len(up)), dtype=bool))[0]
    turn = 0
    while most is None or turn < most:
        flips = changes()
        values = options(flips) if len(flips) else np.array([])
        if not len(values) or values.max() <= now:
            return
        up ^= flips[values.argmax()]
        now, turn = values.max(), turn + 1
