"""Subnets within constraints: which rows are legal, how to draw new ones, and what the space can reach.

Shapes: n rows, D choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from functools import cached_property

import numpy as np

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.search.cost import Cost, costs_of
from mmrazor_lite.search.protocols import Constraint
from mmrazor_lite.search.visited import keys_of
from mmrazor_lite.subnet import SearchSpace

ENUMERATED = 1 << 15  # spaces of at most so many subnets are listed, not sampled
BATCH = 4096  # rows drawn, and costed, at a time
_DRAWS = 8  # batches of plain rejection, at least
_FIRST = 16  # rows drawn at first for each that is wanted: often enough
_PER_ROW = 512  # rows drawn for each that is wanted, before the walk
_ROUNDS = 48  # batches of the walk
_PATIENCE = 8  # batches in a row without anything new or nearer end the walk
_POOL = 256  # rows the walk goes on from
_DESCENT = 1 << 15  # rows costed at most by one descent
_CHANGES = (1, 2, 4)  # choices drawn anew per step of the walk, on average


class Taken:
    """Keys of rows that may not come again: those of ``before``, which stays as it is, and those added."""

    def __init__(self, before: Set[bytes] = frozenset()) -> None:
        self._before, self._added = before, set()

    def __contains__(self, key: bytes) -> bool:
        return key in self._added or key in self._before

    def add(self, key: bytes) -> None:
        """Take a key."""
        self._added.add(key)

    @property
    def parts(self) -> tuple[Set[bytes], Set[bytes]]:
        """Those of before, and those added."""
        return self._before, self._added


class LegalRows:
    """The rows of a space that are within every constraint.

    Args:
        space: The search space.
        cost: What rows cost, see :class:`Cost`.
        constraints: ``(resource, low, high)`` each, unscaled, both ends included; all hold at once.

    Raises:
        UserError: A constraint of an unknown resource, given twice, or whose ends are no range.
    """

    def __init__(self, space: SearchSpace, cost: Cost, constraints: Sequence[tuple[str, float, float]]) -> None:
        self.space, self.cost = space, cost
        self.constraints = _checked(constraints, list(cost(space.index(space.max())[None])))

    def violation(self, rows: np.ndarray) -> np.ndarray:
        """How far outside of the constraints (n, D) rows are: (n,), relative to their size and added up; 0 is legal."""
        total = np.zeros(len(rows))
        if not self.constraints or not len(rows):
            return total
        costs = self.cost(rows)
        for resource, low, high in self.constraints:
            value = np.asarray(costs[resource], dtype=np.float64)
            scale = high if 0 < high < math.inf else max(abs(low), 1.0)
            total += np.maximum(np.maximum(low - value, value - high), 0.0) / scale
        return total

    def within(self, rows: np.ndarray) -> np.ndarray:
        """Those of (n, D) rows that are legal."""
        return rows[self.violation(rows) == 0] if self.constraints else rows

    def new(self, rows: np.ndarray, n: int, taken: Taken | set[bytes]) -> np.ndarray:
        """The first ``n`` legal rows of ``rows`` that are not ``taken``, none twice; they are taken from now on."""
        if not n:
            return rows[:0]
        keys = keys_of(rows)
        unseen = np.array(_unseen(keys, taken), dtype=np.int64)  # costs take longer than the look into what is taken
        chosen = unseen[self.violation(rows[unseen]) == 0][:n]
        for index in chosen.tolist():
            taken.add(keys[index])
        return rows[chosen]

    def draw(self, rng: np.random.Generator, n: int, taken: Taken | set[bytes], near: np.ndarray) -> np.ndarray:
        """Draw up to ``n`` legal rows that are not ``taken``; they are taken from now on.

        Small spaces are listed, and rows are drawn from the list: uniformly, and fewer than ``n`` come only when there
        are no more. Of larger spaces, uniform rows are drawn and those outside rejected. Where that finds too few, the
        search walks: rows that are nearest to the constraints (first ``near``, the extremes of the space and the
        nearest of the rejected) are changed a little, and the nearest are kept, until enough legal ones have been met.
        What the walk finds is not uniform; it clusters where it enters the legal region.
        """
        if not n:
            return near[:0]
        if self._listed is not None:
            return self._new(self._listed[rng.permutation(len(self._listed))], n, taken)
        found = near[:0]
        pool, distance = near, self.violation(near)
        for turn in range(1 + max(_DRAWS, _PER_ROW * n // BATCH)):
            if len(found) == n:
                return found
            rows = self.space.sample_indices(rng, BATCH if turn else min(BATCH, _FIRST * n))
            away = self.violation(rows)
            found = np.concatenate([found, self._new(rows[away == 0], n - len(found), taken)])
            if len(found) < n:
                pool, distance = _nearest(rng, np.concatenate([pool, rows]), np.concatenate([distance, away]))
        return np.concatenate([found, self._walk(rng, n - len(found), taken, pool)])

    def nothing_fits(self) -> UserError:
        """The error that says what was asked for, what can be reached, and the way out."""
        reach = {name: self._reach(name) for name, _, _ in self.constraints}
        impossible = [c for c in self.constraints if c.high < reach[c.resource][0] or c.low > reach[c.resource][1]]
        shown = impossible or self.constraints
        asked = " and ".join(map(_text, shown))
        can = ", ".join(_text(Constraint(c.resource, *reach[c.resource])) for c in shown)
        message = f"no subnet with {asked} was found; the subnets of the search space have {can}"
        if not impossible:
            costs = costs_of(self.cost, min(self._starts, key=lambda row: self.violation(row[None])[0]))
            message += "; the nearest one has " + " and ".join(f"{name} {_number(costs[name])}" for name in reach)
        return UserError(f"{message}; change constraints_range")

    def _new(self, legal: np.ndarray, n: int, taken: Taken | set[bytes]) -> np.ndarray:
        keys = keys_of(legal)
        chosen = _unseen(keys, taken)[:n]
        for index in chosen:
            taken.add(keys[index])
        return legal[chosen]

    def _walk(self, rng: np.random.Generator, n: int, taken: Taken | set[bytes], near: np.ndarray) -> np.ndarray:
        if not n:
            return near[:0]
        pool = np.concatenate([near, self._starts])
        pool, distance = _nearest(rng, pool, self.violation(pool))
        found = self._new(pool[distance == 0], n, taken)
        idle = turn = 0
        while len(found) < n and idle < _PATIENCE and turn < _ROUNDS:
            prob = min(1.0, _CHANGES[turn % len(_CHANGES)] / len(self.space))
            rows = self.space.mutate(rng, pool[rng.integers(len(pool), size=BATCH)], prob)
            away = self.violation(rows)
            new = self._new(rows[away == 0], n - len(found), taken)
            before = distance.sum()
            pool, distance = _nearest(rng, np.concatenate([pool, rows]), np.concatenate([distance, away]))
            found = np.concatenate([found, new])
            idle = 0 if len(new) or distance.sum() < before else idle + 1
            turn += 1
        return found

    @cached_property
    def _listed(self) -> np.ndarray | None:
        if self.space.size > ENUMERATED:
            return None
        rows = _all_rows(self.space)
        return rows[self.violation(rows) == 0]

    @cached_property
    def corners(self) -> np.ndarray:
        """The smallest and the largest row, and for every resource the ones of least and most cost."""
        rows = [self.space.index(self.space.min()), self.space.index(self.space.max())]
        rows += [
            self.cost.extreme_row(resource, largest) for resource, _, _ in self.constraints for largest in (False, True)
        ]
        return np.array(rows)

    @cached_property
    def _starts(self) -> np.ndarray:
        """Where the walk begins: the corners, and the rows that lead from them towards the constraints."""
        nearer = [self._descend(row, self.violation)[1] for row in np.unique(self.corners, axis=0)]
        return np.concatenate([self.corners, nearer])

    def _descend(self, row: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> tuple[float, np.ndarray]:
        """Lower ``value`` by changing one choice, or all to what is best for each alone, while that helps."""
        sizes = [len(choice.candidates) for choice in self.space.values()]
        columns = np.repeat(np.arange(len(sizes)), sizes)
        indices = np.concatenate([np.arange(size) for size in sizes])
        best = value(row[None])[0]
        for _ in range(max(4, _DESCENT // len(columns))):
            rows = np.repeat(row[None], len(columns), axis=0)
            rows[np.arange(len(columns)), columns] = indices
            order = np.argsort(value(self.space.canonical(rows)), kind="stable")
            each = row.copy()  # the optimum where the choices just add up
            each[columns[order[::-1]]] = indices[order[::-1]]
            tries = self.space.canonical(np.stack([each, rows[order[0]]]))
            found = value(tries)
            if not found.min() < best:
                break
            best, row = found.min(), tries[int(np.argmin(found))]
        return best, row

    def _reach(self, resource: str) -> tuple[float, float]:
        return self.cost.extreme(resource, False), self.cost.extreme(resource, True)


def _unseen(keys: Sequence[bytes], taken: Taken | set[bytes]) -> list[int]:
    """Positions of the keys that are not taken, each key once, in their order."""
    before, added = taken.parts if isinstance(taken, Taken) else (frozenset(), taken)
    first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    return sorted([first[key] for key in set(first) - before - added])


def _nearest(rng: np.random.Generator, rows: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Sorting numbers is far faster than sorting rows, and two rows that share one cost the walk a start, nothing more.
    numbers = rows @ np.random.default_rng(0).integers(1 << 62, size=rows.shape[1])
    first = np.unique(numbers, return_index=True)[1]
    rows, distance = rows[first], distance[first]
    kept = np.lexsort((rng.random(len(rows)), distance))[:_POOL]  # at random among equals: the pool stays diverse
    return rows[kept], distance[kept]


def _all_rows(space: SearchSpace) -> np.ndarray:
    """All canonical rows, (size, D)."""

    def depth(name: str) -> int:
        rule = space[name].active_if
        return 0 if rule is None else 1 + depth(rule[0])

    names = list(space)
    rows = np.zeros((1, len(space)), dtype=np.int64)
    for name in sorted(names, key=depth):  # parents first: a choice is expanded where it matters
        size = len(space[name].candidates)
        wider = np.repeat(rows, size, axis=0)
        wider[:, names.index(name)] = np.tile(np.arange(size), len(rows))
        rows = np.unique(space.canonical(wider), axis=0)
    return rows


def _checked(constraints: Sequence[tuple[str, float, float]], resources: Sequence[str]) -> tuple[Constraint, ...]:
    checked: dict[str, Constraint] = {}
    for resource, low, high in constraints:
        if resource not in resources:
            known = ", ".join(resources)
            raise UserError(
                f"constraint: unknown resource '{resource}'{nearest(resource, resources)} (allowed: {known})"
            )
        if resource in checked:
            raise UserError(f"the {resource} constraint is given twice")
        if not low <= high or math.isinf(low):  # also refuses nan
            raise UserError(f"the {resource} constraint {short(low)} to {short(high)} is no range from low to high")
        checked[resource] = Constraint(resource, float(low), float(high))
    return tuple(checked.values())


def _text(constraint: Constraint) -> str:
    resource, low, high = constraint
    if high == math.inf:
        return f"{resource} from {_number(low)}"
    return f"{resource} from {_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return f"{value:,.12g}"
