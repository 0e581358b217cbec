"""NSGA-II: sorting and crowding against their definitions, answers against all subnets, and going on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from costs import CostOfRows

from mmrazor_lite.errors import UserError
from mmrazor_lite.search import Budget, FrontSearcher, Searcher
from mmrazor_lite.search.front import _tournament, crowding, non_dominated, ranks, survivors
from mmrazor_lite.subnet import Choice, SearchSpace

SPACE = SearchSpace([Choice(f"layer{i}", (1, 2, 4), kind="width") for i in range(6)])
ALL = np.array(np.meshgrid(*[range(3)] * 6)).reshape(6, -1).T
PULL = np.random.default_rng(0).uniform(0.2, 3, (6, 3)).cumsum(1)


def cost(rows):
    return {"macs": 100 * SPACE.numeric(rows).sum(1), "params": SPACE.numeric(rows).prod(1)}


def score(rows) -> np.ndarray:
    return PULL[np.arange(6), rows].sum(1) + 0.3 * rows[:, 0] * rows[:, 5]


def search(searcher: FrontSearcher, steps: int | None = None) -> FrontSearcher:
    while not searcher.done and steps != 0:
        rows = searcher.ask()
        searcher.tell(rows, [{"score": value, "also": 1.0} for value in score(rows).tolist()])
        steps = None if steps is None else steps - 1
    return searcher


def make(**changes) -> FrontSearcher:
    options = {"budgets": [("macs", 1200), ("macs", 2000)], "generations": 15, "population": 24, **changes}
    return FrontSearcher(SPACE, CostOfRows(SPACE, cost), **options)


def dominated(scores, prices, i) -> bool:
    better = (scores >= scores[i]) & (prices <= prices[i]) & ((scores > scores[i]) | (prices < prices[i]))
    return bool(better.any())


@pytest.mark.parametrize("seed", range(5))
def test_sorting_by_its_definition(seed):
    rng = np.random.default_rng(seed)
    scores, prices = rng.integers(0, 6, (2, 40)).astype(float)  # many ties
    expected = [not dominated(scores, prices, i) for i in range(40)]
    assert non_dominated(scores, prices).tolist() == expected
    rank = ranks(scores, prices)
    for front in range(rank.max() + 1):
        left = np.flatnonzero(rank >= front)
        own = [i for i in range(len(left)) if not dominated(scores[left], prices[left], i)]
        assert np.flatnonzero(rank == front).tolist() == left[own].tolist()


def test_crowding_by_hand():
    scores, prices = np.array([0.0, 1.0, 4.0, 10.0, 5.0]), np.array([0.0, 2.0, 3.0, 10.0, 10.0])
    rank = ranks(scores, prices)
    assert rank.tolist() == [0, 0, 0, 0, 1]
    found = crowding(scores, prices, rank)
    assert found[[0, 3, 4]].tolist() == [np.inf] * 3
    assert found[1] == pytest.approx(4 / 10 + 3 / 10) and found[2] == pytest.approx(9 / 10 + 8 / 10)
    assert survivors(scores, prices, 3).tolist() == [0, 3, 2]


def test_parents_win_by_front_and_then_by_room_around_them():
    rank, crowd = np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 5.0, np.inf])
    winners = _tournament(np.random.default_rng(0), rank, crowd, 16_000)
    shares = np.bincount(winners, minlength=4) / 16_000
    # Of two drawn alike: 1 beats all, 0 all but 1, 3 only 2, and 2 meets itself.
    assert shares == pytest.approx([5 / 16, 7 / 16, 1 / 16, 3 / 16], abs=0.02)


def test_is_a_searcher():
    assert isinstance(make(), Searcher)


def test_every_budget_is_answered_as_all_subnets_would():
    searcher = search(make(generations=40))
    scores, prices = score(ALL), cost(ALL)["macs"]
    misses = 0
    for limit in range(600, 2401, 100):
        found = searcher.answer(Budget("macs", limit))
        assert cost(found.row[None])["macs"][0] <= limit
        assert found.metrics["score"] == pytest.approx(score(found.row[None])[0]) and found.metrics["also"] == 1.0
        best = scores[prices <= limit].max()
        misses += found.metrics["score"] < best - 1e-9
        assert found.metrics["score"] >= best - 0.03 * np.ptp(scores)
    assert misses <= 4
    answers = searcher.results()
    assert [answer.budget for answer in answers] == [("macs", 1200.0), ("macs", 2000.0)]
    for answer in answers:
        assert np.array_equal(answer.row, searcher.answer(answer.budget).row)


def test_the_front_is_what_nothing_beats():
    searcher = search(make())
    front = searcher.front()
    prices = [cost(result.row[None])["macs"][0] for result in front]
    scores = [result.metrics["score"] for result in front]
    assert prices == sorted(prices) and prices[0] == 600  # the cheapest one is always on it
    assert all(not dominated(np.array(scores), np.array(prices), i) for i in range(len(front)))


def test_better_than_drawing_at_random():
    """At equal numbers of scores, at every budget, in a space too large to be listed."""
    space = SearchSpace([Choice(f"layer{i}", (1, 2, 4), kind="width") for i in range(24)])
    pull = np.random.default_rng(1).uniform(0.2, 3, (24, 3)).cumsum(1)

    def price(rows):
        return {"macs": space.numeric(rows).sum(1)}

    def value(rows):
        return pull[np.arange(24), rows].sum(1)

    for seed in range(3):
        searcher = FrontSearcher(
            space, CostOfRows(space, price), [("macs", 60)], seed=seed, generations=20, population=40
        )
        while not searcher.done:
            rows = searcher.ask()
            searcher.tell(rows, [{"score": one} for one in value(rows).tolist()])
        drawn = space.sample_indices(np.random.default_rng(seed), 20 * 40)
        for limit in (40, 50, 60, 80):
            inside = price(drawn)["macs"] <= limit
            best = value(drawn[inside]).max() if inside.any() else -np.inf
            assert searcher.answer(Budget("macs", limit)).metrics["score"] > best


def test_no_subnet_is_asked_for_twice_and_asking_changes_nothing():
    searcher, seen = make(generations=60), []
    while not searcher.done:
        rows = searcher.ask()
        assert np.array_equal(rows, searcher.ask())
        seen += [row.tobytes() for row in rows]
        searcher.tell(rows, [{"score": value} for value in score(rows).tolist()])
    assert len(set(seen)) == len(seen) <= len(ALL)


def test_the_seed_decides_what_is_drawn():
    first, again, other = (search(make(seed=seed), steps=3).state_dict()["rows"] for seed in (1, 1, 2))
    assert first == again and first[2:] != other[2:]  # the first two are the ends


def test_goes_on_as_if_nothing_had_been():
    whole = search(make(seed=3))
    part = search(make(seed=3), steps=6)
    state = json.loads(json.dumps(part.state_dict()))
    again = make(seed=3, budgets=[("macs", 900)])  # the front answers other budgets too
    again.load_state_dict(state)
    search(again)
    assert again.state_dict() == whole.state_dict()


@pytest.mark.parametrize("change", [{"seed": 1}, {"population": 20}, {"budgets": [("params", 50)]}])
def test_another_search_is_refused(change):
    state = search(make(), steps=2).state_dict()
    with pytest.raises(UserError, match="cannot resume the search"):
        make(**change).load_state_dict(state)


def test_a_damaged_state_is_refused():
    state = search(make(), steps=2).state_dict()
    for damage in ({"rows": state["rows"][:-1]}, {"alive": [10**6]}, {"metrics": [{}]}):
        with pytest.raises(UserError, match="damaged"):
            make().load_state_dict({**state, **damage})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": []}, "give budgets of one, got nothing"),
        ({"budgets": [("macs", 900), ("params", 5)]}, "got macs, params"),
        ({"budgets": [("mac", 900)]}, "unknown resource 'mac'"),
        ({"budgets": [("macs", 500)]}, "no subnet has 500 macs or less; the cheapest one has 600"),
        ({"population": 2}, "population must be a whole number of 4"),
        ({"mutate_prob": 2}, "mutate_prob must be a probability"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(UserError, match=message):
        make(**change)


def test_a_budget_outside_of_the_front_says_its_range():
    with pytest.raises(UserError, match="from 600 to 2,400"):
        search(make(generations=30)).answer(Budget("macs", 599))


@pytest.mark.parametrize("value", [float("nan"), None, "high", True])
def test_scores_that_are_none(value):
    searcher = make()
    rows = searcher.ask()
    with pytest.raises(UserError, match="finite number"):
        searcher.tell(rows, [{"score": 1.0}] * (len(rows) - 1) + [{"score": value}])
    assert np.array_equal(searcher.ask(), rows)


def test_the_cheapest_is_not_the_first_candidate():
    """As latency tables have it: narrow is not fast."""
    slow_first = np.random.default_rng(1).permuted(np.tile([5.0, 1.0, 3.0], (6, 1)), axis=1)

    def latency(rows):
        return {"macs": rows.sum(1), "latency": slow_first[np.arange(6), rows].sum(1)}

    prices = latency(ALL)["latency"]
    least = float(prices.min())
    assert least < latency(np.zeros((1, 6), np.int64))["latency"][0]
    with pytest.raises(UserError, match=rf"cheapest one has {least:g}"):
        FrontSearcher(SPACE, CostOfRows(SPACE, latency), [("latency", 0.9 * least)])
    searcher = FrontSearcher(SPACE, CostOfRows(SPACE, latency), [("latency", least)], generations=3, population=8)
    (found,) = search(searcher).results()
    assert latency(found.row[None])["latency"][0] == least


def test_constraints_hold_for_all_that_is_scored():
    limit = 64
    within = cost(ALL)["params"] <= limit
    budgets = [("macs", 1200), ("macs", 1600)]
    searcher = FrontSearcher(
        SPACE, CostOfRows(SPACE, cost), budgets, generations=30, population=24, constraints=[("params", 0, limit)]
    )
    while not searcher.done:
        rows = searcher.ask()
        assert (cost(rows)["params"] <= limit).all()
        searcher.tell(rows, [{"score": value} for value in score(rows).tolist()])
    for found, (_, most) in zip(searcher.results(), budgets, strict=True):
        best = score(ALL[within & (cost(ALL)["macs"] <= most)]).max()
        assert found.metrics["score"] == pytest.approx(best)


def test_a_budget_that_the_constraints_leave_no_subnet():
    given = {"constraints": [("params", 4000, np.inf)]}  # nearly all at their widest
    with pytest.raises(UserError, match="no subnet with macs from 0 to 1,200 and params from 4,000 was found"):
        FrontSearcher(SPACE, CostOfRows(SPACE, cost), [("macs", 1200)], **given)
    with pytest.raises(UserError, match="the macs budget 1,200 is below the constraint, which begins at 1,500"):
        FrontSearcher(SPACE, CostOfRows(SPACE, cost), [("macs", 1200)], constraints=[("macs", 1500, 2000)])
