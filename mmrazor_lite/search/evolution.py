"""The evolution of SPOS: keep the best subnets, change them a little, mix them, within hard constraints.

Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling" (arXiv:1904.00420), section
3.4 and algorithm 1; the number of tries and the random fill as in the official code. Shapes: n rows, D choices.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.search.cost import Cost, costs_of
from mmrazor_lite.search.protocols import (
    Constraint,
    Result,
    check_probabilities,
    check_same_search,
    check_told,
    plain_metrics,
)
from mmrazor_lite.search.visited import Visited
from mmrazor_lite.search.within_limits import LegalRows, Taken
from mmrazor_lite.subnet import SearchSpace, read_subnet

TRIES = (2, 4, 4)  # children drawn, time after time, per child that is still missing; then random ones take their place


class _Scored(NamedTuple):
    """One of the best: its position in the order of evaluation, and its metrics."""

    index: int
    metrics: dict[str, Any]


class EvolutionSearcher:
    """Evolve subnets within constraints; the result is the best of all that were scored.

    The first epoch scores random subnets. Every further one scores ``num_mutation`` children of one of the ``top_k``
    best so far, ``num_crossover`` children of two of them (both drawn with replacement), and random subnets up to
    ``num_candidates``. All are within every constraint, and none is scored twice in a search. Equal scores rank in the
    order of evaluation. The search ends early when it finds no subnet that is new; :meth:`LegalRows.draw` says how it
    looks for random ones.

    Args:
        space: The search space.
        cost: What rows cost, see :class:`Cost`.
        constraints: ``(resource, low, high)``, unscaled, both ends included; none at all is allowed.
        seed: Of everything that is drawn.
        max_epochs: Epochs, the random first one included.
        num_candidates: Subnets scored per epoch.
        top_k: Parents of the next epoch.
        num_mutation: Children by mutation per epoch.
        num_crossover: Children by crossover per epoch.
        mutate_prob: Probability of each choice to be drawn anew (the same candidate may come).
        crossover_prob: Probability of each choice to come from the second parent.
        fill: Where the rest comes from when crossover finds too few new ones, as it does when the parents are much
            alike: ``'random'`` as in the paper, or ``'mutation'``, which is better over hundreds of epochs.
        init_candidates: Subnets, or subnet files, that the first epoch scores before random ones.

    Raises:
        UserError: No subnet fits the constraints; a bad constraint or option; fewer candidates than ``top_k`` or than
            children; an initial candidate that is not of the space or not within the constraints.
    """

    takes = ("constraints",)

    def __init__(
        self,
        space: SearchSpace,
        cost: Cost,
        constraints: Sequence[tuple[str, float, float]],
        seed: int = 0,
        max_epochs: int = 20,
        num_candidates: int = 50,
        top_k: int = 10,
        num_mutation: int = 25,
        num_crossover: int = 25,
        mutate_prob: float = 0.1,
        crossover_prob: float = 0.5,
        fill: str = "random",
        init_candidates: Sequence[Mapping[str, Any] | str | os.PathLike] | None = None,
    ) -> None:
        self.space, self.cost, self.seed = space, cost, seed
        self.max_epochs, self.num_candidates, self.top_k = max_epochs, num_candidates, top_k
        self.num_mutation, self.num_crossover = num_mutation, num_crossover
        self.mutate_prob, self.crossover_prob, self.fill = mutate_prob, crossover_prob, fill
        self._check_options()
        self._legal = LegalRows(space, cost, constraints)
        self._initial = self._initial_rows(init_candidates or ())
        self._visited = Visited(np.zeros((0, len(space)), dtype=np.int64))
        self._top: list[_Scored] = []
        self._history: list[dict[str, Any]] = []
        self._proposed: tuple[np.ndarray, dict[str, int]] | None = None
        if not len(self.ask()):
            raise self._legal.nothing_fits()

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The constraints, in the order in which they were given."""
        return self._legal.constraints

    @property
    def done(self) -> bool:
        """Whether all epochs are over, or no new subnet is found."""
        return not len(self.ask())

    def ask(self) -> np.ndarray:
        """The rows (n, D) of the next epoch, new and legal; (0, D) when done."""
        if self._proposed is None:
            self._proposed = self._propose()
        return self._proposed[0].copy()

    def tell(self, rows: np.ndarray, metrics: Sequence[Mapping[str, Any]]) -> None:
        """End the epoch.

        Args:
            rows: What :meth:`ask` returned.
            metrics: One mapping per row, in their order, with a finite ``'score'``; higher is better.

        Raises:
            UserError: A score is missing or not finite.
            ValueError: The rows are not the ones asked for, or the numbers of rows and metrics differ.
        """
        asked = self.ask()
        check_told(asked, rows, metrics)
        told = plain_metrics(metrics, lambda i: f"epoch {len(self._history) + 1}: the score of {self._name(asked[i])}")
        origins = self._proposed[1]
        first, full = len(self._rows), len(self._top) == self.top_k
        least = self._top[-1].metrics["score"] if full else -math.inf  # equal ones come after it
        scored = [_Scored(index, metric) for index, metric in enumerate(told, first) if metric["score"] > least]
        self._visited.add(asked)
        # One that is not among the best now will never be: its score stays, others only come. sorted() keeps ties.
        before = self._top[0].index if self._top else None
        self._top = sorted([*self._top, *scored], key=lambda entry: -entry.metrics["score"])[: self.top_k]
        best = self._top[0]
        same = best.index == before
        scores = [metric["score"] for metric in told]
        self._history.append(
            {
                "epoch": len(self._history) + 1,
                "evaluated": len(asked),
                **origins,
                "mean_score": math.fsum(scores) / len(scores),
                "best_so_far": best.metrics["score"],
                "costs": self._history[-1]["costs"] if same else costs_of(self.cost, self._rows[best.index]),
            }
        )
        self._proposed = None

    def results(self) -> list[Result]:
        """The best of all scored so far, the first one on ties; empty before the first epoch."""
        return self.top()[:1]

    def top(self) -> list[Result]:
        """The ``top_k`` best so far, the best first."""
        return [Result(None, self._rows[index].copy(), dict(metrics)) for index, metrics in self._top]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The epochs: epoch, evaluated (of mutation, crossover and random), mean_score, best_so_far and its costs."""
        return [dict(epoch) for epoch in self._history]

    def progress(self) -> tuple[float, str]:
        """The part of the epochs that is over, and the best so far."""
        epoch = len(self._history)
        if not epoch:
            return 0.0, f"epoch 0 of {self.max_epochs}"
        last = self._history[-1]
        costs = ", ".join(f"{name} {last['costs'][name]:,.12g}" for name, _, _ in self.constraints)
        text = f"epoch {epoch} of {self.max_epochs}, {len(self._rows)} subnets scored, best {last['best_so_far']:.6g}"
        text += f" ({costs})" if costs else ""
        if self.done:
            return 1.0, text if epoch == self.max_epochs else f"{text}; no new subnet is within the constraints"
        return epoch / self.max_epochs, text

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON data, from which :meth:`load_state_dict` goes on."""
        return {
            **self._identity(),
            "rows": self._rows.tolist(),
            "top": [{"index": index, "metrics": dict(metrics)} for index, metrics in self._top],
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``.

        Raises:
            UserError: It is of another search: names what differs (searcher, grid, constraints, seed, options, costs).
        """
        check_same_search(state, self._identity())
        try:
            rows = np.array(state["rows"], dtype=np.int64).reshape(-1, len(self.space))
            top = [_Scored(int(entry["index"]), dict(entry["metrics"])) for entry in state["top"]]
            history = [dict(epoch) for epoch in state["history"]]
            self.space.active(rows)  # refuses indices that are none
            then = history[-1]["costs"] if history else {}
            now = costs_of(self.cost, rows[top[0].index]) if history else {}
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"cannot resume the search: its state is damaged ({error!r})") from None
        for resource, value in then.items():
            if now.get(resource) != value:
                raise UserError(
                    f"cannot resume the search: its best subnet cost {value} {resource}, now it costs "
                    f"{now.get(resource)}; has the input size or the model changed?"
                )
        self._visited = Visited(rows)
        self._top, self._history, self._proposed = top, history, None

    def _identity(self) -> dict[str, Any]:
        options = ("max_epochs", "num_candidates", "top_k", "num_mutation", "num_crossover", "mutate_prob")
        return {
            "searcher": type(self).__name__,
            "grid": self.space.grid,
            "constraints": [[name, low, None if high == math.inf else high] for name, low, high in self.constraints],
            "seed": self.seed,
            **{name: getattr(self, name) for name in (*options, "crossover_prob", "fill")},
            "init_candidates": self._initial.tolist(),
        }

    @property
    def _rows(self) -> np.ndarray:
        """All that were scored, in that order."""
        return self._visited.rows

    def _propose(self) -> tuple[np.ndarray, dict[str, int]]:
        """The rows of the next epoch and how many come from where, drawn from the seed and the epoch alone."""
        mutated = crossed = drawn = self._rows[:0]
        if (epoch := len(self._history)) < self.max_epochs:
            rng = np.random.default_rng([self.seed, epoch])
            taken = Taken(self._visited.keys)
            top = self._rows[[entry.index for entry in self._top]]
            if epoch:
                # Where mutation fills up, many tries to cross parents that are alike would only take time.
                few = TRIES[:1] if self.fill == "mutation" else TRIES
                crossed = self._children(lambda n: self._crossings(rng, top, n), self.num_crossover, taken, few)
                number = self.num_mutation + (self.num_crossover - len(crossed) if self.fill == "mutation" else 0)
                mutated = self._children(lambda n: self._mutants(rng, top, n), number, taken)
            first = self._legal.new(self._initial, self.num_candidates, taken) if not epoch else self._rows[:0]
            missing = self.num_candidates - len(mutated) - len(crossed) - len(first)
            drawn = np.concatenate([first, self._legal.draw(rng, missing, taken, near=top)])
        rows = np.concatenate([mutated, crossed, drawn])
        return rows, {"mutation": len(mutated), "crossover": len(crossed), "random": len(drawn)}

    def _children(
        self, breed: Callable[[int], np.ndarray], n: int, taken: Taken, several: Sequence[int] = TRIES
    ) -> np.ndarray:
        """Up to ``n`` new and legal rows of those that ``breed`` draws, some at a time."""
        found = self._rows[:0]
        for tries in several:
            if len(found) < n:
                missing = n - len(found)
                found = np.concatenate([found, self._legal.new(breed(tries * missing), missing, taken)])
        return found

    def _mutants(self, rng: np.random.Generator, top: np.ndarray, n: int) -> np.ndarray:
        return self.space.mutate(rng, top[rng.integers(len(top), size=n)], self.mutate_prob)

    def _crossings(self, rng: np.random.Generator, top: np.ndarray, n: int) -> np.ndarray:
        a, b = top[rng.integers(len(top), size=(2, n))]
        return self.space.crossover(rng, a, b, self.crossover_prob)

    def _initial_rows(self, candidates: Sequence[Mapping[str, Any] | str | os.PathLike]) -> np.ndarray:
        rows = []
        if isinstance(candidates, str) or not isinstance(candidates, Sequence):
            raise UserError(f"init_candidates={candidates!r}: give a list of subnet files, or of their choices")
        for i, candidate in enumerate(candidates):
            where = f"init_candidates[{i}]"
            subnet = candidate if isinstance(candidate, Mapping) else read_subnet(candidate, self.space).subnet
            row = self.space.index(subnet, where)
            if self._legal.violation(row[None])[0]:
                costs = costs_of(self.cost, row)
                found = ", ".join(f"{costs[name]:,.12g} {name}" for name, _, _ in self.constraints)
                raise UserError(f"{where} is outside of the constraints: it has {found}; leave it out or widen them")
            rows.append(row)
        if len(rows) > self.num_candidates:
            raise UserError(
                f"{len(rows)} init_candidates are more than num_candidates={self.num_candidates}; give fewer of them"
            )
        return np.array(rows, dtype=np.int64).reshape(-1, len(self.space))

    def _check_options(self) -> None:
        smallest = {"max_epochs": 1, "num_candidates": 1, "top_k": 1, "num_mutation": 0, "num_crossover": 0, "seed": 0}
        for name, low in smallest.items():
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise UserError(f"{name} must be a whole number of {low} or more, got {short(value)}")
        check_probabilities(self, ("mutate_prob", "crossover_prob"))
        if self.fill not in ("random", "mutation"):
            raise UserError(f"fill must be 'random' or 'mutation', got {short(self.fill)}")
        if self.top_k > self.num_candidates:
            raise UserError(
                f"num_candidates={self.num_candidates} is smaller than top_k={self.top_k}: the first epoch has too few "
                f"to keep; give num_candidates of {self.top_k} or more, or a smaller top_k"
            )
        if (children := self.num_mutation + self.num_crossover) > self.num_candidates:
            raise UserError(
                f"num_mutation={self.num_mutation} and num_crossover={self.num_crossover} make {children} children, "
                f"more than num_candidates={self.num_candidates}; lower them or give more candidates"
            )

    def _name(self, row: np.ndarray) -> str:
        return short(self.space.subnet(row).to_dict())
