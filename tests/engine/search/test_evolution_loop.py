"""The evolution in the search loop, on a space of 243 subnets and real images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from robustness.processes import KILLED, run_script

from mmrazor_lite.engine.search_build import build_search_loop, is_search_loop
from mmrazor_lite.engine.search_loop import SearchLoop
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import read_checkpoint
from mmrazor_lite.registry import LOOPS
from mmrazor_lite.search import EvolutionSearcher, GreedySearcher
from mmrazor_lite.subnet import read_subnet

SCRIPT = Path(__file__).with_name("tiny.py")


@pytest.fixture(scope="module")
def supernet(tiny):
    return tiny.build_algorithm()


@pytest.fixture
def make(tiny, supernet, tmp_path):
    def make(work_dir=tmp_path, config=None, context=None, **changes):
        context = {"algorithm": supernet, "work_dir": work_dir, "config": "tiny.py", **(context or {})}
        return build_search_loop(config or tiny.evolution_cfg(**changes), **context)

    return make


@pytest.fixture(scope="module")
def reference(tiny, supernet, tmp_path_factory):
    """An uninterrupted search of one process: its folder, results and the subnets it scored."""
    folder = tmp_path_factory.mktemp("reference")
    loop = build_search_loop(tiny.evolution_cfg(), algorithm=supernet, work_dir=folder, config="tiny.py")
    scored = []
    evaluate = loop.evaluator.evaluate
    loop.evaluator.evaluate = lambda subnet: scored.append(subnet) or evaluate(subnet)
    return folder, loop.run(), scored


def _log(folder: Path) -> dict:
    log = json.loads((folder / "search_log.json").read_text())
    return {**log, "steps": [{k: v for k, v in step.items() if k != "seconds"} for step in log["steps"]]}


def _assert_equal(folder: Path, other: Path) -> None:
    files = sorted(path.name for path in folder.glob("*") if path.suffix in (".yaml", ".pth"))
    assert files == ["best_subnet.pth", "best_subnet.yaml"]
    assert (folder / "best_subnet.yaml").read_bytes() == (other / "best_subnet.yaml").read_bytes()
    weights = [read_checkpoint(place / "best_subnet.pth")["state_dict"] for place in (folder, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert _log(folder) == _log(other)
    states = [json.loads((place / "search_state.json").read_text()) for place in (folder, other)]
    assert states[0]["memo"] == states[1]["memo"] and states[0]["searcher"] == states[1]["searcher"]


def test_the_best_of_all_within_the_range(reference, supernet, make):
    folder, results, scored = reference
    assert len(scored) == len(set(scored)) == 24
    full = supernet.cost_model.max()["macs"]
    costs = [supernet.cost_model.of(subnet)["macs"] for subnet in scored]
    assert 0.2 * full <= min(costs) and max(costs) <= 0.6 * full
    scores = {subnet: make().evaluator.evaluate(subnet)["mean/true"] for subnet in scored[::5]}
    (result,) = results
    stored = read_subnet(folder / "best_subnet.yaml", supernet.search_space)
    assert result["file"] == folder / "best_subnet.yaml" and result["budget"] is None
    assert stored.subnet == result["subnet"] in scored
    assert stored.score["mean/true"] >= max(scores.values()) and stored.score == result["score"]
    assert stored.resources == supernet.cost_model.of(stored.subnet)
    memo = json.loads((folder / "search_state.json").read_text())["memo"]
    assert stored.score["mean/true"] == max(metrics["score"] for metrics in memo.values())


@torch.no_grad()
def test_the_weights_score_as_the_subnet_did(reference, supernet, make):
    """Their statistics are the recalibrated ones: the plain network scores the same without recalibration."""
    folder, (result,), _ = reference
    network = supernet.mutator.export(result["subnet"]).eval()
    network.load_state_dict(read_checkpoint(folder / "best_subnet.pth")["state_dict"])
    samples = [sample for batch in make().evaluator.batches for sample in network(**batch, mode="predict")]
    mean = 100 * sum(float(sample.pred_score[sample.gt_label]) for sample in samples) / len(samples)
    assert mean == pytest.approx(result["score"]["mean/true"], rel=1e-5)


def test_the_supernet_is_left_as_it_was(tiny, make):
    algorithm = tiny.build_algorithm()
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    active = algorithm.mutator.active
    make(context={"algorithm": algorithm}, max_epochs=1).run()
    assert all(torch.equal(before[key], value) for key, value in algorithm.state_dict().items())
    assert algorithm.mutator.active == active


def test_log_says_where_candidates_and_time_went(reference):
    folder, results, scored = reference
    log = json.loads((folder / "search_log.json").read_text())
    assert log["subnets_scored"] == len(scored)
    assert log["constraints"][1] == ["params", 0.0, None]
    assert [entry["file"] for entry in log["results"]] == ["best_subnet.yaml"]
    best = 0.0
    for number, step in enumerate(log["steps"], 1):
        best = max(best, step["best_score"])
        assert step["epoch"] == number and step["scored"] == 6 and step["best_so_far"] == best
        assert step["mutation"] + step["crossover"] + step["random"] == 6
        seconds = step["seconds"]
        assert min(seconds["recalibration"], seconds["validation"]) > 0
        assert seconds["all"] == pytest.approx(sum(seconds.values()) - seconds["all"], abs=0.005)
    assert best == results[0]["score"]["mean/true"]


def test_killed_search_resumes_to_the_same_files(reference, processes, make, tmp_path):
    log = tmp_path / "output"
    words = [tmp_path, "--evolution", "--kill-at", 3]
    assert run_script(processes, SCRIPT, [words], [log]) == [KILLED], log.read_text()
    make().run(resume=True)
    _assert_equal(tmp_path, reference[0])


def test_two_processes_find_the_same(reference, processes, tmp_path):
    logs = [tmp_path / f"output_{rank}" for rank in range(2)]
    statuses = run_script(processes, SCRIPT, [[tmp_path, "--evolution"]] * 2, logs)
    outputs = [log.read_text() for log in logs]
    assert statuses == [0, 0], "\n".join(outputs)
    _assert_equal(tmp_path, reference[0])
    assert [int(re.search(r"scored here: (\d+)", output)[1]) for output in outputs] == [12, 12]


def test_finished_search_resumes_to_the_same_files(reference, make, tmp_path):
    make().run()
    again = make()
    again.evaluator.evaluate = None  # must not be called
    again.run(resume=True)
    _assert_equal(tmp_path, reference[0])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"constraints_range": {"macs": ("20%", "61%")}}, "constraints was"),
        ({"top_k": 2}, "searcher.top_k was 3, now 2"),
        ({"calibrate_sample_num": 65}, "evaluator.calibrate_images was 64, now 65"),
    ],
)
def test_resume_refuses_another_search(make, reference, changes, what):
    before = (reference[0] / "search_state.json").read_bytes()
    with pytest.raises(UserError, match=re.escape(what)):
        make(work_dir=reference[0], **changes).run(resume=True)
    assert (reference[0] / "search_state.json").read_bytes() == before


def test_mmrazors_name_is_this_loop_with_an_evolution(make, tiny):
    options = tiny.evolution_cfg()
    kept = ("dataloader", "evaluator", "score_key", "calibrate_dataloader", "calibrate_sample_num", "constraints_range")
    ours = {key: options[key] for key in kept}
    numbers = {key: value for key, value in options.items() if key not in (*kept, "type")}
    one = make(config={**ours, "type": "SearchLoop", "searcher": {"type": "EvolutionSearcher", **numbers}})
    other = make(config=options)
    assert type(one) is type(other) is SearchLoop
    assert one.searcher.state_dict() == other.searcher.state_dict()
    assert type(make(config={**ours, "searcher": {"type": "EvolutionSearcher"}}).searcher) is EvolutionSearcher
    assert type(make(config=ours).searcher) is EvolutionSearcher
    assert type(make(config=tiny.search_cfg()).searcher) is GreedySearcher
    for name in ("SearchLoop", "AutoSlimGreedySearchLoop", "EvolutionSearchLoop"):
        assert is_search_loop(LOOPS.get(name))
    assert not is_search_loop(LOOPS.get("SubnetValLoop")) and not is_search_loop(None)


def test_the_defaults_are_mmrazors(make, tiny, supernet):
    keys = ("dataloader", "evaluator", "score_key", "calibrate_dataloader", "calibrate_sample_num")
    config = {key: value for key, value in tiny.evolution_cfg().items() if key in keys}
    accepted = {"max_keep_ckpts": 3, "estimator_cfg": {"input_shape": (1, 3, 8, 8)}, "resume_from": None}
    searcher = make(config={**config, **accepted, "type": "EvolutionSearchLoop"}).searcher
    assert searcher.constraints == (("flops", 0.0, 330e6),)
    assert (searcher.max_epochs, searcher.num_candidates, searcher.top_k) == (20, 50, 10)
    assert (searcher.num_mutation, searcher.num_crossover) == (25, 25)
    assert (searcher.mutate_prob, searcher.crossover_prob) == (0.1, 0.5)


def test_minus_one_recalibrates_and_zero_does_not(make):
    images = {n: make(calibrate_sample_num=n).evaluator.settings["calibrate_images"] for n in (-1, 0, 64)}
    assert images == {-1: 200, 0: 0, 64: 64}  # the default is more than the 200 there are


def test_no_range_at_all(make, supernet):
    for ranges in ({}, {"flops": None}, {"flops": (None, None)}, None):
        searcher = make(constraints_range=ranges).searcher
        costs = supernet.cost_model(searcher.ask())["macs"]
        assert all(high == float("inf") for _, _, high in searcher.constraints) and len(costs) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constraints_range": {"macs": "1%"}}, r"no subnet with macs from 0 to [\d,.]+ was found; .* have macs from"),
        ({"constraints_range": {"latency": (0, 9)}}, "costs in latency is not known; give latency_table"),
        ({"constraints_range": {"latency": "50%"}}, "costs in latency is not known; give latency_table"),
        ({"constraints_range": {"mac": 1}}, r"unknown resource 'mac' \(did you mean 'macs'"),
        ({"constraints_range": [1, 2]}, r"constraints_range must be such as dict\(flops"),
        ({"predictor_cfg": {"type": "GaussProcessHandler"}}, "predictor_cfg is not supported"),
        ({"resume_from": "a.pkl"}, "resume_from is not supported: .* --resume"),
        ({"estimator_cfg": {"flops_params_cfg": {"input_shape": (1, 3, 9, 9)}}}, r"input_shape \(1, 3, 9, 9\) is not"),
        ({"num_candidates": 2}, "num_candidates=2 is smaller than top_k=3"),
        ({"num_candidate": 2}, "unknown key 'num_candidate' .did you mean 'num_candidates'"),
        ({"type": "EvolutionSearchLop"}, "did you mean 'EvolutionSearchLoop'"),
        ({"calibrate_dataloader": None, "calibrate_sample_num": -1}, "calibrate_dataloader is missing"),
    ],
)
def test_refusals(make, changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_limits_of_the_other_kind_are_refused(make, tiny):
    evolution = {"searcher": {"type": "EvolutionSearcher"}}
    with pytest.raises(UserError, match=r"target_macs is not for the EvolutionSearcher.*constraints_range=dict\(macs"):
        make(config={**tiny.search_cfg(), **evolution})
    with pytest.raises(UserError, match="EvolutionSearcher has no constraint; give constraints_range"):
        make(config={**tiny.search_cfg(target_macs=None), **evolution})
    with pytest.raises(UserError, match="constraints_range is not for the GreedySearcher.*target_flops"):
        ranges = {"constraints_range": {"flops": 1}, "searcher": {"type": "GreedySearcher"}}
        make(config={**tiny.search_cfg(), **ranges})


def test_doubling_a_latency_table_halves_what_fits(make, supernet, tmp_path):
    space = supernet.search_space

    def table(factor: float) -> str:
        times = {name: {str(w): factor * w for w in choice.candidates} for name, choice in space.items()}
        data = {"format": "mmrazor_lite.latency/1", "space": space.fingerprint, "base": 0, "choices": times}
        path = tmp_path / f"{factor}.json"
        path.write_text(json.dumps(data))
        return str(path)

    widths = sorted(sum(space.subnet(row).values()) for row in _every_row(space))
    limit = widths[len(widths) // 2]
    options = {"num_candidates": 243, "constraints_range": {"latency": (0, limit)}}
    fits = {}
    for factor in (1, 2):
        loop = make(**options, latency_table=table(factor))
        rows = loop.searcher.ask()
        fits[factor] = len(rows)
        assert fits[factor] == sum(factor * width <= limit for width in widths)
        assert (loop.cost(rows)["latency"] <= limit).all()
        assert loop.cost.of(space.max()) == loop.cost.max()
    assert 0 < fits[2] <= fits[1] / 2
    short = {**options, "num_candidates": 3, "max_epochs": 1, "num_mutation": 0}
    make(**short, latency_table=table(1)).run()
    with pytest.raises(UserError, match="cannot resume, this is another search: latency_table was"):
        make(**short, latency_table=table(2)).run(resume=True)


def _every_row(space):
    return np.stack(np.meshgrid(*(np.arange(len(c.candidates)) for c in space.values())), -1).reshape(-1, len(space))
