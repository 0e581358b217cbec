"""Networks that can meet a cost, in the order of how probable they are.

Shape letters: B blocks, O operators of a block, D depths of a stage, N places of the way through a network, G cells.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

CELLS = 4000  # of what a network may cost: the bound of a part of the way is found for each number of cells
STEPS = 200_000  # parts of a network that are looked at before a search ends


@dataclass(frozen=True)
class Depths:
    """The depths of a stage.

    Attributes:
        scores: Log probability of each depth, (D); ``(0.0,)`` where there is nothing to choose.
        blocks: The blocks that run at each depth, D lists.
    """

    scores: Sequence[float]
    blocks: Sequence[Sequence[int]]


@dataclass(frozen=True)
class _Step:
    """One choice on the way through a network: what it loses and costs, and the place it leads to."""

    choice: tuple[int, int, int]  # stage, -1, depth; or stage, block, operator
    loss: float
    least: float
    most: float
    to: int


def by_probability(
    operators: Sequence[Sequence[float]],
    stages: Sequence[Depths],
    least: np.ndarray,
    most: np.ndarray,
    limits: tuple[float, float] = (0.0, math.inf),
) -> Iterator[tuple[float, list[int], list[int]]]:
    """Every network that can cost what ``limits`` allow, once, the most probable one first.

    A network is behind the most probable one by the logarithms that its depths, and the operators of its blocks that
    run, are less probable by; a block that does not run has no part in that, so that a deep network is not behind for
    its blocks.

    The search is A* (Hart, Nilsson and Raphael, 1968) from the first stage to the last. At every place it knows how far
    behind the rest of the way puts a network at least, by what may still be spent, and by what still must be. Both are
    knapsacks over ``CELLS`` parts of a limit, filled from the end; costs are rounded so that no network is lost.

    Args:
        operators: Log probabilities of the operators of each block, (B, O).
        stages: Depths of each stage, in order.
        least: The least that each operator of each block can cost, not below 0, (B, O).
        most: The most, (B, O).
        limits: From and to: of a network, the sum of the most is not below the first one, and that of the least not
            above the second.

    Yields:
        How far it is behind; the index of each block's operator (B), that of a block that does not run the most
        probable one; the index of each stage's depth (S). It ends after the last network, or after ``STEPS`` parts.
    """
    ways = _ways(operators, stages, least, most)
    low, high = limits
    if high < 0:
        return
    spent, needed = _Bound(ways, "least", high), _Bound(ways, "most", low)
    usual = [int(np.argmax(row)) for row in operators]
    numbers = count()  # of two that are as good, the one that is further on goes first, then the first that was met
    waiting = [(max(spent.start, needed.start), 0, next(numbers), 0, 0.0, 0.0, 0.0, spent.cells, needed.cells, None)]
    for _ in range(STEPS):
        if not waiting:
            return
        _, further, _, place, loss, low_sum, high_sum, left, need, way = heapq.heappop(waiting)
        if place == len(ways):
            if low_sum <= high and high_sum >= low:
                yield (loss, *_read(way, usual, len(stages)))
            continue
        for number, step in enumerate(ways[place]):
            now_left, now_need = left - spent.steps[place][number], max(need - needed.steps[place][number], 0)
            if now_left < 0:
                continue
            rest = max(spent.rest[step.to][now_left], needed.rest[step.to][now_need])
            if rest < math.inf:
                sums = loss + step.loss, low_sum + step.least, high_sum + step.most
                item = (sums[0] + rest, further - 1, next(numbers), step.to, *sums, now_left, now_need, (step, way))
                heapq.heappush(waiting, item)


def _ways(
    operators: Sequence[Sequence[float]], stages: Sequence[Depths], least: np.ndarray, most: np.ndarray
) -> list[list[_Step]]:
    """The steps from each place (N), the more probable ones first; a step leads to a later place, the last one to N."""
    sizes = [1 + sum(map(len, stage.blocks)) for stage in stages]
    ends, ways = np.cumsum(sizes).tolist(), []
    for number, (stage, end) in enumerate(zip(stages, ends, strict=True)):
        fork, after = [], len(ways) + 1
        ways.append(fork)
        for depth, blocks in enumerate(stage.blocks):
            first = after if blocks else end
            fork.append(_Step((number, -1, depth), max(stage.scores) - stage.scores[depth], 0.0, 0.0, first))
            for block in blocks:
                after += 1
                to, row = end if block == blocks[-1] else after, operators[block]
                steps = [
                    _Step((number, block, op), max(row) - score, float(least[block][op]), float(most[block][op]), to)
                    for op, score in enumerate(row)
                ]
                ways.append(sorted(steps, key=lambda step: step.loss))
        fork.sort(key=lambda step: step.loss)
    return ways


class _Bound:
    """How far behind the rest of the way puts a network at least, by one of the two limits, in cells of it.

    Attributes:
        cells: All of the limit.
        steps: What each step from each place takes of them, N lists.
        rest: From each place, how far behind at least, by how many cells are left or needed, (N + 1, G + 1).
        start: That at the beginning.
    """

    def __init__(self, ways: Sequence[Sequence[_Step]], cost: str, limit: float) -> None:
        spends = cost == "least"
        is_bound = 0 < limit < math.inf
        self.cells = CELLS if is_bound else 0
        unit, rounded = (limit / CELLS if is_bound else math.inf), (math.floor if spends else math.ceil)
        self.steps = [
            [min(rounded(getattr(step, cost) / unit), CELLS + 1) if is_bound else 0 for step in steps] for steps in ways
        ]
        self.rest = np.full((len(ways) + 1, self.cells + 1), math.inf)
        self.rest[-1, slice(None) if spends else 0] = 0.0  # at the end anything may be left, and nothing is needed
        for place in reversed(range(len(ways))):
            for step, taken in zip(ways[place], self.steps[place], strict=True):
                there, here = self.rest[step.to], self.rest[place]
                if spends:
                    np.minimum(here[taken:], step.loss + there[: max(len(there) - taken, 0)], out=here[taken:])
                else:
                    needed = np.maximum(np.arange(len(here)) - taken, 0)
                    np.minimum(here, step.loss + there[needed], out=here)
        self.start = float(self.rest[0, self.cells])


def _read(way: tuple | None, usual: Sequence[int], stages: int) -> tuple[list[int], list[int]]:
    """The operator of each block and the depth of each stage that a way has, from its last step back."""
    operators, depths = list(usual), [0] * stages
    while way is not None:
        step, way = way
        stage, block, index = step.choice
        if block < 0:
            depths[stage] = index
        else:
            operators[block] = index
    return operators, depths
