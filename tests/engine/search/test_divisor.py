"""Searchers of a config choose from the widths that pay by the latency table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmrazor_lite.engine.search_build import build_search_loop
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.estimators.width_curves import Curve, Priced, WidthCurves
from mmrazor_lite.graph import ChannelSum
from mmrazor_lite.subnet import read_subnet

CANDIDATES = (0.25, 0.5, 0.75, 1.0)  # of 8, 16 and 32 channels


@pytest.fixture(scope="module")
def supernet(tiny):
    return tiny.build_algorithm(CANDIDATES)


@pytest.fixture
def table(supernet, tmp_path):
    """A table where widths of 16 and more pay in multiples of half of them."""
    space = supernet.search_space
    full = {name: choice.candidates[-1] for name, choice in space.items()}
    curves = [Curve("op", (np.array([1, width]),), np.array([0.1, 0.1 * width])) for width in full.values()]
    calls = [Priced(name, at, (ChannelSum(0, ((name, 1, 1),)),)) for at, name in enumerate(space)]
    steps = {name: width // 2 for name, width in full.items() if width >= 16}
    assert len(steps) > 1
    path = tmp_path / "table.json"
    base = Cell("", (), np.array([0.5]))
    LatencyTable(space, base, [], widths=WidthCurves(space, curves, calls), steps=steps).write(path)
    return path, steps


@pytest.mark.parametrize(
    "options",
    [
        {"searcher": {"type": "GreedySearcher"}, "target_latency": "70%"},
        {
            "searcher": {"type": "FrontSearcher", "population": 6, "generations": 2},
            "target_latency": "70%",
        },
        {
            "searcher": {"type": "EvolutionSearcher", "max_epochs": 2, "num_candidates": 6, "top_k": 3,
                         "num_mutation": 2, "num_crossover": 2},
            "constraints_range": {"latency": "70%"},
        },
    ],
    ids=lambda options: options["searcher"]["type"],
)  # fmt: skip
def test_only_widths_that_pay_are_scored(tiny, supernet, table, tmp_path, options):
    path, steps = table
    config = {**tiny.search_cfg(target_macs=None), "latency_table": str(path), "divisor": "auto", **options}
    work = tmp_path / "work"
    loop = build_search_loop(config, supernet, work)
    (result,) = loop.run()
    space = supernet.search_space
    scored = [space.subnet(list(map(int, key.split(",")))) for key in loop.state.memo]
    assert len(scored) > 3
    for subnet in (*scored, result["subnet"]):
        assert all(subnet[name] % step == 0 for name, step in steps.items())
    assert any(subnet[name] % 4 for subnet in scored for name in space if name not in steps), "others are free"
    limit = 0.7 * loop.cost.max()["latency"]
    assert result["resources"] == loop.cost.of(result["subnet"]) and result["resources"]["latency"] <= limit
    assert read_subnet(result["file"], space).subnet == result["subnet"]
    assert json.loads((work / "search_state.json").read_text())["identity"]["divisor"] == "auto"
    (again,) = build_search_loop(config, supernet, work).run(resume=True)
    assert again["subnet"] == result["subnet"]
    with pytest.raises(UserError, match="cannot resume"):
        build_search_loop({**config, "divisor": None}, supernet, work).run(resume=True)


def test_where_it_makes_no_sense_it_is_refused(tiny, supernet, table, tmp_path):
    space = supernet.search_space
    times = {name: {str(w): w for w in choice.candidates} for name, choice in space.items()}
    parts = tmp_path / "parts.json"
    parts.write_text(
        json.dumps({"format": "mmrazor_lite.latency/1", "space": space.fingerprint, "base": 0, "choices": times})
    )
    for options, part in (
        ({"divisor": "auto"}, "takes the steps of a latency table; give latency_table"),
        ({"divisor": "auto", "latency_table": str(parts)}, "the latency table has no steps"),
        ({"divisor": 16, "latency_table": str(table[0])}, "divisor=16: 'auto' is allowed, .* model.mutator.divisor"),
    ):
        with pytest.raises(UserError, match=part) as caught:
            build_search_loop({**tiny.search_cfg(), **options}, supernet, tmp_path / "other")
        assert "\n" not in str(caught.value)
