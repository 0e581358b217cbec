"""A latency table from measurements: every distinct part once, whole networks for what is always there, and a check."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .cells import Cell
from .latency_measuring import check_numbers, facts_of_repeats, measure
from .latency_parts import HasParts, Job, draw_networks, plan_networks, plan_nothing, plan_parts
from .latency_report import Report, rank_correlation, suggest
from .latency_table import NETWORK, LatencyTable
from .latency_widths import build_width_table
from .measure import Measures
from .measurement_log import Journal

__all__ = ["Report", "build_table", "rank_correlation", "suggest"]

FOR_BASE = 5  # whole networks per resolution that say what is always there takes


def build_table(
    mutator: Any,
    bench: Measures,
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
    beyond its parts; it is below 0 where parts take longer alone than inside a network. Of a network whose widths were
    found by tracing, the ops are measured, see :func:`~mmrazor_lite.estimators.latency_widths.build_width_table`.

    Args:
        mutator: A prepared mutator.
        bench: See :class:`~mmrazor_lite.estimators.measure.Measures`.
        journal: File of what has been measured; one that exists is continued.
        checks: Random networks that the table is checked on, end to end; 3 or more.
        repeats, min_seconds: See :class:`~mmrazor_lite.estimators.steady_rounds.Steady`.
        seed: Of the networks drawn and of the order of measurements.
        apply_correction: Let the table apply the linear correction that the check suggests.
        progress: Called with the number of measurements done and that of all.

    Raises:
        UserError: Nothing to choose, a number out of range, or a journal of other measurements.
    """
    check_numbers(checks, repeats, seed)
    if not isinstance(mutator, HasParts):
        return build_width_table(
            mutator,
            bench,
            journal,
            checks=checks,
            repeats=repeats,
            min_seconds=min_seconds,
            seed=seed,
            apply_correction=apply_correction,
            progress=progress,
        )
    space, facts = mutator.search_space, {**bench.facts(), NETWORK: mutator.cost_model.fingerprint}
    jobs: dict[str, Job] = {}
    nothing = plan_nothing(jobs)
    parts = plan_parts(mutator, jobs)
    distinct = len(jobs) - 1
    *base_rows, check_rows = draw_networks(space, FOR_BASE, checks, seed)
    networks = plan_networks(mutator, jobs, [*base_rows, check_rows])
    book = Journal(journal, {"space": space.fingerprint, **facts})
    measure(jobs, bench, book, repeats, min_seconds, seed, progress)

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
    of_repeats, fix = facts_of_repeats(jobs, book), suggest(predicted, measured, apply_correction)
    table = LatencyTable(space, base, cells, {**facts, **of_repeats}, fix)
    return Report(table, predicted, measured, sum(part.keys.size for part in parts), distinct)
