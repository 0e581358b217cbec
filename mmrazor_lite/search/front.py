"""The front of score against cost by NSGA-II: one search answers any number of budgets.

Source: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (IEEE TEC 6(2), 2002), section III.
Shapes: n rows, D choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.search.cost import Cost, costs_of
from mmrazor_lite.search.protocols import (
    Budget,
    Constraint,
    Result,
    check_probabilities,
    check_same_search,
    check_told,
    plain_metrics,
)
from mmrazor_lite.search.visited import Visited
from mmrazor_lite.search.within_limits import LegalRows, Taken
from mmrazor_lite.subnet import SearchSpace

TRIES = 8  # batches of children drawn for new ones, before random rows take their place


class FrontSearcher:
    """Evolve a population towards the best score at every cost; a budget is answered by the best within it.

    The first generation is the cheapest and the dearest row and random ones. Every further one has as many children:
    two tournaments of two choose parents by front, then by crowding; children take each choice from one of them and
    mutate. No subnet is scored twice. Parents and children together compete for the next population. Where there are
    constraints, all are within them, and the first generation has a subnet within each budget.

    Args:
        space: The search space.
        cost: What rows cost, see :class:`Cost`.
        budgets: ``(resource, limit)``, unscaled, all of one resource, which is the cost of the front.
        seed: Of everything that is drawn.
        generations: Generations, the random first one included.
        population: Subnets of a generation.
        mutate_prob: Probability of each choice to be drawn anew (the same candidate may come).
        crossover_prob: Probability of each choice to come from the second parent.
        constraints: ``(resource, low, high)``, unscaled, both ends included, of any resources.

    Raises:
        UserError: No budget, budgets of several resources, one that no subnet within the constraints meets, or a bad
            option.
    """

    takes = ("budgets", "constraints")

    def __init__(
        self,
        space: SearchSpace,
        cost: Cost,
        budgets: Sequence[tuple[str, float]],
        seed: int = 0,
        generations: int = 50,
        population: int = 100,
        mutate_prob: float = 0.1,
        crossover_prob: float = 0.5,
        constraints: Sequence[tuple[str, float, float]] = (),
    ) -> None:
        self.space, self.cost, self.seed = space, cost, seed
        self.generations, self.population = generations, population
        self.mutate_prob, self.crossover_prob = mutate_prob, crossover_prob
        self.budgets = tuple(Budget(resource, float(limit)) for resource, limit in budgets)
        self._check_options()
        self.resource = self.budgets[0].resource
        known = self.cost(self.space.index(self.space.max())[None])
        if self.resource not in known:
            allowed = ", ".join(known)
            raise UserError(f"budget: unknown resource '{self.resource}'{nearest(self.resource, known)} ({allowed})")
        self._legal = LegalRows(space, cost, constraints)
        self._ends = np.array([cost.extreme_row(self.resource, largest) for largest in (False, True)])
        cheapest = self._costs(self._ends[:1])[0]
        for _, limit in self.budgets:
            self._check_reach(limit, cheapest)
        self._first = self._legal.within(self._ends)
        if self._legal.constraints:
            self._first = np.concatenate([self._first, *map(self._within, self.budgets)])
        self._visited = Visited(np.zeros((0, len(space)), dtype=np.int64))
        self._scores, self._prices = np.zeros(0), np.zeros(0)
        self._metrics: list[dict[str, Any]] = []
        self._alive = np.zeros(0, dtype=np.int64)  # the population, as indices into the rows
        self._history: list[dict[str, Any]] = []
        self._proposed: np.ndarray | None = None

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The constraints, in the order in which they were given."""
        return self._legal.constraints

    @property
    def done(self) -> bool:
        """Whether all generations are over, or no new subnet is found."""
        return not len(self.ask())

    def ask(self) -> np.ndarray:
        """The rows (n, D) of the next generation, new ones; (0, D) when done."""
        if self._proposed is None:
            self._proposed = self._propose()
        return self._proposed.copy()

    def tell(self, rows: np.ndarray, metrics: Sequence[Mapping[str, Any]]) -> None:
        """End the generation.

        Args:
            rows: What :meth:`ask` returned.
            metrics: One mapping per row, in their order, with a finite ``'score'``; higher is better.

        Raises:
            UserError: A score is missing or not finite.
            ValueError: The rows are not the ones asked for, or the numbers of rows and metrics differ.
        """
        asked = self.ask()
        check_told(asked, rows, metrics)
        told = plain_metrics(metrics, lambda i: f"the score of {short(self.space.subnet(asked[i]).to_dict())}")
        children = len(self._rows) + np.arange(len(asked))
        self._visited.add(asked)
        self._scores = np.concatenate([self._scores, [metric["score"] for metric in told]])
        self._prices = np.concatenate([self._prices, self._costs(asked)])
        self._metrics += told
        together = np.concatenate([self._alive, children])
        self._alive = together[survivors(self._scores[together], self._prices[together], self.population)]
        self._history.append(
            {
                "generation": len(self._history) + 1,
                "evaluated": len(asked),
                "front": int(non_dominated(self._scores, self._prices).sum()),
                "best_so_far": float(self._scores.max()),
            }
        )
        self._proposed = None

    def front(self) -> list[Result]:
        """All that was scored and that nothing is both cheaper and better than, the cheapest first."""
        best = np.flatnonzero(non_dominated(self._scores, self._prices))
        return [self._result(None, index) for index in best[np.argsort(self._prices[best], kind="stable")]]

    def results(self) -> list[Result]:
        """The best within each budget, the cheaper one on ties; empty before the first generation."""
        return [self.answer(budget) for budget in self.budgets] if len(self._rows) else []

    def answer(self, budget: Budget) -> Result:
        """The best of all scored so far within a budget of the front's resource.

        Raises:
            UserError: It is below the cheapest; says the range of the front.
        """
        within = np.flatnonzero(self._prices <= budget.limit)
        if budget.resource != self.resource or not len(within):
            front = self.front()
            ends = [self._costs(result.row[None])[0] for result in (front[0], front[-1])]
            raise UserError(
                f"no subnet of the front has {budget.limit:,.12g} {budget.resource} or less; the front is of "
                f"{self.resource}, from {ends[0]:,.12g} to {ends[1]:,.12g}"
            )
        order = np.lexsort((within, self._prices[within], -self._scores[within]))
        return self._result(budget, within[order[0]])

    @property
    def history(self) -> list[dict[str, Any]]:
        """The generations: generation, evaluated, front (its size), best_so_far."""
        return [dict(entry) for entry in self._history]

    def progress(self) -> tuple[float, str]:
        """The part of the generations that is over, and the size of the front."""
        number = len(self._history)
        if not number:
            return 0.0, f"generation 0 of {self.generations}"
        last = self._history[-1]
        text = f"generation {number} of {self.generations}, {len(self._rows)} subnets scored, {last['front']} on the "
        text += f"front, best {last['best_so_far']:.6g}"
        if self.done:
            return 1.0, text if number == self.generations else f"{text}; no new subnet was found"
        return number / self.generations, text

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON data, from which :meth:`load_state_dict` goes on."""
        return {
            **self._identity(),
            "rows": self._rows.tolist(),
            "metrics": [dict(metric) for metric in self._metrics],
            "alive": self._alive.tolist(),
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``.

        Raises:
            UserError: It is of another search, or damaged.
        """
        check_same_search(state, self._identity())
        try:
            rows = np.array(state["rows"], dtype=np.int64).reshape(-1, len(self.space))
            self.space.active(rows)  # refuses indices that are none
            metrics = [dict(metric) for metric in state["metrics"]]
            scores = np.array([float(metric["score"]) for metric in metrics])
            alive = np.array(state["alive"], dtype=np.int64)
            history = [dict(entry) for entry in state["history"]]
            if len(scores) != len(rows) or (len(alive) and not 0 <= alive.min() <= alive.max() < len(rows)):
                raise ValueError("rows and metrics differ")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"cannot resume the search: its state is damaged ({error!r})") from None
        self._visited = Visited(rows)
        self._scores, self._metrics, self._alive = scores, metrics, alive
        self._prices = self._costs(rows) if len(rows) else np.zeros(0)
        self._history, self._proposed = history, None

    def _identity(self) -> dict[str, Any]:
        options = ("generations", "population", "mutate_prob", "crossover_prob", "seed")
        return {
            "searcher": type(self).__name__,
            "grid": self.space.grid,
            "resource": self.resource,  # budgets may change: the front answers any
            "ends": [costs_of(self.cost, row)[self.resource] for row in self._ends],
            "constraints": [[name, low, None if high == math.inf else high] for name, low, high in self.constraints],
            **{name: getattr(self, name) for name in options},
        }

    @property
    def _rows(self) -> np.ndarray:
        """All that were scored, in that order."""
        return self._visited.rows

    def _propose(self) -> np.ndarray:
        """The rows of the next generation, drawn from the seed and the generation alone."""
        number = len(self._history)
        if number >= self.generations:
            return self._rows[:0]
        rng = np.random.default_rng([self.seed, number])
        taken = Taken(self._visited.keys)
        found = self._rows[:0] if number else self._legal.new(self._first, self.population, taken)
        for _ in range(TRIES):
            if len(found) == self.population:
                return found
            rows = self._children(rng) if number else self.space.sample_indices(rng, self.population)
            found = np.concatenate([found, self._legal.new(rows, self.population - len(found), taken)])
        missing, more = self.population - len(found), self._rows[:0]
        if missing and self._legal.constraints:
            more = self._legal.draw(rng, missing, taken, near=self._rows[self._alive])
        elif missing and number:
            more = self._legal.new(self.space.sample_indices(rng, 8 * self.population), missing, taken)
        return np.concatenate([found, more])

    def _children(self, rng: np.random.Generator) -> np.ndarray:
        scores, prices = self._scores[self._alive], self._prices[self._alive]
        rank = ranks(scores, prices)
        crowd = crowding(scores, prices, rank)
        a, b = (self._rows[self._alive[_tournament(rng, rank, crowd, self.population)]] for _ in range(2))
        return self.space.mutate(rng, self.space.crossover(rng, a, b, self.crossover_prob), self.mutate_prob)

    def _costs(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.cost(rows)[self.resource], dtype=np.float64)

    def _within(self, budget: Budget) -> np.ndarray:
        """One row (1, D) within a budget and the constraints."""
        own = [self._range(budget), *(c for c in self._legal.constraints if c.resource != self.resource)]
        legal = LegalRows(self.space, self.cost, own)
        row = legal.draw(np.random.default_rng(0), 1, Taken(), near=self._ends)
        if not len(row):
            raise legal.nothing_fits()
        return row

    def _range(self, budget: Budget) -> Constraint:
        """What a budget and the constraints allow of the front's resource."""
        own = next((c for c in self._legal.constraints if c.resource == self.resource), Constraint(self.resource))
        if budget.limit < own.low:
            raise UserError(
                f"the {self.resource} budget {budget.limit:,.12g} is below the constraint, which begins at "
                f"{own.low:,.12g}"
            )
        return Constraint(self.resource, own.low, min(own.high, budget.limit))

    def _check_reach(self, limit: float, cheapest: float) -> None:
        if limit < cheapest:
            raise UserError(
                f"no subnet has {limit:,.12g} {self.resource} or less; the cheapest one has {cheapest:,.12g}"
            )

    def _check_options(self) -> None:
        for name, low in (("generations", 1), ("population", 4), ("seed", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise UserError(f"{name} must be a whole number of {low} or more, got {short(value)}")
        check_probabilities(self, ("mutate_prob", "crossover_prob"))
        resources = {budget.resource for budget in self.budgets}
        if len(resources) != 1:
            given = ", ".join(sorted(resources)) or "nothing"
            raise UserError(f"the front is of one resource: give budgets of one, got {given}")

    def _result(self, budget: Budget | None, index: int) -> Result:
        return Result(budget, self._rows[index].copy(), dict(self._metrics[index]))


def non_dominated(scores: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Mask (n,) of those that nothing else is at least as good and as cheap as, and better in one of the two."""
    order = np.lexsort((-scores, prices))  # cheap first, the best of equal price first
    best = np.maximum.accumulate(np.concatenate([[-np.inf], scores[order][:-1]]))
    sorted_scores, sorted_prices = scores[order], prices[order]
    kept = sorted_scores > best
    same = np.concatenate([[False], (np.diff(sorted_prices) == 0) & (np.diff(sorted_scores) == 0)])
    for index in np.flatnonzero(same):  # a twin of one that is kept is kept
        kept[index] = kept[index - 1]
    mask = np.zeros(len(scores), dtype=bool)
    mask[order] = kept
    return mask


def ranks(scores: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Number (n,) of the front that each is on: 0 for the non-dominated, 1 for those without them, and so on."""
    rank = np.full(len(scores), -1)
    front = 0
    while (left := np.flatnonzero(rank < 0)).size:
        rank[left[non_dominated(scores[left], prices[left])]] = front
        front += 1
    return rank


def crowding(scores: np.ndarray, prices: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Distance (n,) between the neighbours of each on its front, in parts of the range; infinite at the ends."""
    distance = np.zeros(len(scores))
    for front in np.unique(rank):
        members = np.flatnonzero(rank == front)
        for values in (scores, prices):
            order = members[np.argsort(values[members], kind="stable")]
            spread = values[order[-1]] - values[order[0]]
            distance[order[[0, -1]]] = np.inf
            if spread > 0:
                distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / spread
    return distance


def survivors(scores: np.ndarray, prices: np.ndarray, number: int) -> np.ndarray:
    """Indices of the next population: by front, then by crowding, then by age."""
    rank = ranks(scores, prices)
    return np.lexsort((np.arange(len(rank)), -crowding(scores, prices, rank), rank))[:number]


def _tournament(rng: np.random.Generator, rank: np.ndarray, crowd: np.ndarray, number: int) -> np.ndarray:
    a, b = rng.integers(len(rank), size=(2, number))
    better = (rank[b] < rank[a]) | ((rank[b] == rank[a]) & (crowd[b] > crowd[a]))
    return np.where(better, b, a)
