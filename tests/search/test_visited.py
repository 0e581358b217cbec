"""What a search has scored, and the evolution whose mutation fills up for crossover."""

from __future__ import annotations

import json

import numpy as np
import pytest
from costs import CostOfRows

from mmrazor_lite.errors import UserError
from mmrazor_lite.search import AccuracyPredictor, EvolutionSearcher
from mmrazor_lite.search.visited import Visited, keys_of
from mmrazor_lite.subnet import Choice, SearchSpace

SPACE = SearchSpace([Choice(f"layer{i:02}", (1, 2, 4), kind="width") for i in range(12)])


def cost(rows):
    return {"macs": SPACE.numeric(rows).sum(1)}


def make(**changes) -> EvolutionSearcher:
    options = {"max_epochs": 25, "num_candidates": 20, "top_k": 3, "num_mutation": 10, "num_crossover": 10, **changes}
    return EvolutionSearcher(
        SPACE, CostOfRows(SPACE, cost), [("macs", 0, 30)], fill=options.pop("fill", "mutation"), **options
    )


def run(searcher: EvolutionSearcher, steps: int = 99) -> list[np.ndarray]:
    asked = []
    while not searcher.done and len(asked) < steps:
        asked.append(searcher.ask())
        searcher.tell(asked[-1], [{"score": value} for value in (asked[-1] @ np.arange(12.0)).tolist()])
    return asked


def test_keys_are_equal_for_equal_rows_only():
    rows = np.random.default_rng(0).integers(0, 2, (60, 5))
    for kind in (rows, np.asfortranarray(rows), np.repeat(rows, 2, axis=1)[:, ::2]):
        assert keys_of(kind) == [row.tobytes() for row in rows]
    assert keys_of(rows[:0]) == [] and keys_of(rows[:, :0]) == [b""] * 60


def test_rows_grow_in_their_order():
    rows = np.random.default_rng(1).integers(0, 3, (100, 4))
    visited = Visited(rows[:0])
    for start in range(0, 100, 7):
        visited.add(rows[start : start + 7])
        end = min(start + 7, 100)
        assert len(visited) == end and np.array_equal(visited.rows, rows[:end])
        assert visited.keys == set(keys_of(rows[:end]))


def test_mutation_takes_the_place_of_random_subnets():
    filled, drawn = make(), make(fill="random")
    asked = run(filled)
    run(drawn)
    rows = np.concatenate(asked)
    assert len(np.unique(rows, axis=0)) == len(rows) == 25 * 20 and cost(rows)["macs"].max() <= 30
    for epoch in filled.history[1:]:
        assert epoch["mutation"] + epoch["crossover"] + epoch["random"] == 20
    few = [sum(epoch["random"] for epoch in searcher.history[1:]) for searcher in (filled, drawn)]
    assert few[0] < few[1]


@pytest.mark.parametrize("fill", ["random", "mutation"])
def test_goes_on_as_if_nothing_had_been(fill):
    whole, part, again = (make(fill=fill, seed=2) for _ in range(3))
    run(whole)
    run(part, 9)
    again.load_state_dict(json.loads(json.dumps(part.state_dict())))
    run(again)
    assert again.state_dict() == whole.state_dict()
    other = make(fill="random" if fill == "mutation" else "mutation", seed=2)
    with pytest.raises(UserError, match=f"fill was '{fill}'"):
        other.load_state_dict(part.state_dict())


def test_an_unknown_fill():
    with pytest.raises(UserError, match="fill must be 'random' or 'mutation', got 'crossover'"):
        make(fill="crossover")


@pytest.mark.parametrize(
    ("about", "message"),
    [("{", "damaged"), ("5", "damaged"), ('{"format": "other/1"}', "format 'other/1' is unknown"), (None, "damaged")],
)
def test_a_predictor_with_damaged_metadata(tmp_path, about, message):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "p.safetensors"
    width = SPACE.one_hot(SPACE.index(SPACE.max())[None]).shape[1]
    AccuracyPredictor(SPACE, [(np.zeros((1, width)), np.zeros(1))]).write(path)
    about = about or '{"format": "mmrazor_lite.predictor/1", "space": "x"}'
    save_file(load_file(path), path, metadata={"about": about})
    with pytest.raises(UserError, match=message):
        AccuracyPredictor.read(path, SPACE)
