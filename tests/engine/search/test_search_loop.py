from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from robustness.processes import KILLED, run_script

from mmrazor_lite.engine.search_loop import build_search_loop
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import save_checkpoint
from mmrazor_lite.subnet import read_subnet

SCRIPT = Path(__file__).with_name("tiny.py")


@pytest.fixture(scope="module")
def supernet(tiny):
    return tiny.build_algorithm()


@pytest.fixture
def make(tiny, supernet, tmp_path):
    def make(work_dir=tmp_path, context=None, **changes):
        context = {"algorithm": supernet, "work_dir": work_dir, "config": "configs/tiny.py", **(context or {})}
        return build_search_loop(tiny.search_cfg(**changes), **context)

    return make


@pytest.fixture(scope="module")
def reference(tiny, supernet, tmp_path_factory):
    """An uninterrupted search of one process: its folder, results and the subnets it scored."""
    folder = tmp_path_factory.mktemp("reference")
    loop = build_search_loop(tiny.search_cfg(), algorithm=supernet, work_dir=folder, config="tiny.py")
    scored = []
    evaluate = loop.evaluator.evaluate
    loop.evaluator.evaluate = lambda subnet: scored.append(subnet) or evaluate(subnet)
    return folder, loop.run(), scored


def _yaml(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.yaml")}


def _without_times(folder: Path) -> dict:
    log = json.loads((folder / "search_log.json").read_text())
    return {**log, "steps": [{k: v for k, v in step.items() if k != "seconds"} for step in log["steps"]]}


def test_results_meet_their_budgets(reference, supernet, make):
    _, results, scored = reference
    full = supernet.cost_model.max()["macs"]
    assert [result["budget"] for result in results] == [("macs", 0.6 * full), ("macs", 0.35 * full)]
    for result in results:
        stored = read_subnet(result["file"], supernet.search_space)
        limit = result["budget"][1]
        assert result["file"].name == f"subnet_macs_{limit / 1e6:g}M.yaml"
        assert stored.subnet == result["subnet"]
        assert stored.resources == supernet.cost_model.of(stored.subnet)
        assert 0.5 * limit < stored.resources["macs"] <= limit
        again = make().evaluator.evaluate(stored.subnet)
        assert stored.score == {"mean/true": again["mean/true"], "mean/images": 100}
        assert stored.made_by["config"] == "tiny.py" and stored.made_by["tool"] == "search"
    assert len(scored) == len(set(scored)), "a subnet was scored twice"


def test_log_says_what_was_chosen(reference):
    folder, results, scored = reference
    log = json.loads((folder / "search_log.json").read_text())
    assert log["subnets_scored"] == len(scored)
    assert [entry["file"] for entry in log["results"]] == [result["file"].name for result in results]
    for step in log["steps"]:
        assert step["from"] > step["to"] and step["choice"] and step["costs"]["macs"]
        assert step["seconds"].keys() == {"all", "recalibration", "validation", "rest"}
        assert min(step["seconds"].values()) >= 0
        assert step["best_score"] == step["score"]


def test_killed_search_resumes_to_the_same_files(reference, processes, make, tmp_path):
    # Killed after the step was told, before its state was on disk: the step is done again.
    log = tmp_path / "output"
    assert run_script(processes, SCRIPT, [[tmp_path, "--kill-at", 4]], [log]) == [KILLED], log.read_text()
    assert not _yaml(tmp_path) and len(json.loads((tmp_path / "search_state.json").read_text())["steps"]) == 3
    loop = make(context={"config": "tiny.py"})
    loop.run(resume=True)
    assert _yaml(tmp_path) == _yaml(reference[0])
    assert _without_times(tmp_path) == _without_times(reference[0])
    state = [json.loads((folder / "search_state.json").read_text()) for folder in (tmp_path, reference[0])]
    assert state[0]["memo"] == state[1]["memo"]


def test_two_processes_find_the_same(reference, processes, tmp_path):
    logs = [tmp_path / f"output_{rank}" for rank in range(2)]
    statuses = run_script(processes, SCRIPT, [[tmp_path]] * 2, logs)
    outputs = [log.read_text() for log in logs]
    assert statuses == [0, 0], "\n".join(outputs)
    assert _yaml(tmp_path) == _yaml(reference[0])
    assert _without_times(tmp_path) == _without_times(reference[0])
    total = len(reference[2])
    here = [int(re.search(r"scored here: (\d+)", output)[1]) for output in outputs]
    assert sum(here) == total and min(here) > total // 4


def test_finished_search_resumes_to_the_same_files(reference, make, tmp_path):
    loop = make(context={"config": "tiny.py"})
    assert loop.run() and (first := _yaml(tmp_path))
    again = make(context={"config": "tiny.py"})
    again.evaluator.evaluate = None  # must not be called
    again.run(resume=True)
    assert _yaml(tmp_path) == first == _yaml(reference[0])


def test_resume_without_a_state_starts_anew(reference, make, tmp_path):
    make(context={"config": "tiny.py"}).run(resume=True)
    assert _yaml(tmp_path) == _yaml(reference[0])


def test_half_the_budget_gives_another_subnet(reference, make):
    results = make(target_macs=["30%"]).run()
    assert results[0]["subnet"] != reference[1][0]["subnet"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"target_macs": ["60%", "40%"]}, "budgets was"),
        ({"calibrate_sample_num": 65}, "evaluator.calibrate_images was 64, now 65"),
        ({"score_key": "mean/images"}, 'evaluator.score_key was "mean/true", now "mean/images"'),
        (
            {"searcher": {"type": "GreedySearcher", "max_channel_bins": 2}},
            "searcher.max_channel_bins was not set, now 2",
        ),
    ],
)
def test_resume_refuses_another_search(make, reference, changes, what):
    before = (reference[0] / "search_state.json").read_bytes()
    with pytest.raises(UserError, match=re.escape(what)):
        make(work_dir=reference[0], **changes).run(resume=True)
    assert (reference[0] / "search_state.json").read_bytes() == before


def test_resume_refuses_another_supernet_or_grid(make, reference, tiny, tmp_path):
    save_checkpoint({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"supernet was not set, now \"sha256:"):
        make(work_dir=reference[0], context={"checkpoint": tmp_path / "other.pth"}).run(resume=True)
    other = tiny.build_algorithm(candidates=(0.5, 0.75, 1.0))
    with pytest.raises(UserError, match=r"grid was"):
        make(work_dir=reference[0], context={"algorithm": other}).run(resume=True)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{}", '{"format": "mmrazor_lite.search/1", "memo": {}'])
def test_resume_refuses_a_damaged_state(make, tmp_path, content):
    (tmp_path / "search_state.json").write_text(content)
    with pytest.raises(UserError, match="not a search state"):
        make().run(resume=True)


def test_score_that_is_no_number_names_the_subnet(make, supernet):
    weight = supernet.architecture.head.fc.bias
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0] = float("nan")
    try:
        with pytest.raises(UserError, match=r"mean/true of Subnet\(backbone.*is nan"):
            make().run()
    finally:
        with torch.no_grad():
            weight.copy_(kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_macs": None}, "no budget; give target_flops"),
        ({"target_macs": ["1%"]}, "smallest subnet"),
        ({"target_macs": ["100%"]}, "largest subnet"),
        ({"target_mac": [1]}, r"unknown key 'target_mac' \(did you mean 'target_macs'"),
        ({"type": "SearchLop"}, "did you mean 'SearchLoop'"),
        ({"searcher": {"type": "GreedySercher"}}, "did you mean 'GreedySearcher'"),
        ({"searcher": {"type": "GreedySearcher", "bins": 3}}, "unknown key 'bins'"),
    ],
)
def test_refusals(make, changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_the_name_of_mmrazor_is_the_same_loop(make):
    assert type(make(type="AutoSlimGreedySearchLoop")) is type(make(type="mmrazor_lite.SearchLoop"))
