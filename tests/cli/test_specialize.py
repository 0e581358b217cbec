"""``tools/specialize.py``: one budget or several of any resource, one search for all of them, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from draws import some
from html_pages import parsed

import mmrazor_lite
from mmrazor_lite.cli import main
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.search import AccuracyPredictor
from mmrazor_lite.subnet import Choice, SearchSpace, read_subnet
from mmrazor_lite.visualization import read_page


@pytest.fixture(scope="module")
def rows(supernet_space) -> np.ndarray:
    """All subnets."""
    space = supernet_space[0]
    sizes = [np.arange(len(choice.candidates)) for choice in space.values()]
    return np.stack(np.meshgrid(*sizes, indexing="ij"), -1).reshape(-1, len(space))


def predictor_of(space: SearchSpace) -> AccuracyPredictor:
    """One that likes some candidates more than others."""
    width = space.one_hot(space.index(space.max())[None]).shape[1]
    return AccuracyPredictor(space, [(np.random.default_rng(0).normal(size=(1, width)), np.zeros(1))])


@pytest.fixture(scope="module")
def predictor(supernet_space, tmp_path_factory) -> Path:
    """A file of one."""
    path = tmp_path_factory.mktemp("predictor") / "predictor.safetensors"
    predictor_of(supernet_space[0]).write(path)
    return path


def table(space, folder: Path, factor: float) -> Path:
    """A latency table: so many milliseconds for each operator."""
    times = {name: {"k3": 3 * factor, "k1": 2 * factor, "identity": 0} for name in space}
    path = folder / f"table_{factor}.json"
    data = {"format": "mmrazor_lite.latency/1", "space": space.fingerprint, "base": factor, "choices": times}
    path.write_text(json.dumps(data))
    return path


def specialize(supernet, *words: object) -> None:
    assert main([str(word) for word in ("specialize", supernet.config, supernet.checkpoint, *words)]) == 0


def found(folder: Path, space):
    """The subnet file in a folder, after its checkpoint was seen to be that network."""
    (file,) = folder.glob("*.yaml")
    stored = read_subnet(file, space)
    plain = mmrazor_lite.load_subnet(file.with_suffix(".pth"))
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    assert parameters == stored.resources["params"]
    assert torch.isfinite(plain(torch.zeros(2, 3, 8, 8))).all()
    return stored


def test_each_limit_has_a_search_of_its_own(supernet, supernet_space, tmp_path):
    space, cost = supernet_space
    specialize(supernet, "--macs", "70%", "45%", "--work-dir", tmp_path)
    names = ["macs_45pct", "macs_70pct", "report.html", "report.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    page, html = read_page(tmp_path / "report.json"), parsed((tmp_path / "report.html").read_text())
    assert page.kind == "specialize" and page.sections[-1].table.rows[0][1].startswith("mmrazor-lite specialize ")
    (front,) = [part.chart for part in page.sections if part.name == "front"]
    assert [line.name for line in front.series if line.look == "marks"] == ["macs_70pct", "macs_45pct"]
    assert all((tmp_path / link).is_file() for link in html.links) and "./macs_45pct/report.html" in html.links
    full, macs = cost.max()["macs"], []
    for percent in (70, 45):
        stored = found(tmp_path / f"macs_{percent}pct", space)
        assert stored.resources == cost.of(stored.subnet)
        assert stored.resources["macs"] <= percent / 100 * full
        assert 0 <= stored.score["accuracy/top1"] <= 100
        macs.append(stored.resources["macs"])
    assert macs[0] > macs[1]


@pytest.mark.parametrize("factor", some([1, 2], 2))
def test_a_latency_by_a_table(supernet, supernet_space, tmp_path, factor):
    """A table twice as slow leaves subnets that are twice as fast by the other one."""
    space, _ = supernet_space
    times = table(space, tmp_path, factor)
    specialize(supernet, "--latency", "9ms", "--table", times, "--work-dir", tmp_path / "work")
    stored = found(tmp_path / "work" / "latency_9ms", space)
    assert LatencyTable.read(times, space).of(stored.subnet) <= 9
    assert LatencyTable.read(table(space, tmp_path, 1), space).of(stored.subnet) <= 9 / factor


def test_one_search_answers_all_limits(supernet, supernet_space, rows, predictor, tmp_path):
    """By a predictor each answer is the best of the space within its limit, as one look at all subnets tells."""
    space, cost = supernet_space
    limits = ["45%", "60%", "80%"]
    more = [f"search_cfg.searcher.{key}" for key in ("max_epochs=50", "num_candidates=100")]
    words = ["--macs", *limits, "--front", "--predictor", predictor, "--cfg-options", *more]
    specialize(supernet, *words, "search_cfg.constraints_range=None", "--work-dir", tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert folder.name == "macs_front"
    macs, scores = cost(rows)["macs"], AccuracyPredictor.read(predictor, space)(rows)
    answers = sorted((read_subnet(path, space) for path in folder.glob("*.yaml")), key=lambda s: s.resources["macs"])
    assert len(answers) == len(limits) == len(list(folder.glob("*.pth")))
    for limit, answer in zip(limits, answers, strict=True):
        within = macs <= float(limit[:-1]) / 100 * cost.max()["macs"]
        best = rows[within][np.argmax(scores[within])]
        assert answer.subnet == space.subnet(best)


def test_the_constraints_of_the_config_hold_too(supernet, supernet_space, rows, tmp_path, fails, capsys):
    """The narrower of both, and what no subnet is within is refused."""
    space, cost = supernet_space
    params = cost(rows)["params"]
    limit = int(np.quantile(params, 0.3))
    option = f"search_cfg.constraints_range.params=(0,'{limit / 1e6!r}M')"
    specialize(supernet, "--macs", "80%", "--work-dir", tmp_path / "a", "--cfg-options", option)
    assert found(tmp_path / "a" / "macs_80pct", space).resources["params"] <= limit
    assert "within the config's constraints_range.params=" in capsys.readouterr().out
    log = json.loads((tmp_path / "a" / "macs_80pct" / "search_log.json").read_text())
    assert [entry[0] for entry in log["constraints"]] == ["flops", "params", "macs"]
    words = ["specialize", supernet.config, supernet.checkpoint, "--macs", "80%", "--work-dir", tmp_path / "b"]
    few = "search_cfg.constraints_range.params=(0,0.000001)"
    assert "no subnet with params from 0 to 1 was found" in fails(*words, "--cfg-options", few)
    specialize(supernet, *words[3:5], "60%", "--front", "--work-dir", tmp_path / "c", "--cfg-options", option)
    answers = [read_subnet(path, space).resources for path in (tmp_path / "c" / "macs_front").glob("*.yaml")]
    assert len(answers) == 2 and all(costs["params"] <= limit and costs["flops"] <= 24_000 for costs in answers)
    low = "search_cfg.constraints_range.macs=('70%',None)"
    assert "the low end is above the high one" in fails(*words[:4], "60%", *words[5:], "--cfg-options", low)
    assert not list((tmp_path / "b").rglob("*subnet*"))


def test_the_options_of_the_config_go_to_the_front(supernet, predictor, tmp_path, fails, capsys):
    words = ["--macs", "80%", "--front", "--predictor", predictor]
    options = ["--cfg-options", "search_cfg.constraints_range=None", "search_cfg.searcher.mutate_prob=0.3"]
    specialize(supernet, *words, "--work-dir", tmp_path / "a", *options)
    said = capsys.readouterr().out
    assert "top_k, num_mutation, num_crossover of the config's EvolutionSearcher mean nothing to the Front" in said
    state = json.loads((tmp_path / "a" / "macs_front" / "search_state.json").read_text())
    assert [state["searcher"][key] for key in ("generations", "population", "mutate_prob")] == [4, 6, 0.3]
    start = ["specialize", supernet.config, supernet.checkpoint, *words, "--work-dir", tmp_path / "b"]
    line = fails(*start, *options, "search_cfg.searcher.top_k=3")
    assert "--cfg-options search_cfg.searcher.top_k: it is of the EvolutionSearcher" in line


def test_a_searcher_that_takes_budgets(supernet, supernet_space, predictor, tmp_path, fails):
    """One search for each limit, with its options; budgets of another resource are not dropped."""
    space, cost = supernet_space
    config = tmp_path / "front.py"
    config.write_text(
        f"_base_ = {str(supernet.config)!r}\n"
        "search_cfg = dict(constraints_range=None, searcher=dict(_delete_=True, type='FrontSearcher', generations=3, "
        "population=8))\n"
    )
    own = supernet._replace(config=config)
    specialize(own, "--macs", "80%", "--predictor", predictor, "--work-dir", tmp_path / "a")
    assert found(tmp_path / "a" / "macs_80pct", space).resources["macs"] <= 0.8 * cost.max()["macs"]
    with open(config, "a") as file:
        file.write("search_cfg['target_params'] = '50%'\n")
    words = ["specialize", config, supernet.checkpoint, "--macs", "80%", "--work-dir", tmp_path / "b"]
    line = fails(*words)
    assert "the config has target_params='50%': leave it out with --cfg-options search_cfg.target_params=None" in line


def test_goes_on_where_it_was(supernet, tmp_path, capsys):
    words = ["--macs", "70%", "--work-dir", tmp_path]
    specialize(supernet, *words)
    files = {path: path.read_bytes() for path in (tmp_path / "macs_70pct").glob("best_subnet.*")}
    state = json.loads((tmp_path / "macs_70pct" / "search_state.json").read_text())
    specialize(supernet, *words, "--resume")
    assert files == {path: path.read_bytes() for path in files} and len(files) == 2
    assert json.loads((tmp_path / "macs_70pct" / "search_state.json").read_text())["memo"] == state["memo"]


BAD = [
    (["--macs", "70%", "70%"], "--macs 70%: given twice"),
    ([], "no budget given; give one of --macs, --flops, --params, --memory, --latency with one limit or several"),
    (["--macs", "1", "--params", "1"], "2 resources given; give one of --macs"),
    (["--latency", "9ms"], "--latency needs --table"),
    (["--latency", "9ms", "--table", "no.json"], "--table 'no.json' not found"),
    (["--macs", "70%", "--predictor", "no.safetensors"], "--predictor 'no.safetensors' not found"),
    (["--macs", "9ms"], "9ms"),
    (["--macs", "70%", "-5"], "macs budget -5 must be a positive number"),
    (["--macs", "70%", "1%"], "--macs 1%: no subnet has "),
    (["--macs", "1%", "60%", "--front"], "--macs 1%: no subnet has "),
    (["--macs", "600M", "--front", "--cfg-options", "search_cfg=None"], "has no search_cfg: it is not a search config"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_refusals(supernet, tmp_path, fails, words, message):
    options = ["--work-dir", str(tmp_path / "work")]
    assert message in fails("specialize", supernet.config, supernet.checkpoint, *options, *words)
    assert not (tmp_path / "work").exists()


def test_what_limits_can_be(supernet, supernet_space, tmp_path, fails, capsys):
    cost = supernet_space[1]
    reach = f"the subnets of the search space have from {cost.min()['macs']:,} to {cost.max()['macs']:,}"
    words = ["specialize", supernet.config, supernet.checkpoint, "--work-dir", tmp_path / "work", "--macs", "900M"]
    for front in ([], ["--front"]):
        assert fails(*words, "0.0001M", *front).endswith(f"--macs 0.0001M: no subnet has 100 macs or less; {reach}")
    specialize(supernet, *words[3:])
    assert f"--macs 900M: every subnet is within this limit; {reach}" in capsys.readouterr().out


def test_checkpoint_that_is_not_there(supernet, tmp_path, fails):
    line = fails("specialize", supernet.config, tmp_path / "no.pth", "--macs", "70%", "--work-dir", tmp_path)
    assert f"checkpoint '{tmp_path}/no.pth' not found" in line


def test_table_and_predictor_of_another_space(supernet, supernet_space, tmp_path, fails):
    times = table(supernet_space[0], tmp_path, 1)
    times.write_text(times.read_text().replace(supernet_space[0].fingerprint, "sha256:0123456789abcdef"))
    rest = [supernet.checkpoint, "--work-dir", tmp_path / "work"]
    line = fails("specialize", supernet.config, *rest, "--latency", "9ms", "--table", times)
    assert times.name in line and "sha256:0123456789abcdef" in line
    other = SearchSpace([Choice("layer", (4, 8), kind="width")])
    predictor_of(other).write(tmp_path / "other.safetensors")
    line = fails("specialize", supernet.config, *rest, "--macs", "70%", "--predictor", tmp_path / "other.safetensors")
    assert "other.safetensors" in line and other.fingerprint in line and supernet_space[0].fingerprint in line
    wider = predictor_of(supernet_space[0])  # the same choices, in another network
    wider.facts = {"network": "sha256:0123456789abcdef"}
    wider.write(tmp_path / "wider.safetensors")
    line = fails("specialize", supernet.config, *rest, "--macs", "70%", "--predictor", tmp_path / "wider.safetensors")
    assert "wider.safetensors: a predictor of a network of other widths" in line
