"""The greedy search on a small cost model of its own: layers in a row, macs = sum of in x out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrazor_lite.errors import UserError
from mmrazor_lite.search import Budget, GreedySearcher, Searcher
from mmrazor_lite.subnet import Choice, SearchSpace, Subnet

Score = Callable[[Subnet], float]
FULL = (24, 48, 36)


def chain(widths: tuple[int, ...] = FULL, step: int = 4, extra: tuple[Choice, ...] = ()) -> SearchSpace:
    # Names in descending order, so that the order of the space differs from the order of the names.
    names = [f"conv{len(widths) - i}" for i in range(len(widths))]
    return SearchSpace([*(Choice(n, range(step, w + 1, step)) for n, w in zip(names, widths, strict=True)), *extra])


def cost_of(space: SearchSpace) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    columns = [i for i, choice in enumerate(space.values()) if choice.kind == "width"]

    def cost(rows: np.ndarray) -> dict[str, np.ndarray]:
        widths = space.numeric(rows)[:, columns].astype(np.int64)
        edge = np.pad(widths, ((0, 0), (1, 1)), constant_values=3)
        macs = (edge[:, :-1] * edge[:, 1:]).sum(1)
        return {"macs": macs, "flops": macs + 3 * widths.sum(1), "latency": widths.sum(1) / 7}

    return cost


def make(space: SearchSpace, budgets: list[tuple[str, float]], **options: object) -> GreedySearcher:
    return GreedySearcher(space, cost_of(space), budgets, **options)


def accuracy(subnet: Subnet) -> float:
    """Saturating in every width, with another weight for each: no two steps score the same."""
    return sum((i + 1.3) * np.log(width + i) for i, (_, width) in enumerate(sorted(subnet.items())))


def step(searcher: GreedySearcher, score: Score) -> None:
    rows = searcher.ask()
    searcher.tell(rows, [{"score": score(searcher.space.subnet(row))} for row in rows])


def run(searcher: GreedySearcher, score: Score = accuracy) -> GreedySearcher:
    while not searcher.done:
        step(searcher, score)
    return searcher


def plain_greedy(space: SearchSpace, limits: list[float], score: Score, resource: str = "macs") -> list[Subnet]:
    """The paper's loop as plainly as it can be written, for budgets from the largest to the smallest."""
    cost, now, found = cost_of(space), space.max().to_dict(), []
    for limit in limits:
        while cost(space.index(now)[None])[resource][0] > limit:
            tries = []
            for name in sorted(space):
                smaller = [width for width in space[name].candidates if width < now[name]]
                if smaller:
                    tries.append({**now, name: max(smaller)})
            now = max(tries, key=lambda subnet: score(Subnet(subnet)))
        found.append(Subnet(now))
    return found


def test_it_does_what_the_paper_says_and_keeps_the_order_of_the_budgets() -> None:
    space = chain()
    limits = {"small": 900.0, "large": 2500.0, "middle": 1700.0}
    searcher = run(make(space, [("macs", limit) for limit in limits.values()]))
    large, middle, small = plain_greedy(space, sorted(limits.values(), reverse=True), accuracy)
    results = searcher.results()
    assert [result.budget for result in results] == [Budget("macs", limit) for limit in limits.values()]
    assert [space.subnet(result.row) for result in results] == [small, large, middle]
    for result in results:
        assert cost_of(space)(result.row[None])["macs"][0] <= result.budget.limit
        assert result.metrics == {"score": accuracy(space.subnet(result.row))}
    assert isinstance(searcher, Searcher)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(2, 9), min_size=1, max_size=4),
    st.lists(st.floats(0.0, 0.98), min_size=1, max_size=3, unique=True),
    st.sampled_from([None, 1, 2, 3, 12]),
    st.integers(0, 2**32),
)
def test_properties_of_every_search(bins: list[int], fractions: list[float], max_bins: int | None, seed: int) -> None:
    space = chain(tuple(4 * n for n in bins))
    cost = cost_of(space)
    low, high = (cost(space.index(subnet)[None])["macs"][0] for subnet in (space.min(), space.max()))
    budgets = sorted({low + fraction * (high - low) for fraction in fractions})
    weights = dict(zip(sorted(space), np.random.default_rng(seed).random(len(space)), strict=True))
    searcher = make(space, [("macs", limit) for limit in budgets], max_channel_bins=max_bins)
    now = space.index(space.max())
    while not searcher.done:
        rows = searcher.ask()
        assert np.array_equal(rows, searcher.ask())
        assert len(np.unique(rows, axis=0)) == len(rows) > 0
        changed = [np.flatnonzero(row != now).tolist() for row in rows]
        assert all(len(columns) == 1 for columns in changed)
        names = [list(space)[columns[0]] for columns in changed]
        assert names == sorted(name for name, i in zip(space, now, strict=True) if i > 0)
        for row, name, (column,) in zip(rows, names, changed, strict=True):
            assert row[column] < now[column]
            widths, full = space[name].candidates, space[name].candidates[-1]
            allowed = [w for w in widths if w * (max_bins or 1) <= widths[now[column]] * (max_bins or 1) - full]
            if max_bins is None:
                assert row[column] == now[column] - 1
            else:
                assert widths[row[column]] == (max(allowed) if allowed else widths[0])
        scores = [sum(weights[n] * v for n, v in space.subnet(row).items()) for row in rows]
        searcher.tell(rows, [{"score": score} for score in scores])
        now = rows[int(np.argmax(scores))]
        assert 0 <= searcher.progress()[0] <= 1
    assert searcher.progress()[0] == 1
    assert len(searcher.ask()) == 0
    assert [r.budget.limit for r in searcher.results()] == budgets


def test_the_first_name_wins_a_tie() -> None:
    searcher = make(chain(), [("macs", 1700)])
    step(searcher, lambda subnet: 0.5)
    assert searcher.history[0]["choice"] == "conv1"
    rows = searcher.ask()
    searcher.tell(rows, [{"score": 0.1}, {"score": 0.7}, {"score": 0.7}])
    assert searcher.history[1]["choice"] == "conv2"


def test_one_step_may_meet_several_budgets_of_several_resources() -> None:
    space = chain()
    budgets = [("latency", 14.0), ("macs", 2850.0), ("flops", 3200.0), ("macs", 2875.0)]
    searcher = make(space, budgets)
    first_met: list[int] = []
    while not searcher.done:
        step(searcher, accuracy)
        first_met.append(len(searcher.results()))
    for result in searcher.results():
        assert cost_of(space)(result.row[None])[result.budget.resource][0] <= result.budget.limit
    assert [tuple(result.budget) for result in searcher.results()] == budgets
    assert any(b - a >= 2 for a, b in itertools.pairwise([0, *first_met]))


def test_other_kinds_stay_at_their_last_candidate_and_fixed_widths_are_left_alone() -> None:
    extra = (Choice("conv0", (16,)), Choice("kernel", (3, 5), kind="value"), Choice("op", ("a", "b"), kind="operator"))
    space = chain(extra=extra)
    searcher = make(space, [("macs", 1700)])
    step(searcher, lambda subnet: -subnet["conv1"])
    assert searcher.history[0]["evaluated"] == 3
    while not searcher.done:
        step(searcher, lambda subnet: -subnet["conv1"])
    subnet = space.subnet(searcher.results()[0].row)
    assert (subnet["kernel"], subnet["op"], subnet["conv0"]) == (5, "b", 16)


def test_bins_skip_candidates_and_still_reach_the_smallest() -> None:
    # The candidates of MMRazor's AutoSlim config for a full width of 48: multiples of 8, twelve ratios.
    space = SearchSpace([Choice("conv1", tuple(range(8, 49, 8)))])

    def walk(bins: int | None) -> list[int]:
        searcher = run(make(space, [("macs", 48)], max_channel_bins=bins), lambda subnet: 0.0)
        return [entry["to"] for entry in searcher.history]

    assert walk(None) == walk(12) == walk(6) == [40, 32, 24, 16, 8]
    assert walk(4) == [32, 16, 8]
    assert walk(2) == [24, 8]
    assert walk(1) == [8]


def test_mobilenet_v2_needs_no_step_that_changes_nothing() -> None:
    # Traps of MMRazor: of the 250 greedy steps for MobileNetV2 at 1.5x, 24 prune nothing, because widths that are
    # rounded to multiples of 8 are listed several times (a unit of 24 channels: 8 8 8 16 16 16 16 24 24 24 24).
    full = [48, 24, 144, 40, 240, 240, 48, 288, 288, 288, 96, 576, 576, 576, 576, 144, 864, 864, 864, 240, 1440, 1440]
    widths = [sorted({max(8, int(w * i / 12) // 8 * 8) for i in range(2, 13)}) for w in full]
    space = SearchSpace([Choice(f"unit{i:02}", tuple(w)) for i, w in enumerate(widths)])
    cost = cost_of(space)
    low = cost(space.index(space.min())[None])["macs"][0]
    searcher = run(make(space, [("macs", low)]), lambda subnet: sum(subnet.values()))
    assert len(searcher.history) == sum(len(w) - 1 for w in widths)
    costs = [entry["costs"]["macs"] for entry in searcher.history]
    assert all(a > b for a, b in itertools.pairwise(costs))
    assert all(entry["to"] < entry["from"] for entry in searcher.history)


def test_halving_a_budget_changes_the_result() -> None:
    space = chain()
    one, half = (run(make(space, [("macs", limit)])).results()[0] for limit in (2400, 1200))
    assert not np.array_equal(one.row, half.row)


def test_resuming_after_any_step_gives_the_same_search() -> None:
    space, budgets = chain(), [("macs", 900.0), ("flops", 2000.0), ("latency", 8.0)]
    states: list[str] = []
    searcher = make(space, budgets)
    while not searcher.done:
        states.append(json.dumps(searcher.state_dict(), allow_nan=False))
        step(searcher, accuracy)
    expected = json.dumps(searcher.state_dict())
    for state in [*states, expected]:
        resumed = make(space, budgets, seed=5)
        resumed.load_state_dict(json.loads(state))
        assert json.dumps(resumed.state_dict()) == state
        run(resumed)
        assert json.dumps(resumed.state_dict()) == expected
        for a, b in zip(resumed.results(), searcher.results(), strict=True):
            assert a.budget == b.budget and np.array_equal(a.row, b.row) and a.metrics == b.metrics


def test_numpy_metrics_become_plain() -> None:
    searcher = make(chain(), [("macs", 2870)])
    rows = searcher.ask()
    searcher.tell(rows, [{"score": np.float32(0.5), "accuracy/top1": np.float64(50.0)} for _ in rows])
    state = json.loads(json.dumps(searcher.state_dict()))
    assert state["history"][0]["score"] == 0.5
    assert state["results"][0]["metrics"] == {"score": 0.5, "accuracy/top1": 50.0}


def test_a_state_of_another_search_is_refused() -> None:
    space, budgets = chain(), [("macs", 1700.0)]
    searcher = make(space, budgets)
    step(searcher, accuracy)
    state = json.loads(json.dumps(searcher.state_dict()))

    def refused(searcher: GreedySearcher, state: Mapping) -> str:
        before = searcher.state_dict()
        with pytest.raises(UserError, match="cannot resume the search") as error:
            searcher.load_state_dict(state)
        assert searcher.state_dict() == before and "\n" not in str(error.value)
        return str(error.value)

    other = chain(step=2)
    assert other.fingerprint == space.fingerprint
    message = refused(make(other, budgets), state)
    assert f"grid was '{space.grid}', now it is '{other.grid}'" in message
    assert "budgets was [['macs', 1700.0]], now it is [['macs', 1600.0]]" in refused(
        make(space, [("macs", 1600)]), state
    )
    assert "max_channel_bins was None, now it is 12" in refused(make(space, budgets, max_channel_bins=12), state)
    assert "searcher was 'Evolution'" in refused(searcher, {**state, "searcher": "Evolution"})
    assert "damaged" in refused(searcher, {key: state[key] for key in state if key != "row"})
    assert "damaged" in refused(searcher, {**state, "row": [99, 0, 0]})
    larger = GreedySearcher(space, lambda rows: {k: 2 * v for k, v in cost_of(space)(rows).items()}, budgets)
    assert "has the input size or the model changed?" in refused(larger, state)


@pytest.mark.parametrize(
    ("budgets", "part"),
    [
        ([], "at least one budget"),
        ([("macs", 3060)], "the macs budget 3,060 is not below the largest subnet: it must be from 56 (smallest "
         "subnet) to less than 3,060 (largest subnet)"),
        ([("macs", 55)], "the macs budget 55 is below the smallest subnet: it must be from 56 (smallest subnet)"),
        ([("macs", float("nan"))], "the macs budget nan is below the smallest"),
        ([("latency", 15.5)], "the latency budget 15.5 is not below the largest"),
        ([("flop", 100)], "unknown resource 'flop' (did you mean 'flops'?)"),
        ([("macs", 900), ("macs", 900.0)], "the macs budget 900 is given twice"),
    ],
)  # fmt: skip
def test_budgets_that_cannot_be_served(budgets: list[tuple[str, float]], part: str) -> None:
    with pytest.raises(UserError) as error:
        make(chain(), budgets)
    assert part in str(error.value) and "\n" not in str(error.value)


def test_the_smallest_subnet_itself_can_be_reached() -> None:
    space = chain()
    low = cost_of(space)(space.index(space.min())[None])["macs"][0]
    searcher = run(make(space, [("macs", float(low))]))
    assert space.subnet(searcher.results()[0].row) == space.min()
    assert [entry["evaluated"] for entry in searcher.history][-1] == 1  # the last step has one way only


def test_a_space_without_widths_cannot_be_slimmed() -> None:
    space = SearchSpace([Choice("op", ("a", "b"), kind="operator")])
    with pytest.raises(UserError, match="no width to choose"):
        GreedySearcher(space, lambda rows: {"macs": np.full(len(rows), 10)}, [("macs", 5)])


@pytest.mark.parametrize("bins", [0, -1, 2.5, True, "12"])
def test_bad_bins(bins: object) -> None:
    with pytest.raises(UserError, match="max_channel_bins must be a whole number"):
        make(chain(), [("macs", 1700)], max_channel_bins=bins)


def test_tell_checks_what_it_is_told() -> None:
    searcher = make(chain(), [("macs", 1700)])
    rows = searcher.ask()
    good = [{"score": 0.5}] * len(rows)
    with pytest.raises(ValueError, match="3 rows were asked for, metrics of 2"):
        searcher.tell(rows, good[:2])
    with pytest.raises(ValueError, match="rows that ask"):
        searcher.tell(rows[::-1], good)
    for bad in ({"score": float("nan")}, {"score": float("inf")}, {}, {"score": None}, {"score": True}):
        with pytest.raises(UserError, match=r"step 1: the score with 'conv2' at 44 must be a finite number"):
            searcher.tell(rows, [good[0], bad, good[2]])
    assert searcher.history == [] and np.array_equal(searcher.ask(), rows)
    run(searcher)
    with pytest.raises(ValueError, match="rows that ask"):
        searcher.tell(rows, good)


def test_progress_names_the_budget_that_comes_next() -> None:
    searcher = make(chain(), [("macs", 900), ("macs", 2500)])
    assert searcher.progress()[0] == 0 and "to go down to 2,500, 0 of 2 budgets met" in searcher.progress()[1]
    parts = []
    while not searcher.done:
        step(searcher, accuracy)
        parts.append(searcher.progress()[0])
    assert parts == sorted(parts) and parts[-1] == 1
    assert searcher.progress()[1] == f"all 2 budgets met in {len(parts)} steps"
