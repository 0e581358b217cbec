"""A predictor and the front in the search loop: what is evaluated, what is written, and going on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from draws import some

from mmrazor_lite.engine import search_loop
from mmrazor_lite.engine.search_build import build_search_loop
from mmrazor_lite.engine.search_state import SearchState
from mmrazor_lite.errors import UserError
from mmrazor_lite.search import AccuracyPredictor
from mmrazor_lite.subnet import Choice, SearchSpace, read_subnet

FRONT = {"type": "FrontSearcher", "generations": 4, "population": 8}


@pytest.fixture(scope="module")
def supernet(tiny):
    return tiny.build_algorithm()


def _predictor(space: SearchSpace, seed: int = 0) -> AccuracyPredictor:
    rng = np.random.default_rng(seed)
    width = space.one_hot(space.index(space.max())[None]).shape[1]
    return AccuracyPredictor(
        space, [(rng.normal(size=(8, width)), np.zeros(8)), (rng.normal(size=(1, 8)), np.zeros(1))]
    )


@pytest.fixture(scope="module")
def predictor(supernet, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("predictor") / "p.safetensors"
    _predictor(supernet.search_space).write(path)
    return path


@pytest.fixture
def make(tiny, supernet, predictor, tmp_path):
    """Build a search over the predictor, or (``front=True``) of the front by true scores."""

    def make(work_dir=tmp_path, front=False, **changes):
        config = tiny.search_cfg(searcher=FRONT) if front else tiny.evolution_cfg(predictor=str(predictor))
        return build_search_loop({**config, **changes}, algorithm=supernet, work_dir=work_dir, config="tiny.py")

    return make


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".yaml"}


def _searcher(folder: Path) -> dict:
    return json.loads((folder / "search_state.json").read_text())["searcher"]


def _count(loop, monkeypatch) -> list:
    scored, evaluate = [], loop.evaluator.evaluate
    monkeypatch.setattr(loop.evaluator, "evaluate", lambda subnet: scored.append(subnet) or evaluate(subnet))
    return scored


def test_only_what_was_found_is_evaluated(make, supernet, predictor, tmp_path, monkeypatch):
    loop = make()
    scored = _count(loop, monkeypatch)
    (result,) = loop.run()
    space = supernet.search_space
    assert scored == [result["subnet"]]
    predict = AccuracyPredictor.read(predictor, space)
    rows = np.array(_searcher(tmp_path)["rows"])
    assert len(rows) == 24 and result["score"]["predicted"] == pytest.approx(predict(rows).max())
    assert result["score"]["predicted"] == pytest.approx(predict(space.index(result["subnet"])[None])[0])
    assert result["score"]["mean/true"] == make().evaluator.evaluate(result["subnet"])["mean/true"]
    assert read_subnet(tmp_path / "best_subnet.yaml", space).score == result["score"]
    assert (tmp_path / "best_subnet.pth").is_file()
    steps = json.loads((tmp_path / "search_log.json").read_text())["steps"]
    assert len(steps) == 4 and all("prediction" in step["seconds"] for step in steps)


@pytest.mark.parametrize(("front", "wait"), some([(False, 0.0), (False, 1e9), (True, 0.0)], (False, 1e9), (True, 0.0)))
def test_goes_on_after_a_kill(make, tmp_path, monkeypatch, front, wait):
    """To the same files, whether the state was written after each step or not at all before the kill."""
    monkeypatch.setattr(search_loop, "SAVE_SECONDS", wait)
    whole, part = tmp_path / "whole", tmp_path / "part"
    make(whole, front).run()

    step, steps = search_loop.SearchLoop._step, []

    def killed(loop):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(step(loop))

    with monkeypatch.context() as patch:
        patch.setattr(search_loop.SearchLoop, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            make(part, front).run()
    assert (part / "search_state.json").is_file() == (front or not wait)
    make(part, front).run(resume=True)
    assert _files(part) == _files(whole) != {}
    assert _searcher(part) == _searcher(whole)


def test_few_writes_while_a_predictor_scores(make, monkeypatch):
    saved, save = [], SearchState.save
    monkeypatch.setattr(SearchState, "save", lambda state: saved.append(len(state.steps)) or save(state))
    monkeypatch.setattr(search_loop, "SAVE_SECONDS", 1e9)
    make(max_epochs=12).run()
    assert saved == [12]


def test_another_predictor_is_refused(make, supernet, tmp_path):
    make().run()
    other = tmp_path / "other.safetensors"
    _predictor(supernet.search_space, seed=1).write(other)
    with pytest.raises(UserError, match="another search: predictor was"):
        make(predictor=str(other)).run(resume=True)
    space = SearchSpace([Choice("a", (1, 2), kind="width")])
    _predictor(space).write(other)
    with pytest.raises(UserError) as error:
        make(predictor=str(other))
    assert space.fingerprint in str(error.value) and supernet.search_space.fingerprint in str(error.value)


def test_the_front_answers_every_budget(make, supernet, tmp_path, monkeypatch):
    loop = make(front=True, target_macs=["60%", "35%", "90%"])
    scored = _count(loop, monkeypatch)
    results = loop.run()
    assert len(scored) == len(set(scored)) <= 32 and len(results) == 3
    memo = json.loads((tmp_path / "search_state.json").read_text())["memo"]
    macs = np.array([supernet.cost_model.of(subnet)["macs"] for subnet in scored])
    scores = np.array([memo[",".join(map(str, supernet.search_space.index(s)))]["score"] for s in scored])
    for result in results:
        resource, limit = result["budget"]
        assert resource == "macs" and result["resources"]["macs"] <= limit
        assert result["score"]["mean/true"] == scores[macs <= limit].max()
        assert read_subnet(result["file"], supernet.search_space).subnet == result["subnet"]
        assert result["file"].with_suffix(".pth").is_file()
    front = json.loads((tmp_path / "front.json").read_text())
    assert front["resource"] == "macs" and len(front["front"]) == loop.searcher.history[-1]["front"]
    for entry in front["front"]:
        cost, score = entry["resources"]["macs"], entry["score"]
        assert not ((macs <= cost) & (scores >= score) & ((macs < cost) | (scores > score))).any()


def test_a_predictor_is_fitted_to_the_first_subnets_that_are_evaluated(make, supernet, tmp_path, monkeypatch):
    whole, part = tmp_path / "whole", tmp_path / "part"
    loop = make(whole, predictor={"samples": 20})
    scored = _count(loop, monkeypatch)
    (result,) = loop.run()
    space, cost = supernet.search_space, supernet.cost_model
    assert scored[20:] == [result["subnet"]] or (len(scored) == 20 and result["subnet"] in scored)
    (low, high), most = loop.limits["constraints"][0][1:], cost.max()["macs"]
    assert (low, high) == (0.2 * most, 0.6 * most)
    assert len(set(scored[:20])) == 20 and all(low <= cost.of(subnet)["macs"] <= high for subnet in scored[:20])
    predict = AccuracyPredictor.read(whole / "predictor.safetensors", space, cost.fingerprint)
    assert predict.facts["train"] == 16 and predict.facts["held_out"] == 4
    assert result["score"]["predicted"] == pytest.approx(predict(space.index(result["subnet"])[None])[0])
    assert result["score"]["mean/true"] == make().evaluator.evaluate(result["subnet"])["mean/true"]

    again, seen = make(part, predictor={"samples": 20}), []
    evaluate = again.evaluator.evaluate

    def killed(subnet):
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(subnet)
        return evaluate(subnet)

    monkeypatch.setattr(again.evaluator, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        again.run()
    resumed = make(part, predictor={"samples": 20})
    scored = _count(resumed, monkeypatch)
    resumed.run(resume=True)
    assert len(scored) in (13, 14) and _files(part) == _files(whole) != {}
    assert (part / "predictor.safetensors").read_bytes() == (whole / "predictor.safetensors").read_bytes()


def test_where_all_subnets_score_alike_they_are_evaluated(make, monkeypatch, tmp_path):
    loop = make(predictor={"samples": 20})
    monkeypatch.setattr(loop.evaluator, "evaluate", lambda subnet: {"mean/true": 1.0, "score": 1.0})
    (result,) = loop.run()
    assert "predicted" not in result["score"] and not (tmp_path / "predictor.safetensors").exists()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"samples": 19}, "predictor.samples=19: give a whole number of 20 or more"),
        ({"sample": 20}, "unknown key 'sample' .did you mean 'samples'"),
        ({}, "no 'samples'"),
    ],
)
def test_options_of_a_fit(make, said, message):
    with pytest.raises(UserError, match=message):
        make(predictor=said)


def test_too_few_subnets_within_the_limits(make, supernet):
    most = supernet.cost_model.min()["macs"] * 1.001
    with pytest.raises(UserError, match="subnets are within the limits, a predictor is fitted to 20 or more"):
        make(predictor={"samples": 20}, constraints_range={"macs": (0, f"{most / 1e6}M")}).run()
