from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from robustness.processes import KILLED, run_script

from mmrazor_lite.engine.search_build import build_search_loop
from mmrazor_lite.engine.search_output import names_of
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import save_checkpoint
from mmrazor_lite.registry import SEARCHERS
from mmrazor_lite.search import Budget, Result
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


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_within_a_step_scores_nothing_again(reference, processes, make, tmp_path, ranks):
    logs = [tmp_path / f"output_{rank}" for rank in range(ranks)]
    each = 8 // ranks  # of the second step, the first one has five
    statuses = run_script(processes, SCRIPT, [[tmp_path, "--kill-after", each]] * ranks, logs)
    assert KILLED in statuses, logs[0].read_text()
    kept = [line for path in tmp_path.glob("search_scores_*.jsonl") for line in path.read_text().splitlines()[1:]]
    assert len(json.loads((tmp_path / "search_state.json").read_text())["steps"]) == 1
    assert len(kept) >= 7  # the other process may have been stopped with it
    loop, scored = make(context={"config": "tiny.py"}), []
    evaluate = loop.evaluator.evaluate
    loop.evaluator.evaluate = lambda subnet: scored.append(subnet) or evaluate(subnet)
    loop.run(resume=True)
    assert len(scored) == len(reference[2]) - len(kept)
    assert _yaml(tmp_path) == _yaml(reference[0])
    assert _without_times(tmp_path) == _without_times(reference[0])
    assert not list(tmp_path.glob("search_scores_*"))


def test_a_kept_score_of_another_search_is_refused(make, tmp_path):
    loop = make()
    loop.scorer.begin(resume=False)
    loop.scorer._journal.add("0,0,0,0,0", {"score": 1.0}, True)
    with pytest.raises(UserError, match=r"search_scores_0.jsonl: cannot resume, this is another search: budgets was"):
        make(target_macs="50%").run(resume=True)
    make(target_macs="50%").scorer.begin(resume=False)
    assert not list(tmp_path.glob("search_scores_*"))


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


def test_output_that_is_no_number_names_the_subnet_and_leaves_no_result(make, supernet, tmp_path):
    weight = supernet.architecture.head.fc.bias
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0] = float("nan")
    try:
        for metric, key in (("MeanTrueScore", "mean/true"), ("Accuracy", "accuracy/top1")):
            with pytest.raises(UserError, match=r"the output of Subnet\(backbone.* is not finite"):
                make(evaluator={"type": metric}, score_key=key).run()
        assert not list(tmp_path.glob("*subnet*")) and not (tmp_path / "search_state.json").exists()
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


class Blind:
    """A searcher without limits, seed or history, whose options are whatever is given."""

    takes = ()

    def __init__(self, space, cost, **options):
        self.space, self.options, self.told = space, options, []

    @property
    def done(self):
        return bool(self.told)

    def ask(self):
        return np.stack([self.space.index(self.space.min()), self.space.index(self.space.max())])

    def tell(self, rows, metrics):
        self.told = [(row.tolist(), dict(metric)) for row, metric in zip(rows, metrics, strict=True)]

    def results(self):
        row, metrics = max(self.told, key=lambda pair: pair[1]["score"])
        return [Result(None, np.array(row), metrics)]

    def progress(self):
        return float(self.done), "blind"

    def state_dict(self):
        return {"told": self.told}

    def load_state_dict(self, state):
        self.told = state["told"]


@pytest.fixture
def searchers():
    before = dict(SEARCHERS.module_dict)
    yield SEARCHERS
    SEARCHERS._module_dict.clear()
    SEARCHERS._module_dict.update(before)


def test_a_searcher_without_limits(make, searchers, tmp_path):
    searchers.register_module(module=Blind)
    loop = make(target_macs=None, searcher={"type": "Blind", "anything": 3})
    assert loop.searcher.options == {"anything": 3, "seed": 0}
    (result,) = loop.run()
    assert result["file"] == tmp_path / "best_subnet.yaml" and result["budget"] is None
    again = make(target_macs=None, searcher={"type": "Blind", "anything": 3}).run(resume=True)
    assert again == [result]
    with pytest.raises(UserError, match="target_macs is not for the Blind, which takes no limits"):
        make(searcher={"type": "Blind"})


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        ("takes", "must say which limits it takes"),
        ("tell", "it is no searcher, it has no 'tell'"),
        ("cost", "the class takes no 'cost'"),
    ],
)
def test_what_is_no_searcher(make, searchers, lacks, message):
    parts = {name: part for name, part in vars(Blind).items() if name != lacks}
    if lacks == "cost":
        parts["__init__"] = lambda self, space: None
    searchers.register_module(module=type("Other", (), parts))
    with pytest.raises(UserError, match=message):
        make(target_macs=None, searcher={"type": "Other"})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([[0, 0, 99, 0, 0]], r"the Wrong asks for candidate 99 of choice '.*', which has \d+: an index is from 0"),
        ([[-1, 0, 0, 0, 0]], r"the Wrong asks for candidate -1 of choice"),
        ([[0]], r"rows \(n, 5\) of whole numbers are needed"),
        ([[0.5] * 5], r"rows \(n, 5\) of whole numbers are needed"),
        ([[0] * 5, [0]], r"rows \(n, 5\) of whole numbers are needed"),
        ("rows", r"rows \(n, 5\) of whole numbers are needed"),
        ([], "the Wrong asks for no subnet"),
    ],
)
def test_rows_that_are_none_of_the_space(make, searchers, asked, message):
    searchers.register_module(module=type("Wrong", (Blind,), {"ask": lambda self: asked}))
    with pytest.raises(UserError, match=message) as error:
        make(target_macs=None, searcher={"type": "Wrong"}).run()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("state", [{"rows": np.zeros(2)}, {"score": float("nan")}, [1], {"of": object}])
def test_a_state_that_is_no_plain_data(make, searchers, state):
    searchers.register_module(module=type("Wrong", (Blind,), {"state_dict": lambda self: state}))
    with pytest.raises(UserError, match=r"state_dict\(\) of the Wrong must give a dict of plain JSON data: ") as error:
        make(target_macs=None, searcher={"type": "Wrong"}).run()
    assert "\n" not in str(error.value)


def test_rows_asked_for_twice_are_told(make, searchers, monkeypatch):
    lines = []
    monkeypatch.setattr("mmrazor_lite.engine.search_loop.print_log", lambda text, *a, **k: lines.append(text))
    twice = {"ask": lambda self: np.repeat(Blind.ask(self), 2, axis=0)}
    searchers.register_module(module=type("Twice", (Blind,), twice))
    make(target_macs=None, searcher={"type": "Twice"}).run()
    assert len([line for line in lines if "the Twice asks for subnets more than once" in line]) == 1


def test_what_the_search_sets_is_no_option(make):
    with pytest.raises(UserError, match=r"'seed' is set by the search; give --seed"):
        make(searcher={"type": "GreedySearcher", "seed": 1})
    with pytest.raises(UserError, match=r"unknown key 'macs' \(allowed: max_channel_bins\)"):
        make(searcher={"type": "GreedySearcher", "macs": 1})


def test_two_budgets_never_share_a_file():
    budgets = [Budget("macs", 123_456_789.0), Budget("macs", 123_456_790.0), Budget("latency", 1.5), None]
    assert names_of(budgets) == [
        "subnet_macs_123.456789M",
        "subnet_macs_123.45679M",
        "subnet_latency_1.5ms",
        "best_subnet",
    ]


@pytest.mark.parametrize("name", ["search_state.json", "search_log.json", "subnet_{}.yaml"])
def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(make, tmp_path, name):
    loop = make()
    loop.evaluator.evaluate = None  # must not be called
    path = tmp_path / name.format(f"macs_{loop.limits['budgets'][0][1] / 1e6:g}M")
    path.mkdir()
    with pytest.raises(UserError, match=f"{re.escape(str(path))} is a folder, a file is to be written there"):
        loop.run()
