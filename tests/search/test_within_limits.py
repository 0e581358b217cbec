"""Rows within limits that are met by one subnet in many millions: what the walk finds there, and how far it gets.

Draws are of fixed seeds. What is found is compared with what was found when the walk was tuned: fewer is worse.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from costs import CostOfRows

from mmrazor_lite.search.within_limits import LegalRows
from mmrazor_lite.subnet import Choice, SearchSpace

WANTED = 50


def space_of(choices: int, candidates: int) -> SearchSpace:
    return SearchSpace([Choice(f"block{i:03}", tuple(range(candidates)), kind="value") for i in range(choices)])


def worths(space: SearchSpace, seed: int) -> np.ndarray:
    """What each candidate adds to a cost, (choices, candidates)."""
    return np.random.default_rng(seed).integers(1, 1000, (len(space), len(next(iter(space.values())).candidates)))


def sums(*tables: np.ndarray):
    names = ("flops", "params")
    return lambda rows: {k: t[np.arange(len(t)), rows].sum(1) for k, t in zip(names, tables, strict=False)}


def found(space: SearchSpace, cost, limits: list[tuple], near: np.ndarray | None = None) -> list[int]:
    """How many of the rows wanted are found, for three seeds; all are new and within the limits."""
    legal, numbers = LegalRows(space, CostOfRows(space, cost), limits), []
    for seed in range(3):
        start = np.zeros((0, len(space)), np.int64) if near is None else near
        rows = legal.draw(np.random.default_rng(seed), WANTED, set(), start)
        assert len(np.unique(rows, axis=0)) == len(rows) and not legal.violation(rows).any()
        numbers.append(len(rows))
    return numbers


def test_how_far_outside_is_in_parts_of_each_limit():
    space = space_of(2, 10)
    rows = np.array([[0, 0], [2, 3], [9, 5], [4, 9]])

    def cost(rows):
        return {"flops": 100 * rows[:, 0], "params": rows[:, 1]}

    both = LegalRows(space, CostOfRows(space, cost), [("flops", 200, 400), ("params", 0, 5)])
    assert both.violation(rows) == pytest.approx([200 / 400, 0, 500 / 400, 4 / 5])
    assert both.within(rows).tolist() == [[2, 3]]
    lower = LegalRows(space, CostOfRows(space, cost), [("flops", 300, math.inf), ("params", 5, math.inf)])
    assert lower.violation(rows) == pytest.approx([1 + 1, 100 / 300 + 2 / 5, 0, 0])


def test_it_begins_near_the_rows_that_are_given():
    """An island: nothing outside of it says where it is."""
    space = space_of(20, 4)
    known = space.sample_indices(np.random.default_rng(5), 1)

    def cost(rows):
        return {"far": ((rows != known).sum(1) > 3).astype(float)}

    limits = [("far", 0, 0)]
    assert found(space, cost, limits) == [0, 0, 0]
    assert found(space, cost, limits, near=known) == [WANTED] * 3


def test_resources_of_different_sizes_count_alike():
    """Fewest flops leave few params, a narrow range of which is asked for, a thousand times as large in numbers."""
    space = space_of(30, 6)
    flops, params = worths(space, 1), 1000 * worths(space, 2)
    least = params[np.arange(30), flops.argmin(1)].sum()
    limits = [("flops", 0, 1.3 * flops.min(1).sum()), ("params", 1.15 * least, 1.15 * least + 500)]
    assert sum(found(space, sums(flops, params), limits)) >= 20  # of 24


def test_it_goes_on_while_it_gets_nearer():
    """One value of the flops, just above the smallest."""
    space = space_of(40, 8)
    flops = worths(space, 1)
    value = flops.min(1).sum() + 200
    assert sum(found(space, sums(flops), [("flops", value, value)])) >= 40  # of 46


def test_all_choices_change_together_where_one_at_a_time_is_too_slow():
    """As many widths as a network with any of them has: the best of each choice alone is the best of all."""
    space = space_of(50, 60)
    tables = worths(space, 1), worths(space, 2)
    best = sum(tables).argmin(1)[None]
    limits = [(name, 0, 1.2 * values[0]) for name, values in sums(*tables)(best).items()]
    assert found(space, sums(*tables), limits) == [WANTED] * 3
