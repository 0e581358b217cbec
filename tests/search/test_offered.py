"""The widths that a searcher is offered: those that pay."""

from __future__ import annotations

import numpy as np
from costs import CostOfRows

from mmrazor_lite.search.offered import OfferedCost, offered, that_pay
from mmrazor_lite.subnet import Choice, SearchSpace

SPACE = SearchSpace([Choice("a", range(4, 65, 4)), Choice("b", (10, 16, 30, 33, 64, 70)), Choice("c", (3, 5))])
COST = CostOfRows(SPACE, lambda rows: {"macs": SPACE.numeric(rows).prod(1)})


def test_of_widths_that_go_up_to_one_multiple_the_largest_pays():
    found = offered(SPACE, that_pay(SPACE, {"a": 16, "b": 32}))
    assert {name: tuple(choice.candidates) for name, choice in found.items()} == {
        "a": (16, 32, 48, 64),
        "b": (30, 64, 70),  # the full width always
        "c": (3, 5),
    }
    assert found.fingerprint == SPACE.fingerprint and found.max() == SPACE.max()


def test_rows_cost_what_their_subnets_do():
    found = offered(SPACE, that_pay(SPACE, {"a": 16, "b": 32}))
    cost, rows = OfferedCost(found, COST, SPACE), found.sample_indices(np.random.default_rng(0), 50)
    whole = cost.whole(rows)
    assert [found.subnet(row) for row in rows] == [SPACE.subnet(row) for row in whole]
    assert np.array_equal(cost(rows)["macs"], COST(whole)["macs"])
    assert cost.max() == {"macs": 64 * 70 * 5} and cost.min() == {"macs": 16 * 30 * 3}


def test_milliseconds_that_fall_as_a_width_grows():
    times = np.array([1.8, 1.0, 2.2, 1.2])
    space = SearchSpace([Choice("a", (8, 16, 24, 32)), Choice("b", (1, 2))])
    every = CostOfRows(space, lambda rows: {"macs": rows.sum(1), "latency": times[rows[:, 0]] + rows[:, 1]})
    some = offered(space, [np.array([0, 1, 2]), np.array([0, 1])])
    for offering in (space, some):
        cost = OfferedCost(offering, every, space)
        assert (cost.extreme("latency", False), cost.extreme("latency", True)) == (1.0, 3.2)
        assert cost.min()["latency"] == 1.0
        assert cost.max()["latency"] == (2.2 if offering is space else 3.2), "shares are of the largest widths"
        assert cost.extreme_row("latency", False).tolist() == [1, 0]
        assert cost.extreme_row("macs", True).tolist() == [len(offering["a"].candidates) - 1, 1]
