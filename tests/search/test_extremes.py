"""The least and the most of costs that fall where a width grows, against every row of a small space."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from costs import CostOfRows

from mmrazor_lite.search.cost import MEASURED
from mmrazor_lite.search.extremes import extreme_of, settled
from mmrazor_lite.subnet import Choice, SearchSpace

SIZES = (4, 1, 6, 3)
SPACE = SearchSpace([Choice(f"w{i}", range(8, 8 * size + 1, 8), kind="width") for i, size in enumerate(SIZES)])
ROWS = np.array(list(itertools.product(*map(range, SIZES))))


@pytest.mark.parametrize("largest", [False, True])
def test_choices_that_add_up_are_settled_exactly(largest):
    rng, best = np.random.default_rng(0), np.max if largest else np.min
    for _ in range(20):
        parts = [rng.normal(size=size) for size in SIZES]

        def values(rows, parts=parts):
            return sum(part[column] for part, column in zip(parts, rows.T, strict=True))

        options = [np.arange(size) for size in SIZES]
        starts = ROWS[rng.integers(len(ROWS), size=2)]
        assert values(settled(starts, options, values, largest)[None]) == best(values(ROWS))
        options[2] = np.arange(0)
        found = settled(starts[:1], options, values, largest)
        assert found[2] == starts[0][2] and values(found[None]) == best(values(ROWS[ROWS[:, 2] == found[2]]))


@pytest.mark.parametrize("largest", [False, True])
def test_no_single_choice_improves_what_is_settled(largest):
    rng, sign = np.random.default_rng(1), 1 if largest else -1
    for _ in range(20):
        table = rng.normal(size=SIZES)

        def values(rows, table=table):
            return table[tuple(rows.T)]

        found = settled(ROWS[:1], [np.arange(size) for size in SIZES], values, largest)
        near = ROWS[(found != ROWS).sum(1) == 1]
        assert sign * values(found[None])[0] >= (sign * values(near)).max()


@pytest.mark.parametrize("largest", [False, True])
def test_of_some_widths_what_is_measured_is_looked_for_and_what_is_counted_is_at_an_end(largest):
    rng, best = np.random.default_rng(2), np.max if largest else np.min
    for _ in range(20):
        parts = [rng.gamma(2.0, size=size) for size in SIZES]

        def costs(rows, parts=parts):
            return {MEASURED: sum(p[c] for p, c in zip(parts, rows.T, strict=True)), "macs": rows.sum(1)}

        cost = CostOfRows(SPACE, costs)
        offered = [np.sort(rng.permutation(size)[: rng.integers(1, size + 1)]) for size in SIZES]
        rows = np.array(list(itertools.product(*offered)))
        row = extreme_of(cost, MEASURED, largest, offered)
        assert row.tolist() in rows.tolist() and cost(row[None])[MEASURED] == best(cost(rows)[MEASURED])
        assert extreme_of(cost, "macs", largest, offered).tolist() == [line[-1 if largest else 0] for line in offered]
