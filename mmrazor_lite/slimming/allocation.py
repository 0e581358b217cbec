"""How many units of each width group stay under budgets: curves of what is lost against exact costs of whole subnets.

Shape letters: n rows, D choices, W widths of a group. A solution is an array (D,) of places in the lists of widths.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from mmrazor_lite.errors import UserError, check_number, nearest, short
from mmrazor_lite.search.cost import MEASURED, Cost
from mmrazor_lite.search.extremes import extreme_of, settled
from mmrazor_lite.subnet import SearchSpace

Divisor = int | str | Mapping[str, int]  # of widths; 'auto'; or of groups by their names
Curves = Mapping[str, np.ndarray]  # group -> what is lost by the units that it keeps, (units + 1,)
LISTED = 1 << 14  # so many subnets are tried one by one
REACH = 3  # widths up or down in one exchange
WORK = 4_000_000  # rows that the exchanges of one budget look at, about
KICKS = 64  # times that a few groups are set at random and all is mended again
SHARE = 16  # of a group's channels: the largest step of 'auto'
STEPS = (1, 2, 4, 8)  # of 'auto'


def step_of(full: int, unit: int, divisor: int | str = "auto") -> int:
    """What widths of a group are multiples of, in channels: never less than a unit.

    'auto' is the largest power of two up to a sixteenth of the group, from 1 to 8.
    """
    if divisor == "auto":
        divisor = max([step for step in STEPS if step * SHARE <= full], default=1)
    else:
        check_number("divisor", divisor, 1, whole=True)
    return min(math.lcm(int(divisor), unit), full)


def by_table(divisor: int | str, steps: Mapping[str, int]) -> Divisor:
    """What ``'auto'`` is where a latency table says which steps pay."""
    return steps if divisor == "auto" and steps else divisor


class Widths:
    """The widths that groups may take, and what subnets of them cost and lose.

    Args:
        curves: What is lost, of every group.
        cost: What rows of ``space`` cost.
        space: A space of widths.
        divisor: Widths are multiples of it, see :func:`step_of`; the full width is always one. Or of some groups by
            their names, as in the steps of a latency table; others have ``'auto'``.
        least: Channels that a group must keep, by pattern of names; the most of all that match. The full width is the
            limit of a group that asks for more.

    Raises:
        UserError: A pattern that names no group, or a limit that is no number of channels.
    """

    def __init__(
        self,
        curves: Curves,
        cost: Cost,
        space: SearchSpace,
        divisor: Divisor = "auto",
        least: Mapping[str, int] | None = None,
    ) -> None:
        self.space, self.cost = space, cost
        least = least or {}
        for pattern, channels in least.items():
            check_number(f"limits['{pattern}']", channels, 1, whole=True)
            if not any(fnmatchcase(name, pattern) for name in space):
                raise UserError(f"limits: '{pattern}' matches no width group{nearest(pattern, space)}")
        self.indices, self.channels, self.losses = [], [], []  # of each group's widths, ascending; entries of rows
        for name, choice in space.items():
            lowest = max((value for pattern, value in least.items() if fnmatchcase(name, pattern)), default=1)
            own = divisor.get(name, "auto") if isinstance(divisor, Mapping) else divisor
            indices, units = _offered(choice.candidates, len(curves[name]) - 1, own, lowest)
            self.indices.append(indices)
            self.channels.append(np.array([choice.candidates[i] for i in indices.tolist()], np.float64))
            self.losses.append(np.asarray(curves[name], np.float64)[units])
        self.sizes = np.array([len(indices) for indices in self.indices])
        self._table, self._loss = _padded(self.indices), _padded(self.losses)

    @property
    def full(self) -> np.ndarray:
        """The solution of all full widths."""
        return self.sizes - 1

    def rows(self, solutions: np.ndarray) -> np.ndarray:
        """Solutions (n, D) as rows of the space."""
        return self._table[np.arange(len(self.sizes)), solutions]

    def loss(self, solutions: np.ndarray) -> np.ndarray:
        """What is lost (n,): the sum over the groups."""
        return self._loss[np.arange(len(self.sizes)), solutions].sum(1)

    def losses_at(self, groups: np.ndarray, places: np.ndarray) -> np.ndarray:
        """What is lost by single groups at places in their lists, of the shape of both."""
        return self._loss[groups, places]

    def costs(self, solutions: np.ndarray, resources: Sequence[str]) -> np.ndarray:
        """(n, resources)."""
        found = self.cost(self.rows(solutions))
        return np.stack([np.asarray(found[name], np.float64) for name in resources], 1)

    @property
    def few(self) -> bool:
        """Whether there are so few solutions that they are listed."""
        return self.sizes.prod(dtype=np.float64) <= LISTED

    def listed(self) -> np.ndarray:
        """All solutions (n, D)."""
        return np.array(list(itertools.product(*map(range, self.sizes))), np.int64).reshape(-1, len(self.sizes))

    def cheapest(self, resource: str) -> np.ndarray:
        """The solution that costs least; of milliseconds in a large space the one that :func:`extreme_of` finds."""
        if resource != MEASURED:
            return np.zeros_like(self.sizes)  # what is counted grows with every width
        if self.few:
            return self.lowest(lambda solutions: self.costs(solutions, [resource])[:, 0], self.full[None])
        row = extreme_of(self.cost, resource, False, self.indices)
        return np.array([np.searchsorted(line, at) for line, at in zip(self.indices, row, strict=True)])

    def lowest(self, values: Callable[[np.ndarray], np.ndarray], starts: np.ndarray) -> np.ndarray:
        """The solution with the least value: of all where they are few, else what ``starts`` (n, D) lead to."""
        if not self.few:
            return settled(starts, [np.arange(size) for size in self.sizes], values, largest=False)
        solutions = self.listed()
        return solutions[values(solutions).argmin()]


def _padded(lists: Sequence[np.ndarray]) -> np.ndarray:
    """Lists as the lines of one array; the last entry of a shorter one is repeated."""
    deep = max(map(len, lists), default=0)
    return np.array([np.pad(line, (0, deep - len(line)), mode="edge") for line in lists]).reshape(len(lists), deep)


def _offered(candidates: Sequence[int], units: int, divisor: int | str, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Candidate indices of the widths to choose from, ascending, and the units that they keep."""
    full = candidates[-1]
    step = step_of(full, full // units, divisor)
    offered = [i for i, width in enumerate(candidates) if width == full or (width % step == 0 and width >= least)]
    indices = np.array(offered, np.int64)
    return indices, np.array([candidates[i] for i in offered]) * units // full


def allocate(
    curves: Curves,
    cost: Cost,
    space: SearchSpace,
    limits: Mapping[str, float],
    divisor: Divisor = "auto",
    least: Mapping[str, int] | None = None,
) -> np.ndarray:
    """The row (D,) within all limits that loses least by the curves.

    A space of a few thousand subnets is listed. In a larger one, widths are cut where that costs least for what it
    saves, and exchanged between groups while that loses less; then a few groups are set at random and mended, again and
    again, and the best is kept (iterated local search). The same row in every run.

    Args:
        curves, cost, space, divisor, least: See :class:`Widths`.
        limits: Resource -> what may be spent of it, in the unit of ``cost``.

    Raises:
        UserError: A limit that nothing meets: the cheapest subnet costs more. Or limits that nothing meets together.
    """
    widths = Widths(curves, cost, space, divisor, least)
    resources = list(limits)
    high = np.array([float(limits[name]) for name in resources])
    within = check_reachable(widths, resources, high)
    if widths.few:
        solution = _best_of_all(widths, resources, high)
    else:
        solution = _Exchange(widths, resources, high, within).best()
    return widths.rows(solution[None])[0]


def uniform(
    curves: Curves,
    cost: Cost,
    space: SearchSpace,
    limits: Mapping[str, float],
    divisor: Divisor = "auto",
    least: Mapping[str, int] | None = None,
) -> np.ndarray:
    """The row (D,) within all limits in which every group keeps the same share, the largest that there is.

    A group keeps the widest of its widths that is no wider than the share, at least the narrowest. For comparison.

    Raises:
        UserError: As :func:`allocate`; or no share that all groups keep alike meets the limits.
    """
    widths = Widths(curves, cost, space, divisor, least)
    resources, high = list(limits), np.array([float(limit) for limit in limits.values()])
    check_reachable(widths, resources, high)
    kept = [line / line[-1] for line in widths.channels]
    shares = np.unique(np.concatenate(kept))
    solutions = np.stack([np.maximum(np.searchsorted(line, shares, side="right") - 1, 0) for line in kept], 1)
    legal = (widths.costs(solutions, resources) <= high).all(1)
    if not legal.any():  # milliseconds may fall as a width grows
        raise UserError(f"budget {_told(resources, high)} is out of reach with one share of the width in all groups")
    return widths.rows(solutions[np.flatnonzero(legal)[-1:]])[0]


def path(
    curves: Curves,
    cost: Cost,
    space: SearchSpace,
    resources: Sequence[str] = ("macs",),
    divisor: Divisor = "auto",
    least: Mapping[str, int] | None = None,
) -> np.ndarray:
    """Rows (n, D) from the full network to the smallest one, each a step below the one before.

    A step is the one that loses least for what it saves, of all resources relative to the full network.
    """
    widths = Widths(curves, cost, space, divisor, least)
    steps = list(_steps(widths, list(resources), np.zeros(len(resources)), widths.full))
    return widths.rows(np.array(steps))


def check_reachable(widths: Widths, resources: list[str], high: np.ndarray) -> np.ndarray:
    """A solution within all limits.

    Raises:
        UserError: A limit is below what the cheapest widths cost; says both ends. Or no widths were found that meet all
            limits at once; says what the nearest cost.
    """
    narrowest = np.zeros_like(widths.full)
    if (widths.costs(narrowest[None], resources) <= high).all():
        return narrowest  # as nearly always; in a large network the cheapest one takes seconds to find
    cheapest = np.stack([widths.cheapest(name) for name in resources])
    ends = np.diagonal(widths.costs(cheapest, resources)), widths.costs(widths.full[None], resources)[0]
    for name, limit, lowest, full in zip(resources, high, *ends, strict=True):
        if lowest > limit:
            asked, least = (f"{100 * value / full:.3g}%" for value in (limit, lowest))
            raise UserError(
                f"budget {name}={short(float(limit))} ({asked} of the full network) is out of reach: of the widths "
                f"that may be chosen (multiples of the divisor) the cheapest subnet costs {lowest:.10g} ({least}), the "
                f"full network {full:.10g}"
            )

    def over(solutions: np.ndarray) -> np.ndarray:
        return (np.maximum(widths.costs(solutions, resources) - high, 0.0) / np.maximum(high, 1e-9)).sum(1)

    within = cheapest[over(cheapest).argmin()]
    if over(within[None])[0] > 0:
        within = widths.lowest(over, cheapest)
    if over(within[None])[0] > 0:
        costs = _told(resources, widths.costs(within[None], resources)[0])
        raise UserError(
            f"budget {_told(resources, high)} is out of reach: each of the limits can be met, but no subnet was found "
            f"that meets all of them; the nearest has {costs}"
        )
    return within


def _told(resources: Sequence[str], values: np.ndarray) -> str:
    """In words."""
    return ", ".join(f"{name}={value:.10g}" for name, value in zip(resources, values, strict=True))


def _best_of_all(widths: Widths, resources: list[str], high: np.ndarray) -> np.ndarray:
    solutions = widths.listed()
    costs = widths.costs(solutions, resources)
    solutions, costs = solutions[(costs <= high).all(1)], costs[(costs <= high).all(1)]
    return solutions[_first_best(widths.loss(solutions), costs, high)]


def _first_best(loss: np.ndarray, costs: np.ndarray, high: np.ndarray) -> int:
    """The least loss; of equal ones what costs least."""
    return int(np.lexsort(((costs / np.maximum(high, 1e-9)).sum(1), loss))[0])


def _steps(widths: Widths, resources: list[str], high: np.ndarray, solution: np.ndarray) -> Iterator[np.ndarray]:
    """Solutions down from one, each by the step that loses least for what it saves of what is above the limits."""
    scale = np.maximum(widths.costs(widths.full[None], resources)[0], 1e-9)  # milliseconds may be few
    while True:
        yield solution
        steps = _lowered(widths, solution, REACH)
        if not len(steps):
            return
        now = widths.costs(solution[None], resources)[0]
        saved = np.minimum(now - widths.costs(steps, resources), np.maximum(now - high, 0.0)) / scale
        lost = np.maximum(widths.loss(steps) - widths.loss(solution[None])[0], 0.0)
        saved = saved.sum(1)
        if not (saved > 0).any():  # as of a peak of memory that several groups make together
            saved = (np.maximum(now - high, 0.0) > 0).any() + np.zeros(len(steps))
        finite = np.where(saved > 0, lost / np.maximum(saved, 1e-300), np.inf)
        solution = steps[int(np.lexsort((-saved, finite))[0])]


def _lowered(widths: Widths, solution: np.ndarray, reach: int) -> np.ndarray:
    """Solutions with one group up to ``reach`` widths lower, (n, D)."""
    found = [(d, solution[d] - down) for d in range(len(solution)) for down in range(1, min(reach, solution[d]) + 1)]
    return _changed(solution, found)


def _changed(solution: np.ndarray, changes: Sequence[tuple[int, int]]) -> np.ndarray:
    rows = np.repeat(solution[None], len(changes), 0)
    if changes:
        columns, values = np.array(changes, np.int64).T
        rows[np.arange(len(rows)), columns] = values
    return rows


class _Exchange:
    """Local search for the solution within limits that loses least; ``within`` is one within them."""

    def __init__(self, widths: Widths, resources: list[str], high: np.ndarray, within: np.ndarray) -> None:
        self.widths, self.resources, self.high, self._within = widths, resources, high, within
        self._moves = _moves(len(widths.sizes))
        self._rows = 0

    def best(self) -> np.ndarray:
        """The best solution of all that were found."""
        rng = np.random.default_rng(0)
        found = self._mended(self.widths.full)
        for _ in range(KICKS):
            if self._rows > WORK:
                break
            kicked = found.copy()
            some = rng.permutation(len(kicked))[: rng.integers(1, 4)]
            kicked[some] = rng.integers(0, self.widths.sizes[some])
            other = self._mended(kicked)
            if self._loss(other) < self._loss(found):
                found = other
        return found

    def _loss(self, solution: np.ndarray) -> float:
        return float(self.widths.loss(solution[None])[0])

    def _legal(self, rows: np.ndarray) -> np.ndarray:
        return rows[(self.widths.costs(rows, self.resources) <= self.high).all(1)] if len(rows) else rows

    def _mended(self, solution: np.ndarray) -> np.ndarray:
        """Cut until the limits hold, then raised and exchanged while that loses less."""
        steps = _steps(self.widths, self.resources, self.high, solution)
        solution = self._filled(next((step for step in steps if len(self._legal(step[None]))), self._within))
        while self._rows <= WORK:
            self._rows += len(self._moves)
            rows = _moved(solution, self.widths, self._moves)
            rows = self._legal(rows[self.widths.loss(rows) < self._loss(solution) * (1 - 1e-12)])
            if not len(rows):
                break
            best = _first_best(self.widths.loss(rows), self.widths.costs(rows, self.resources), self.high)
            solution = self._filled(rows[best])
        return solution

    def _filled(self, solution: np.ndarray) -> np.ndarray:
        """Single groups raised while the limits allow it and it wins something: what wins most first."""
        sizes = self.widths.sizes
        while True:
            places = [(d, place) for d in range(len(solution)) for place in range(solution[d] + 1, sizes[d])]
            raised = self._legal(_changed(solution, places))
            won = self._loss(solution) - self.widths.loss(raised)
            if not (won > 0).any():
                return solution
            solution = raised[int(won.argmax())]


def _moves(size: int) -> np.ndarray:
    """One group down and another up, each by up to REACH widths: (n, 4) of both groups and both numbers."""
    pairs = itertools.permutations(range(size), 2)
    steps = list(itertools.product(range(1, REACH + 1), repeat=2))
    return np.array([(*pair, *step) for pair in pairs for step in steps], np.int64).reshape(-1, 4)


def _moved(solution: np.ndarray, widths: Widths, moves: np.ndarray) -> np.ndarray:
    """Solutions (n, D) that moves lead to, but for those that clearly lose more."""
    groups, steps = moves[:, :2], moves[:, 2:] * [-1, 1]
    places = solution[groups] + steps
    inside = (places[:, 0] >= 0) & (places[:, 1] < widths.sizes[groups[:, 1]])
    groups, places = groups[inside], places[inside]
    before, after = widths.losses_at(groups, solution[groups]).sum(1), widths.losses_at(groups, places).sum(1)
    rough = np.abs(before) * 1e-9 + 1e-300  # sums of all groups say the rest
    kept = after < before + rough
    rows = np.repeat(solution[None], int(kept.sum()), 0)
    np.put_along_axis(rows, groups[kept], places[kept], 1)
    return rows
