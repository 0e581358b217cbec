"""Networks of a space in the order of how probable they are. Shapes: B blocks, O operators, S stages, D depths."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

Runs = Callable[[Sequence[int]], Sequence[bool]]  # index of each stage's depth (S) -> whether each block runs (B)


def by_probability(
    operators: Sequence[Sequence[float]], depths: Sequence[Sequence[float]], runs: Runs
) -> Iterator[tuple[list[int], list[int]]]:
    """Every network once, the most probable one first.

    The first has the most probable depth of each stage and operator of each block, as authors read one from what they
    learned. Any other is behind it by the logarithms that its own depths, and operators of blocks that run, are less
    probable by; a block that does not run has no part in that, so that a deep network is not behind for its blocks.

    Args:
        operators: Log probabilities of the operators of each block, (B, O).
        depths: Those of the depths of each stage, (S, D).
        runs: Tells which blocks run.

    Yields:
        The index of each block's operator (B), that of a block that does not run the most probable one; and the index
        of each stage's depth (S).
    """
    rows = [*depths, *operators]  # depths first: once an operator is not the first of its order, they stay
    orders = [sorted(range(len(row)), key=row.__getitem__, reverse=True) for row in rows]
    waiting = [(0.0, (0,) * len(rows), 0)]  # how far behind, place in each order, the last one that was moved
    while waiting:
        behind, places, last = heapq.heappop(waiting)
        indices = [order[place] for order, place in zip(orders, places, strict=True)]
        yield indices[len(depths) :], indices[: len(depths)]
        moves = [True] * len(depths) + list(runs(indices[: len(depths)]))
        for at in range(last, len(rows)):
            place = places[at] + 1
            if moves[at] and place < len(orders[at]):
                loss = rows[at][orders[at][place - 1]] - rows[at][orders[at][place]]
                heapq.heappush(waiting, (behind + loss, (*places[:at], place, *places[at + 1 :]), at))
