"""The greedy slimming of AutoSlim: from the widest subnet, give up the channels that cost the least accuracy.

Source: Yu and Huang, "AutoSlim: Towards One-Shot Architecture Search for Channel Numbers" (arXiv:1903.11728), section
3.2 and algorithm 1. Shapes: n rows, D choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.search.cost import Cost, costs_of
from mmrazor_lite.search.protocols import Budget, Result, check_same_search, check_told
from mmrazor_lite.subnet import Choice, SearchSpace
from mmrazor_lite.subnet.choice import plain_scalar


class GreedySearcher:
    """Slim the widest subnet step by step, to several budgets in one pass.

    Every step scores all subnets in which exactly one width is one step smaller, and keeps the best (the first one on
    ties; choices in the order of their names). The first subnet that is within a budget is its result; the pass goes
    on until every budget has one. Choices that are no widths stay at their last candidate.

    Args:
        space: The search space.
        cost: What rows cost, see :class:`Cost`.
        budgets: ``(resource, limit)``, unscaled; resources may differ.
        seed: Part of every searcher's signature. Nothing is drawn here, so it changes nothing.
        max_channel_bins: Make steps of at least 1/bins of the full width: a step goes down to the largest candidate
            that is that much smaller, or to the smallest one where none is. ``None``: to the next smaller candidate.

    Raises:
        UserError: No width to choose; no budget, one that is given twice, of an unknown resource, out of reach or
            already met by the widest subnet; bins that are no whole number above 0.
    """

    takes = ("budgets",)

    def __init__(
        self,
        space: SearchSpace,
        cost: Cost,
        budgets: Sequence[tuple[str, float]],
        seed: int = 0,
        max_channel_bins: int | None = None,
    ) -> None:
        if max_channel_bins is not None and (type(max_channel_bins) is not int or max_channel_bins < 1):
            raise UserError(f"max_channel_bins must be a whole number of 1 or more, got {short(max_channel_bins)}")
        self.space = space
        self.cost = cost
        self.seed = seed
        self.max_channel_bins = max_channel_bins
        names = list(space)
        widths = sorted(name for name, choice in space.items() if choice.kind == "width")
        # Column of each width -> index of a candidate -> index one step down; the smallest one leads to itself.
        self._down = {names.index(name): _steps(space[name], max_channel_bins) for name in widths}
        if all(space[name].fixed for name in widths):
            raise UserError("the greedy search slims widths, and the search space has no width to choose")
        self._row = space.index(space.max())
        self._first_costs = costs_of(self.cost, self._row)
        self.budgets = _checked(budgets, costs_of(self.cost, self._narrowest()), self._first_costs)
        self._found: list[Result | None] = [None] * len(self.budgets)
        self._history: list[dict[str, Any]] = []

    @property
    def done(self) -> bool:
        """Whether every budget has its result."""
        return all(result is not None for result in self._found)

    def ask(self) -> np.ndarray:
        """Rows (n, D) with one width one step down each, none twice; (0, D) when done."""
        columns = [] if self.done else self._reducible()
        rows = np.repeat(self._row[None], len(columns), axis=0)
        for row, column in zip(rows, columns, strict=True):
            row[column] = self._down[column][row[column]]
        return self.space.canonical(rows)

    def tell(self, rows: np.ndarray, metrics: Sequence[Mapping[str, Any]]) -> None:
        """Take one step to the row with the best score.

        Args:
            rows: What :meth:`ask` returned.
            metrics: One mapping per row, in their order, with a finite ``'score'``; higher is better.

        Raises:
            UserError: A score is missing or not finite.
            ValueError: The rows are not the ones asked for, or the numbers of rows and metrics differ.
        """
        asked = self.ask()
        check_told(asked, rows, metrics)
        columns = self._reducible()
        scores = [self._score(metric, row, column) for metric, row, column in zip(metrics, asked, columns, strict=True)]
        best = max(range(len(scores)), key=scores.__getitem__)  # the first one on ties
        name, choice = list(self.space.items())[columns[best]]
        before = choice.candidates[self._row[columns[best]]]
        self._row = asked[best]
        costs = costs_of(self.cost, self._row)
        self._history.append(
            {
                "step": len(self._history) + 1,
                "choice": name,
                "from": before,
                "to": choice.candidates[self._row[columns[best]]],
                "score": scores[best],
                "evaluated": len(asked),
                "costs": costs,
            }
        )
        kept = {str(key): plain_scalar(value) for key, value in metrics[best].items()}
        for i, budget in enumerate(self.budgets):
            if self._found[i] is None and costs[budget.resource] <= budget.limit:
                self._found[i] = Result(budget, self._row.copy(), dict(kept))

    def results(self) -> list[Result]:
        """The results found so far, in the order in which the budgets were given."""
        return [result for result in self._found if result is not None]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The steps taken: step, choice, from, to, score, evaluated (number of subnets), costs."""
        return [dict(step) for step in self._history]

    def progress(self) -> tuple[float, str]:
        """The smallest part of the way that any budget has behind it, and where the search stands."""
        if self.done:
            return 1.0, f"all {len(self.budgets)} budgets met in {len(self._history)} steps"
        now = self._history[-1]["costs"] if self._history else self._first_costs
        first = self._first_costs
        unmet = [budget for budget, result in zip(self.budgets, self._found, strict=True) if result is None]
        resource, limit = min(unmet, key=lambda budget: (now[budget.resource] - budget.limit) / first[budget.resource])
        part = min((first[name] - now[name]) / (first[name] - limit) for name, limit in unmet)
        met = len(self.budgets) - len(unmet)
        text = (
            f"step {len(self._history)}, {resource} {_number(now[resource])} to go down to {_number(limit)}, "
            f"{met} of {len(self.budgets)} budgets met"
        )
        return min(max(part, 0.0), 0.999), text

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON data, from which :meth:`load_state_dict` goes on."""
        return {
            **self._identity(),
            "row": self._row.tolist(),
            "history": self.history,
            "results": [
                result and {"row": result.row.tolist(), "metrics": dict(result.metrics)} for result in self._found
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``.

        Raises:
            UserError: It is of another search: names what differs (searcher, grid of candidates, budgets, bins, costs).
        """
        check_same_search(state, self._identity())
        try:
            row = np.array(state["row"], dtype=np.int64)
            history = [dict(step) for step in state["history"]]
            found = [
                saved and Result(budget, np.array(saved["row"], dtype=np.int64), dict(saved["metrics"]))
                for budget, saved in zip(self.budgets, state["results"], strict=True)
            ]
            costs = costs_of(self.cost, row)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"cannot resume the search: its state is damaged ({error!r})") from None
        then = history[-1]["costs"] if history else costs
        for resource, value in then.items():
            if costs.get(resource) != value:
                raise UserError(
                    f"cannot resume the search: its subnet cost {value} {resource}, now it costs "
                    f"{costs.get(resource)}; has the input size or the model changed?"
                )
        self._row, self._history, self._found = row, history, found

    def _identity(self) -> dict[str, Any]:
        return {
            "searcher": type(self).__name__,
            "grid": self.space.grid,
            "budgets": [[budget.resource, budget.limit] for budget in self.budgets],
            "max_channel_bins": self.max_channel_bins,
        }

    def _reducible(self) -> list[int]:
        # A width that does not matter is at index 0 already.
        return [column for column in self._down if self._row[column] > 0]

    def _narrowest(self) -> np.ndarray:
        row = self._row.copy()
        row[list(self._down)] = 0
        return self.space.canonical(row[None])[0]

    def _score(self, metrics: Mapping[str, Any], row: np.ndarray, column: int) -> float:
        score = plain_scalar(metrics.get("score"))
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            name, choice = list(self.space.items())[column]
            raise UserError(
                f"step {len(self._history) + 1}: the score with '{name}' at {choice.candidates[row[column]]} must be a "
                f"finite number, got {short(score)}"
            )
        return score


def _steps(choice: Choice, bins: int | None) -> np.ndarray:
    """Index of a candidate -> index one step down, for all of them."""
    widths = np.array(choice.candidates, dtype=np.int64)
    if bins is None:
        down = np.arange(len(widths)) - 1
    else:  # whole numbers: candidate <= width - full / bins
        down = np.searchsorted(widths * bins, widths * bins - widths[-1], side="right") - 1
    return np.maximum(down, 0)


def _checked(
    budgets: Sequence[tuple[str, float]], smallest: Mapping[str, float], largest: Mapping[str, float]
) -> tuple[Budget, ...]:
    checked: list[Budget] = []
    for resource, limit in budgets:
        if resource not in largest:
            known = ", ".join(largest)
            raise UserError(f"budget: unknown resource '{resource}'{nearest(resource, largest)} (allowed: {known})")
        budget = Budget(resource, float(limit))
        low, high = smallest[resource], largest[resource]
        if not low <= budget.limit < high:  # also refuses nan
            side = "not below the largest" if budget.limit >= high else "below the smallest"
            raise UserError(
                f"the {resource} budget {_number(budget.limit)} is {side} subnet: it must be from {_number(low)} "
                f"(smallest subnet) to less than {_number(high)} (largest subnet)"
            )
        if budget in checked:
            raise UserError(f"the {resource} budget {_number(budget.limit)} is given twice")
        checked.append(budget)
    if not checked:
        raise UserError("the search needs at least one budget, such as target_flops=[300]")
    return tuple(checked)


def _number(value: float) -> str:
    return f"{value:,.12g}"
