"""A latency table from measurements: every distinct part once, whole networks for what is always there, and a check.

Shape: S subnets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError

from .cells import Cell
from .latency_parts import Job, draw_networks, plan_networks, plan_nothing, plan_parts
from .latency_table import NETWORK, Correction, LatencyTable
from .measure import Timer, interleaved, spread
from .measurement_log import Journal

CHUNK = 32  # timers that exist at a time
FOR_BASE = 5  # whole networks per resolution that say what is always there takes


@dataclass(frozen=True)
class Report:
    """A table, and how well it predicts whole networks that it was not made from.

    Attributes:
        table: The table.
        predicted, measured: Milliseconds (S,) of the networks; predicted without a correction.
        entries, distinct: Entries of the table, and the measurements that they come from.
        spread: Of the repeats of one measurement, in the median; see :func:`~mmrazor_lite.estimators.measure.spread`.
    """

    table: LatencyTable
    predicted: np.ndarray
    measured: np.ndarray
    entries: int
    distinct: int
    spread: float

    def errors(self, corrected: bool = False) -> np.ndarray:
        """Relative errors (S,), without a sign; ``corrected``: with the correction that the table states."""
        fix = self.table.correction if corrected else None
        predicted = self.predicted if fix is None else fix.offset + fix.factor * self.predicted
        return np.abs(predicted - self.measured) / self.measured

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of predicted and measured times."""
        return rank_correlation(self.predicted, self.measured)


def build_table(
    mutator: Any,
    bench: Any,
    journal: str | os.PathLike,
    *,
    checks: int = 20,
    repeats: int = 11,
    min_seconds: float = 0.01,
    seed: int = 0,
    apply_correction: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure a table for the space of ``mutator``.

    A part is measured once for all places that have the same structure and read maps of one size. What a run of nothing
    takes is taken off. The base is the median, over a few random networks per resolution, of what a whole network takes
    beyond its parts; it is below 0 where parts take longer alone than inside a network.

    Args:
        mutator: A prepared ``NasMutator``.
        bench: Gives ``facts()`` and ``timer(module, size)``, see :class:`~mmrazor_lite.estimators.measure.Bench`.
        journal: File of what has been measured; one that exists is continued.
        checks: Random networks that the table is checked on, end to end; 3 or more.
        repeats, min_seconds: See :func:`~mmrazor_lite.estimators.measure.interleaved`.
        seed: Of the networks drawn and of the order of measurements.
        apply_correction: Let the table apply the linear correction that the check suggests.
        progress: Called with the number of measurements done and that of all.

    Raises:
        UserError: A space of widths, a number out of range, or a journal of other measurements.
    """
    if not hasattr(mutator, "part"):
        raise UserError(
            f"a latency table needs the choices of a NasMutator, this model has a {type(mutator).__name__}, whose "
            "widths reach through the network: there is no part to measure alone"
        )
    for name, value, lowest in (("checks", checks, 3), ("repeats", repeats, 1), ("seed", seed, 0)):
        if type(value) is not int or value < lowest:
            raise UserError(f"{name}={value!r} must be a whole number, {lowest} or more")
    space, facts = mutator.search_space, {**bench.facts(), NETWORK: mutator.cost_model.fingerprint}
    jobs: dict[str, Job] = {}
    nothing = plan_nothing(jobs)
    parts = plan_parts(mutator, jobs)
    distinct = len(jobs) - 1
    *base_rows, check_rows = draw_networks(space, FOR_BASE, checks, seed)
    networks = plan_networks(mutator, jobs, [*base_rows, check_rows])
    book = Journal(journal, {"space": space.fingerprint, **facts})
    _measure(jobs, bench, book, repeats, min_seconds, seed, progress)

    ms = {key: float(np.median(book.times[key])) for key in jobs}
    own = {key: max(value - ms[nothing], 0.0) for key, value in ms.items()}
    cells = [Cell(part.name, part.choices, part.values(own, space)[..., None]) for part in parts]
    sized = tuple(name for name, choice in space.items() if choice.kind == "resolution")
    shape = (*(len(space[name].candidates) for name in sized), 1)
    parts_only = LatencyTable(space, Cell("", sized, np.zeros(shape)), cells)
    times = [np.array([ms[key] for key in keys]) for keys in networks]
    rest = [np.median(whole - parts_only(rows)) for whole, rows in zip(times, base_rows, strict=False)]
    base = Cell("", sized, np.reshape(rest, shape))
    measured, predicted = times[-1], LatencyTable(space, base, cells)(check_rows)
    noise = float(np.median([spread(book.times[key]) for key in jobs]))
    table = LatencyTable(
        space,
        base,
        cells,
        {**facts, "repeats": min(len(book.times[key]) for key in jobs), "spread": round(noise, 4)},
        suggest(predicted, measured, apply_correction),
    )
    return Report(table, predicted, measured, sum(part.keys.size for part in parts), distinct, noise)


def suggest(predicted: np.ndarray, measured: np.ndarray, applied: bool) -> Correction | None:
    """The line that fits measured times (S,) over predicted ones best; None where that is no rising line."""
    if np.ptp(predicted) == 0:
        return None
    factor, offset = np.polyfit(predicted, measured, 1).tolist()
    return Correction(offset, factor, applied) if factor > 0 else None


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays (S,), equal values at their mean rank; NaN where one is constant."""
    ranks = [(x[:, None] > x).sum(1) + (x[:, None] >= x).sum(1) for x in (a, b)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _measure(
    jobs: Mapping[str, Job],
    bench: Any,
    book: Journal,
    repeats: int,
    min_seconds: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Measure what the journal lacks, in a random order, a few at a time."""
    rng = np.random.default_rng([seed, 2])
    todo = [key for key in rng.permutation(sorted(jobs)).tolist() if key not in book]
    for start in range(0, len(todo), CHUNK):
        keys = todo[start : start + CHUNK]
        timers: dict[str, Timer] = {key: bench.timer(jobs[key].make(), jobs[key].size) for key in keys}
        for key, times in interleaved(timers, repeats, min_seconds, rng).items():
            book.add(key, times, f"{jobs[key].label} on {'x'.join(map(str, jobs[key].size))}")
        if progress is not None:
            progress(len(jobs) - len(todo) + start + len(keys), len(jobs))
