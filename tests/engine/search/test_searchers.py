"""What the search loop relies on, of every registered searcher, and what searchers rely on, of every cost model."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from costs import CostOfRows

from mmrazor_lite.engine.searchers import LIMITS, build_searcher, searcher_class
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.estimators.cost_model import CostModel
from mmrazor_lite.estimators.latency_table import CostWithLatency, LatencyTable
from mmrazor_lite.graph.layer_table import LayerTable
from mmrazor_lite.registry import SEARCHERS
from mmrazor_lite.search import Cost, HasFront, HasHistory, Searcher
from mmrazor_lite.subnet import Choice, SearchSpace

SPACE = SearchSpace([Choice(f"layer{i}", (2, 4, 6, 8), kind="width") for i in range(5)])
COST = CostOfRows(SPACE, lambda rows: {"macs": SPACE.numeric(rows).prod(1), "params": SPACE.numeric(rows).sum(1)})
GIVEN = {"budgets": [("macs", 3000.0), ("macs", 500.0)], "constraints": [("macs", 0.0, 3000.0)]}
OPTIONS = {"EvolutionSearcher": {"max_epochs": 4}, "FrontSearcher": {"generations": 4, "population": 12}}
PULL = np.random.default_rng(0).uniform(0, 1, (5, 4)).cumsum(1)


def make(name: str, seed: int = 0) -> Searcher:
    config = {"type": name, **OPTIONS.get(name, {})}
    cls = searcher_class(config)
    return build_searcher(cls, config, SPACE, COST, seed, {key: GIVEN[key] for key in cls.takes})


def step(searcher: Searcher) -> np.ndarray:
    rows = searcher.ask()
    scores = PULL[np.arange(5), rows].sum(1) if len(rows) else []
    searcher.tell(rows, [{"score": float(score), "also": 1.0} for score in scores])
    return rows


def finished(searcher: Searcher) -> list:
    while not searcher.done:
        step(searcher)
    return [(found.budget, found.row.tolist(), found.metrics) for found in searcher.results()]


@pytest.fixture(params=sorted(SEARCHERS.module_dict))
def name(request):
    return request.param


def test_a_class_says_what_it_takes_and_where_it_is_from(name):
    cls = SEARCHERS.get(name)
    assert set(cls.takes) <= set(LIMITS) and inspect.getdoc(cls)
    parameters = inspect.signature(cls).parameters
    assert {"space", "cost"} <= set(parameters)
    assert set(cls.takes) <= set(parameters)


def test_ask_tell_until_done(name):
    searcher = make(name)
    assert isinstance(searcher, Searcher)
    seen, before = set(), 0.0
    while not searcher.done:
        rows = searcher.ask()
        assert np.array_equal(rows, searcher.ask()), "asking changes nothing"
        assert rows.ndim == 2 and len(rows) and np.array_equal(rows, SPACE.canonical(rows))
        assert len({row.tobytes() for row in rows}) == len(rows)
        seen.update(row.tobytes() for row in step(searcher))
        part, text = searcher.progress()
        assert before <= part <= 1 and text and "\n" not in text
        before = part
    assert searcher.progress()[0] == 1 and searcher.ask().shape == (0, 5)
    results = searcher.results()
    budgets = GIVEN["budgets"] if "budgets" in searcher.takes else [None]
    assert [found.budget for found in results] == budgets
    for found in results:
        assert found.row.tobytes() in seen and found.metrics["also"] == 1.0
        limit = 3000 if found.budget is None else found.budget.limit
        assert COST(found.row[None])["macs"][0] <= limit


def test_the_state_is_plain_and_goes_on_at_any_step(name):
    whole = finished(make(name))
    searcher, states = make(name), []
    while not searcher.done:
        states.append(json.dumps(searcher.state_dict(), allow_nan=False))
        step(searcher)
    for state in states:
        again = make(name)
        again.load_state_dict(json.loads(state))
        assert finished(again) == whole
    with pytest.raises(UserError):
        make(name).load_state_dict({**json.loads(states[-1]), "searcher": "another"})


def test_history_and_front_are_what_they_are_declared_as(name):
    searcher = make(name)
    finished(searcher)
    if isinstance(searcher, HasHistory):
        assert searcher.history and json.dumps(searcher.history)
    if isinstance(searcher, HasFront):
        scores = [found.metrics["score"] for found in searcher.front()]
        assert searcher.resource == "macs" and scores == sorted(scores)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "high"])
def test_a_score_must_be_a_finite_number(name, value):
    searcher = make(name)
    rows = searcher.ask()
    with pytest.raises(UserError, match="finite number"):
        searcher.tell(rows, [{"score": value}] * len(rows))


def cells(measures: int) -> list[Cell]:
    rng = np.random.default_rng(3)
    return [Cell(name, (name,), rng.integers(1, 99, (4, measures)).astype(float)) for name in SPACE]


def cost_models() -> dict[str, Cost]:
    plain = CostModel(SPACE, LayerTable([], [], [], 4, []), cells=[_whole(cell) for cell in cells(4)])
    table = LatencyTable(
        SPACE, Cell("", (), np.array([0.5])), [Cell(f"p.{c.name}", c.choices, c.values) for c in cells(1)]
    )
    return {"cost model": plain, "with latency": CostWithLatency(plain, table), "of tests": COST}


def _whole(cell: Cell) -> Cell:
    return Cell(cell.name, cell.choices, cell.values.astype(np.int64))


@pytest.mark.parametrize("kind", ["cost model", "with latency", "of tests"])
def test_every_cost_model_knows_its_ends(kind):
    cost = cost_models()[kind]
    assert isinstance(cost, Cost) and cost.fingerprint.startswith("sha256:")
    rows = np.array(np.meshgrid(*[range(4)] * 5)).reshape(5, -1).T
    costs = cost(rows)
    assert list(costs) == list(cost.max()) == list(cost.min())
    for resource, values in costs.items():
        if resource == "memory":
            continue  # the peak of one block: the smallest is one that no single choice improves
        for largest, end, ends in ((True, values.max(), cost.max()), (False, values.min(), cost.min())):
            row = cost.extreme_row(resource, largest)
            assert cost.extreme(resource, largest) == end == ends[resource]
            assert cost(row[None])[resource][0] == end == cost.of(SPACE.subnet(row))[resource]
