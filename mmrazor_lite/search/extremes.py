"""What a space can reach in a cost that may fall as a width grows, as milliseconds do at the lanes of a runtime.

Shapes: n rows, D choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mmrazor_lite.search.cost import MEASURED, Cost


def settled(
    starts: np.ndarray, options: Sequence[np.ndarray], values: Callable[[np.ndarray], np.ndarray], largest: bool
) -> np.ndarray:
    """The row (D,) of the largest, or smallest, value that is found by changing one choice after the other.

    It is exact where what a choice adds depends on no other; elsewhere it is at least one that no single choice
    improves.

    Args:
        starts: Rows (n, D), of which each is improved for itself.
        options: Of each choice the candidates that it may take; none where it stays.
        values: Of rows (n, D): (n,).
        largest: Which of the two.
    """
    sign = 1 if largest else -1
    ends = np.array([_improved(row, options, lambda rows: sign * values(rows)) for row in np.unique(starts, axis=0)])
    return ends[(sign * values(ends)).argmax()]


def _improved(row: np.ndarray, options: Sequence[np.ndarray], values: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    before = None
    while before is None or not np.array_equal(row, before):
        before = row
        for column, candidates in enumerate(options):
            if not len(candidates):
                continue
            rows = np.repeat(row[None], len(candidates) + 1, axis=0)
            rows[1:, column] = candidates
            found = values(rows)
            if found.max() > found[0]:
                row = rows[found.argmax()]
    return row


def extreme_of(cost: Cost, resource: str, largest: bool, offered: Sequence[np.ndarray]) -> np.ndarray:
    """The row (D,) of the largest, or smallest, cost where widths may take some of their candidates only.

    Args:
        cost: Of rows of a space of widths. What it counts grows with every width; what is measured may fall.
        resource: One of those that it knows.
        largest: Which of the two.
        offered: Of each width the indices of those candidates, ascending.
    """
    ends = np.array([line[-1 if largest else 0] for line in offered])
    if resource != MEASURED:
        return ends
    of_all = cost.extreme_row(resource, largest)
    nearest = np.array([line[np.abs(line - at).argmin()] for line, at in zip(offered, of_all, strict=True)])
    return settled(np.stack([ends, nearest]), offered, lambda rows: cost(rows)[resource], largest)
