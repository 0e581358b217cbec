"""The evolution on spaces and costs of its own: what each candidate costs and is worth just adds up."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from costs import CostOfRows
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrazor_lite.errors import UserError
from mmrazor_lite.search import Constraint, EvolutionSearcher, Searcher
from mmrazor_lite.search.within_limits import ENUMERATED, LegalRows
from mmrazor_lite.subnet import Choice, SearchSpace, Subnet, write_subnet

SMALL = {"max_epochs": 4, "num_candidates": 12, "top_k": 4, "num_mutation": 4, "num_crossover": 4}


def operators(depth: int, names: str = "abcd") -> SearchSpace:
    return SearchSpace([Choice(f"block{i:02}", tuple(names), kind="operator") for i in range(depth)])


def mixed(copies: int = 1) -> SearchSpace:
    """Every kind of choice, and choices that matter only for some candidates of others: 384 subnets, to the copies."""
    choices = []
    for i in map(str, range(copies)):
        choices += [
            Choice("inner" + i, (8, 16, 24, 32, 40), active_if=("op" + i, ("conv",))),
            Choice("ratio" + i, (3, 4.5, 6), kind="value", active_if=("op" + i, ("conv",))),
            Choice("op" + i, ("identity", "conv"), kind="operator"),
            Choice("stem" + i, range(4, 17, 4)),
            Choice("depth" + i, (0, 1), kind="depth"),
            Choice("size" + i, (16, 24, 32), kind="resolution"),
        ]
    return SearchSpace(choices)


def table(space: SearchSpace, seed: int, scale: int = 1000) -> np.ndarray:
    """What each candidate of each choice is worth: (D, candidates)."""
    longest = max(len(choice.candidates) for choice in space.values())
    return np.random.default_rng(seed).integers(1, scale, size=(len(space), longest))


def total(space: SearchSpace, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.where(space.active(rows), values[np.arange(len(space)), rows], 0).sum(1)


def cost_of(space: SearchSpace) -> CostOfRows:
    def cost(rows: np.ndarray) -> dict[str, np.ndarray]:
        flops = total(space, table(space, 1), rows)
        return {"flops": flops, "params": total(space, table(space, 2), rows), "latency": flops / 7}

    return CostOfRows(space, cost)


def make(space: SearchSpace, constraints: list[tuple], **options: object) -> EvolutionSearcher:
    return EvolutionSearcher(space, cost_of(space), constraints, **options)


def worth(space: SearchSpace) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: total(space, table(space, 3), rows)


def step(searcher: EvolutionSearcher, score: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    rows = searcher.ask()
    scores = (score or worth(searcher.space))(rows)
    searcher.tell(rows, [{"score": value, "accuracy/top1": value} for value in scores])
    return rows


def run(searcher: EvolutionSearcher, score: Callable[[np.ndarray], np.ndarray] | None = None) -> list[np.ndarray]:
    rows = []
    while not searcher.done:
        rows.append(step(searcher, score))
    return rows


def every_row(space: SearchSpace) -> np.ndarray:
    grid = itertools.product(*(range(len(choice.candidates)) for choice in space.values()))
    return np.unique(space.canonical(np.array(list(grid))), axis=0)


def legal_rows(space: SearchSpace, constraints: list[tuple]) -> np.ndarray:
    rows, cost = every_row(space), cost_of(space)
    inside = np.ones(len(rows), dtype=bool)
    for resource, low, high in constraints:
        inside &= (cost(rows)[resource] >= low) & (cost(rows)[resource] <= high)
    return rows[inside]


def counts_by_cost(space: SearchSpace) -> Counter:
    """How many subnets have which flops, without listing them; every choice of the space must always matter."""
    sums: Counter = Counter({0: 1})
    for values, choice in zip(table(space, 1), space.values(), strict=True):
        further: Counter = Counter()
        for value, n in sums.items():
            for more in values[: len(choice.candidates)].tolist():
                further[value + more] += n
        sums = further
    return sums


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("space", [operators(6), mixed()], ids=["operators", "mixed"])
def test_it_finds_the_optimum_of_a_small_space(space: SearchSpace, seed: int) -> None:
    rows = every_row(space)
    assert len(rows) == space.size
    flops = cost_of(space)(rows)["flops"]
    constraints = [("flops", float(np.quantile(flops, 0.1)), float(np.quantile(flops, 0.5)))]
    legal = legal_rows(space, constraints)
    options = {"num_candidates": 20, "top_k": 5, "num_mutation": 10, "num_crossover": 10}
    searcher = make(space, constraints, seed=seed, **(options if len(legal) < 400 else {}), max_epochs=7)
    scored = run(searcher)
    best = searcher.results()[0]
    assert best.metrics["score"] == worth(space)(legal).max()
    assert sum(map(len, scored)) < len(legal)
    assert isinstance(searcher, Searcher) and best.budget is None


def test_evolving_beats_drawing_at_random() -> None:
    space = operators(20)
    constraints = [("flops", 0, 9000.0)]

    def found(seed: int, **options: object) -> float:
        searcher = make(space, constraints, seed=seed, **options)
        run(searcher)
        return searcher.results()[0].metrics["score"]

    for seed in range(3):
        at_random = found(seed, num_mutation=0, num_crossover=0)
        both, one, other = found(seed), found(seed, num_crossover=0), found(seed, num_mutation=0)
        assert both > 1.1 * at_random and min(one, other) > at_random


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.sampled_from([operators(3, "ab"), operators(4, "abc"), operators(9), mixed(), mixed(3)]),
    st.tuples(st.floats(0, 0.9), st.floats(0.01, 0.6)),
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 20), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_properties_of_every_search(
    space: SearchSpace, part: tuple[float, float], seed: int, options: tuple[int, float, float, float]
) -> None:
    rows = space.sample_indices(np.random.default_rng(seed), 50)
    low, high = np.quantile(cost_of(space)(rows)["flops"], [part[0], min(part[0] + part[1], 1)])
    constraints = [("flops", low, high), ("params", 1.0, math.inf)]
    n, share, mutate_prob, crossover_prob = options
    num_mutation, top_k = int(share * n), max(1, n // 3)
    settings = {"num_candidates": n, "top_k": top_k, "num_mutation": num_mutation, "num_crossover": n - num_mutation}
    probs = {"mutate_prob": mutate_prob, "crossover_prob": crossover_prob}
    try:
        searcher = make(space, constraints, seed=seed, max_epochs=5, **settings, **probs)
    except UserError:
        assert space.size > ENUMERATED or not len(legal_rows(space, constraints))
        return
    seen: set[Subnet] = set()
    best = -math.inf
    while not searcher.done:
        rows = searcher.ask()
        assert np.array_equal(rows, searcher.ask()) and 0 < len(rows) <= n
        assert np.array_equal(rows, space.canonical(rows))
        costs = cost_of(space)(rows)
        assert (costs["flops"] >= low).all() and (costs["flops"] <= high).all()
        subnets = {space.subnet(row) for row in rows}
        assert len(subnets) == len(rows) and not subnets & seen
        seen |= subnets
        step(searcher)
        epoch = searcher.history[-1]
        assert epoch["evaluated"] == len(rows) == epoch["mutation"] + epoch["crossover"] + epoch["random"]
        assert epoch["mutation"] <= num_mutation and epoch["crossover"] <= n - num_mutation
        best = max(best, *worth(space)(rows))
        assert searcher.results()[0].metrics["score"] == epoch["best_so_far"] == best
        assert len(searcher.top()) == min(top_k, len(seen))
        assert 0 < searcher.progress()[0] <= 1
    assert searcher.progress()[0] == 1 and searcher.ask().shape == (0, len(space))
    if space.size <= ENUMERATED and len(seen) < 5 * n:
        assert len(seen) == len(legal_rows(space, constraints)), "it ended early and had not seen everything"


def test_children_come_from_the_best() -> None:
    space = operators(20)
    searcher = make(space, [], num_candidates=60, top_k=5, num_mutation=20, num_crossover=20, mutate_prob=0.1)
    step(searcher)
    for _ in range(3):
        top = np.array([result.row for result in searcher.top()])
        mutated, crossed, drawn = np.split(step(searcher), [20, 40])
        assert searcher.history[-1]["mutation"] == searcher.history[-1]["crossover"] == 20

        def changes(rows: np.ndarray, top: np.ndarray = top) -> np.ndarray:
            return (rows[:, None] != top).sum(2).min(1)

        assert changes(mutated).min() >= 1 and changes(mutated).mean() < 3  # 20 x 0.1 x 3/4 on average
        assert changes(drawn).mean() > 8
        assert all(set(row[column] for row in crossed) <= set(top[:, column]) for column in range(20))
        assert changes(crossed).min() >= 1
        pairs = [(a, b) for a in top for b in top]
        assert all(any(((child == a) | (child == b)).all() for a, b in pairs) for child in crossed)


def test_the_probabilities_count() -> None:
    """Without mutation a child is its parent, with ``crossover_prob`` 0 or 1 too: nothing new, so random ones fill."""
    space = operators(20)
    origins = {}
    for prob in (0, 0.5, 1):
        searcher = make(space, [], mutate_prob=prob, crossover_prob=prob, max_epochs=2)
        run(searcher)
        origins[prob] = [searcher.history[1][origin] for origin in ("mutation", "crossover", "random")]
    assert origins == {0: [0, 0, 50], 0.5: [25, 25, 0], 1: [25, 0, 25]}


def test_a_choice_that_becomes_active_gets_values_from_the_parent_that_has_one() -> None:
    space = mixed()
    searcher = make(space, [], num_candidates=40, top_k=20, num_mutation=0, num_crossover=40, max_epochs=3)
    step(searcher)
    top = np.array([result.row for result in searcher.top()])
    names = list(space)
    op, inner = names.index("op0"), names.index("inner0")
    crossed = searcher.ask()[: searcher._propose()[1]["crossover"]]
    with_op = crossed[crossed[:, op] == 1]
    assert len(with_op) and set(with_op[:, inner]) <= set(top[top[:, op] == 1, inner])


def test_ties_are_kept_in_the_order_of_evaluation() -> None:
    searcher = make(operators(8), [], **SMALL)
    scored = [step(searcher, lambda rows: np.full(len(rows), 0.5)) for _ in range(2)]
    assert np.array_equal([result.row for result in searcher.top()], scored[0][:4])
    assert np.array_equal(searcher.results()[0].row, scored[0][0])
    step(searcher, lambda rows: np.where(np.arange(len(rows)) % 2, 0.7, 0.1))
    assert np.array_equal(searcher.results()[0].row, searcher._rows[25])  # the first of six that score 0.7
    assert [result.metrics["score"] for result in searcher.top()] == [0.7] * 4


def test_same_seed_same_search() -> None:
    def rows(seed: int) -> list:
        return [part.tolist() for part in run(make(operators(12), [("flops", 0, 6000)], seed=seed, **SMALL))]

    assert rows(3) == rows(3) != rows(4)


def test_resuming_after_any_epoch_gives_the_same_search() -> None:
    space, constraints = mixed(), [("flops", 500.0, 2500.0), ("latency", 0.0, math.inf)]
    options = {**SMALL, "max_epochs": 30, "init_candidates": [space.subnet(legal_rows(space, constraints)[0])]}
    searcher = make(space, constraints, **options)
    states = []
    while not searcher.done:
        states.append(json.dumps(searcher.state_dict(), allow_nan=False))
        step(searcher)
    assert len(searcher.history) < 30, "the space should end before the epochs do"
    expected = json.dumps(searcher.state_dict())
    for state in [*states, expected]:
        resumed = make(space, constraints, **options)
        resumed.load_state_dict(json.loads(state))
        assert json.dumps(resumed.state_dict()) == state
        run(resumed)
        assert json.dumps(resumed.state_dict()) == expected
        assert resumed.results()[0].metrics == searcher.results()[0].metrics
        assert np.array_equal(resumed.results()[0].row, searcher.results()[0].row)


def test_a_state_of_another_search_is_refused() -> None:
    space, constraints = operators(8), [("flops", 0.0, 4000.0)]
    searcher = make(space, constraints, **SMALL)
    step(searcher)
    state = json.loads(json.dumps(searcher.state_dict()))

    def refused(searcher: EvolutionSearcher, state: Mapping) -> str:
        before = searcher.state_dict()
        with pytest.raises(UserError, match="cannot resume the search") as error:
            searcher.load_state_dict(state)
        assert searcher.state_dict() == before and "\n" not in str(error.value)
        return str(error.value)

    other = operators(8, "abce")
    assert f"grid was '{space.grid}', now it is '{other.grid}'" in refused(make(other, constraints, **SMALL), state)
    message = refused(make(space, [("flops", 0, 3900)], **SMALL), state)
    assert "constraints was [['flops', 0.0, 4000.0]], now it is [['flops', 0.0, 3900.0]]" in message
    for name, value in {"top_k": 3, "mutate_prob": 0.2, "seed": 1, "max_epochs": 5, "crossover_prob": 0.4}.items():
        assert f"{name} was" in refused(make(space, constraints, **{**SMALL, name: value}), state)
    first = [space.subnet(searcher.ask()[0])]
    assert "init_candidates was []" in refused(make(space, constraints, **SMALL, init_candidates=first), state)
    assert "searcher was 'GreedySearcher'" in refused(searcher, {**state, "searcher": "GreedySearcher"})
    assert "damaged" in refused(searcher, {key: state[key] for key in state if key != "rows"})
    assert "damaged" in refused(searcher, {**state, "rows": [[9] * 8]})
    assert "damaged" in refused(searcher, {**state, "top": [{"index": 99, "metrics": {"score": 1}}]})

    def doubled(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {**cost_of(space)(rows), "params": 2 * cost_of(space)(rows)["params"]}

    changed = EvolutionSearcher(space, doubled, constraints, **SMALL)
    assert "has the input size or the model changed?" in refused(changed, state)


def test_a_range_out_of_reach_says_what_is_within() -> None:
    for space in (operators(5), operators(20)):
        flops = list(counts_by_cost(space))
        low, high = min(flops), max(flops)
        for constraint in ((0, low - 1), (high + 1, math.inf), (high + 1, high + 2)):
            with pytest.raises(UserError) as error:
                make(space, [("params", 0.0, math.inf), ("flops", *constraint)])
            message = str(error.value)
            assert f"have flops from {low:,} to {high:,}" in message and "params" not in message
            assert "constraints_range" in message and "\n" not in message


def test_the_cost_model_is_asked_for_its_ends() -> None:
    class Cost(CostOfRows):
        def extreme(self, resource: str, largest: bool) -> int:
            return {False: 12, True: 123456}[largest]

    with pytest.raises(UserError, match=r"have flops from 12 to 123,456"):
        EvolutionSearcher(operators(20), Cost(operators(20), cost_of(operators(20))), [("flops", 0, 11)])


def test_constraints_that_exclude_each_other_name_the_nearest() -> None:
    space = operators(4)
    rows = every_row(space)
    flops, params = (cost_of(space)(rows)[name] for name in ("flops", "params"))
    with pytest.raises(UserError) as error:
        make(space, [("flops", 0, int(flops.min())), ("params", int(params.max()), math.inf)])
    assert f"flops from 0 to {flops.min():,} and params from {params.max():,} was found" in str(error.value)
    assert "the nearest one has flops" in str(error.value)


def test_the_best_of_all_epochs_are_kept() -> None:
    space = operators(8)
    searcher, scores = make(space, [], **SMALL), []
    for _ in range(SMALL["max_epochs"]):
        scores = sorted([*scores, *worth(space)(step(searcher))], reverse=True)
        assert [result.metrics["score"] for result in searcher.top()] == scores[: SMALL["top_k"]]


def test_every_epoch_draws_anew() -> None:
    """From one parent: what an epoch before has drawn is of no use."""
    space = operators(20)
    options = {"top_k": 1, "num_candidates": 60, "num_mutation": 50, "num_crossover": 0, "max_epochs": 8}
    searcher = make(space, [], **options)
    parent = searcher.ask()[0]
    run(searcher, lambda rows: (rows == parent).all(1).astype(float))
    assert [epoch["mutation"] for epoch in searcher.history] == [0, *[50] * 7]


def test_a_rare_range_is_found() -> None:
    space = operators(20)
    counts = counts_by_cost(space)
    high = next(cost for cost in sorted(counts) if sum(n for c, n in counts.items() if c <= cost) > 1e-6 * space.size)
    searcher = make(space, [("flops", 0, high)], max_epochs=5)
    scored = run(searcher)
    assert [len(rows) for rows in scored] == [50] * 5
    assert (cost_of(space)(np.concatenate(scored))["flops"] <= high).all()
    params = cost_of(space)(np.concatenate(scored))["params"]
    narrow = [("flops", 0, high), ("params", float(np.quantile(params, 0.45)), float(np.quantile(params, 0.5)))]
    assert len(make(space, narrow).ask()) > 25


def test_a_single_value_in_the_middle_is_found() -> None:
    space = operators(20)
    middle = 10_000
    assert 0 < counts_by_cost(space)[middle] < 1e-3 * space.size
    assert len(make(space, [("flops", middle, middle)]).ask()) == 50


@pytest.mark.parametrize("legal", [1, 7, 60])
def test_a_handful_in_a_large_space_ends_the_search(legal: int) -> None:
    space = operators(20)
    assert space.size > ENUMERATED
    counts = counts_by_cost(space)
    sums = np.cumsum([counts[cost] for cost in sorted(counts)])
    at = int(np.searchsorted(sums, legal))
    searcher = make(space, [("flops", 0, sorted(counts)[at])])
    scored = run(searcher)
    assert sum(map(len, scored)) == sums[at], "all of them are neighbours of the smallest subnet"
    assert "no new subnet is within the constraints" in searcher.progress()[1]


def test_a_small_space_is_seen_whole() -> None:
    space = operators(3, "ab")
    searcher = make(space, [])
    assert [len(rows) for rows in run(searcher)] == [8]
    assert searcher.results()[0].metrics["score"] == worth(space)(every_row(space)).max()


@pytest.mark.parametrize("depth", [6, 9])
def test_draws_from_a_list_and_by_rejection_are_uniform(depth: int) -> None:
    space, limit = operators(depth), 450 * depth
    assert (space.size <= ENUMERATED) == (depth == 6)
    legal, none = LegalRows(space, cost_of(space), [("flops", 0, limit)]), np.zeros((0, depth), dtype=np.int64)
    drawn = np.concatenate([legal.draw(np.random.default_rng(seed), 40, set(), none) for seed in range(50)])
    exact = legal_rows(space, [("flops", 0, limit)])
    shares = [[(rows[:, column] == i).mean() for i in range(4) for column in range(depth)] for rows in (drawn, exact)]
    assert np.abs(np.subtract(*shares)).max() < 0.05


def test_initial_candidates_are_scored_first(tmp_path) -> None:
    space = operators(8)
    one, two = (space.sample(np.random.default_rng(seed)) for seed in (1, 2))
    write_subnet(tmp_path / "two.yaml", two, space)
    searcher = make(space, [], **SMALL, init_candidates=[one.to_dict(), one, tmp_path / "two.yaml"])
    rows = step(searcher)
    assert [space.subnet(row) for row in rows[:2]] == [one, two] and len(rows) == 12
    assert not {one, two} & {space.subnet(row) for row in step(searcher)}
    with pytest.raises(UserError, match=r"init_candidates\[0\] is outside of the constraints: it has [\d,]+ flops"):
        make(space, [("flops", 0, cost_of(space)(space.index(one)[None])["flops"][0] - 1)], init_candidates=[one])
    with pytest.raises(UserError, match=r"init_candidates\[1\]: unknown choice 'block9'"):
        make(space, [], init_candidates=[one, {"block9": "a"}])
    with pytest.raises(UserError, match="13 init_candidates are more than num_candidates=12"):
        make(space, [], **SMALL, init_candidates=[one] * 13)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"num_candidates": 9}, "num_candidates=9 is smaller than top_k=10"),
        ({"num_mutation": 26}, "make 51 children, more than num_candidates=50"),
        ({"max_epochs": 0}, "max_epochs must be a whole number of 1 or more, got 0"),
        ({"num_candidates": 50.0}, "num_candidates must be a whole number"),
        ({"top_k": True}, "top_k must be a whole number"),
        ({"num_crossover": -1}, "num_crossover must be a whole number of 0 or more"),
        ({"seed": -1}, "seed must be a whole number of 0 or more"),
        ({"mutate_prob": 1.1}, "mutate_prob must be a probability"),
        ({"mutate_prob": float("nan")}, "mutate_prob must be a probability"),
        ({"crossover_prob": "0.5"}, "crossover_prob must be a probability"),
        ({"constraints": [("flop", 0, 9)]}, "unknown resource 'flop' (did you mean 'flops'?)"),
        ({"constraints": [("flops", 0, 9e9), ("flops", 1, 9e9)]}, "the flops constraint is given twice"),
        ({"constraints": [("flops", 9, 8)]}, "the flops constraint 9 to 8 is no range"),
        ({"constraints": [("flops", 0, float("nan"))]}, "is no range"),
    ],
)
def test_bad_options(options: dict, part: str) -> None:
    with pytest.raises(UserError) as error:
        make(operators(8), **{"constraints": [], **options})
    assert part in str(error.value) and "\n" not in str(error.value)


def test_tell_checks_what_it_is_told_and_keeps_plain_numbers() -> None:
    searcher = make(operators(8), [("flops", 0, 1e9)], **SMALL)
    assert searcher.constraints == (Constraint("flops", 0.0, 1e9),) and searcher.results() == []
    rows = searcher.ask()
    good = [{"score": np.float32(0.5), "accuracy/top1": np.float64(50)}] * len(rows)
    with pytest.raises(ValueError, match="12 rows were asked for, metrics of 2"):
        searcher.tell(rows, good[:2])
    with pytest.raises(ValueError, match="rows that ask"):
        searcher.tell(rows[::-1], good)
    for bad in ({"score": float("nan")}, {"score": -math.inf}, {}, {"score": None}, {"score": True}):
        with pytest.raises(UserError, match=r"epoch 1: the score of .*block00.* must be a finite number"):
            searcher.tell(rows, [good[0], bad, *good[2:]])
    assert not searcher.history
    searcher.tell(rows, good)
    assert json.loads(json.dumps(searcher.state_dict()))["top"][0]["metrics"] == {"score": 0.5, "accuracy/top1": 50.0}
    run(searcher)
    with pytest.raises(ValueError, match="rows that ask"):
        searcher.tell(rows[:0], [])
