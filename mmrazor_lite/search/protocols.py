"""The one interface between the search loop and every searcher: ask for rows, tell their scores.

Shapes: n rows, D choices; see :mod:`mmrazor_lite.subnet.space` for what a row is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.subnet import SearchSpace
from mmrazor_lite.subnet.choice import plain_scalar


class Budget(NamedTuple):
    """An upper limit: unscaled counts and bytes, milliseconds for latency."""

    resource: str
    limit: float


class Constraint(NamedTuple):
    """A range, both ends included: unscaled counts and bytes, milliseconds for latency."""

    resource: str
    low: float = 0.0
    high: float = math.inf


class Result(NamedTuple):
    """The row found for a budget, or (``None``) within all constraints of the search; its metrics as they were told."""

    budget: Budget | None
    row: np.ndarray
    metrics: dict[str, Any]


def check_told(asked: np.ndarray, rows: np.ndarray, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``ValueError`` unless ``rows`` (n, D) are the ones ``asked`` for, with one mapping of metrics each."""
    if not len(asked) or not np.array_equal(rows, asked):
        raise ValueError("tell() takes the rows that ask() returned last")
    if len(metrics) != len(asked):
        raise ValueError(f"{len(asked)} rows were asked for, metrics of {len(metrics)} were told")


def asked_of(searcher: Any, space: SearchSpace) -> np.ndarray:
    """The rows (n, D) that a searcher asks for.

    Raises:
        UserError: There are none, or they are no rows of the space.
    """
    who, asked = f"search: the {type(searcher).__name__}", searcher.ask()
    try:
        rows = np.asarray(asked)
    except ValueError:  # of several lengths
        rows = np.empty(0, object)
    if not rows.size and rows.dtype != object:
        raise UserError(f"{who} asks for no subnet, and is not done")
    if rows.ndim != 2 or rows.shape[1] != len(space) or rows.dtype.kind not in "iu":
        raise UserError(
            f"{who} asks for {short(asked)}: rows (n, {len(space)}) of whole numbers are needed, the index of a "
            "candidate for every choice"
        )
    sizes = np.array([len(choice.candidates) for choice in space.values()])
    wrong = (rows < 0) | (rows >= sizes)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        name = list(space)[column]
        raise UserError(
            f"{who} asks for candidate {rows[row, column]} of choice '{name}', which has {sizes[column]}: an index is "
            f"from 0 to {sizes[column] - 1}"
        )
    return rows


def state_of(searcher: Any) -> dict[str, Any]:
    """The state of a searcher, which is plain JSON data.

    Raises:
        UserError: It is not.
    """
    state = searcher.state_dict()
    try:
        if isinstance(state, dict):
            json.dumps(state, allow_nan=False)
            return state
        problem = f"it is {short(state)}"
    except (TypeError, ValueError) as error:
        problem = str(error).splitlines()[0]
    raise UserError(
        f"search: state_dict() of the {type(searcher).__name__} must give a dict of plain JSON data: {problem}"
    )


def check_same_search(state: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Refuse a saved ``state`` that is of another search than ``mine`` identifies.

    Raises:
        UserError: Names the first thing that differs, and both values.
    """
    for key, value in mine.items():
        if state.get(key) != value:
            raise UserError(
                f"cannot resume the search: {key} was {short(state.get(key))}, now it is {short(value)}; start anew in "
                "another work directory, or go back to the config it was started with"
            )


def check_probabilities(searcher: Any, names: Sequence[str]) -> None:
    """Raise ``UserError`` unless each of these options of ``searcher`` is a number from 0 to 1."""
    for name in names:
        value = getattr(searcher, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"{name} must be a probability from 0 to 1, got {short(value)}")


def plain_metrics(metrics: Sequence[Mapping[str, Any]], what: Callable[[int], str]) -> list[dict[str, Any]]:
    """The metrics of some rows as plain data.

    Args:
        metrics: Name to value for each row, with ``'score'``.
        what: Gives the beginning of an error for the row at a position; called for an error alone, as it takes time.

    Raises:
        UserError: A score is missing or no finite number.
    """
    told = []
    for index, metric in enumerate(metrics):
        score = metric.get("score")
        if type(score) is float and len(metric) == 1:  # what a predictor tells, ten thousands of times
            plain = {"score": score}
        else:
            plain = {str(key): plain_scalar(value) for key, value in metric.items()}
            score = plain.get("score")
        if type(score) not in (int, float) or not math.isfinite(score):
            raise UserError(f"{what(index)} must be a finite number, got {short(score)}")
        told.append(plain)
    return told


@runtime_checkable
class Searcher(Protocol):
    """Ask and tell.

    ``ask`` depends on the state alone, so that every process of a run, and a run that was resumed, asks the same. The
    state is plain JSON data and changes in ``tell`` only.

    A class of searchers is called with ``space`` (:class:`SearchSpace`), ``cost`` (:class:`Cost`), the limits under the
    names in ``takes``, its own options, and ``seed`` where it has one.

    Attributes:
        takes: Which limits, if any: ``'budgets'``, a list of :class:`Budget`, each to be answered; ``'constraints'``, a
            list of :class:`Constraint`, which hold for every result.
    """

    takes: ClassVar[tuple[Literal["budgets", "constraints"], ...]]

    @property
    def done(self) -> bool:
        """Whether all results are there."""

    def ask(self) -> np.ndarray:
        """Rows (n, D) to score next, canonical and none twice; none when done."""

    def tell(self, rows: np.ndarray, metrics: Sequence[Mapping[str, Any]]) -> None:
        """Take the metrics of the rows asked for, in their order; ``'score'`` is compared, higher is better."""

    def results(self) -> list[Result]:
        """What was found so far, in the order in which the budgets were given; the best one where there are none."""

    def progress(self) -> tuple[float, str]:
        """An estimate of the part done, from 0 to 1, and a line for people."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs to go on from here."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; refuses the state of another search."""


def run(searcher: Searcher, score: Callable[[np.ndarray], float]) -> list[Result]:
    """Search to the end, in one process, with nothing kept on the way.

    Args:
        score: Of a row (D,); higher is better.

    Raises:
        UserError: A score is not finite, or the searcher asks for nothing and is not done.
    """
    while not searcher.done:
        rows = np.asarray(searcher.ask())
        if not len(rows):
            raise UserError(f"search: the {type(searcher).__name__} asks for no subnet, and is not done")
        searcher.tell(rows, [{"score": score(row)} for row in rows])
    return searcher.results()


@runtime_checkable
class HasHistory(Protocol):
    """A searcher that keeps a record of its steps, which go into the log of the search."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """One mapping of plain data for each ``tell``."""


@runtime_checkable
class HasFront(Protocol):
    """A searcher of the front of score against the cost in one ``resource``."""

    resource: str

    def front(self) -> list[Result]:
        """What nothing is both cheaper and better than, the cheapest first."""
