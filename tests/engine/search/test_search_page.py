"""The page of a search: what was tried and chosen, what it costs where; the same bytes when the search is resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from disks import at_most
from html_pages import parsed
from torch import nn

from mmrazor_lite.engine import search_output, search_page
from mmrazor_lite.engine.search_build import build_search_loop
from mmrazor_lite.search import EvolutionSearcher, FrontSearcher
from mmrazor_lite.visualization import read_page
from mmrazor_lite.visualization.page import Page

EVOLUTION = {"max_epochs": 2, "num_candidates": 8, "top_k": 4, "num_mutation": 2, "num_crossover": 2}
SEARCHES = {
    "greedy": {},
    "evolution": {
        "searcher": {"type": EvolutionSearcher.__name__, **EVOLUTION},
        "target_macs": None,
        "constraints_range": {"macs": ["20%", "60%"]},
    },
    "front": {"searcher": {"type": FrontSearcher.__name__, "generations": 2, "population": 6}},
}


@pytest.fixture(scope="module")
def supernet(tiny):
    return tiny.build_algorithm()


@pytest.fixture(scope="module")
def make(tiny, supernet):
    def make(folder: Path, kind: str = "greedy"):
        cfg = tiny.search_cfg(**SEARCHES[kind])
        about = {"work_dir": folder, "config": "configs/tiny<b>.py", "command": "mmrazor-lite search <b> c.pth"}
        return build_search_loop(cfg, algorithm=supernet, **about)

    return make


@pytest.fixture(scope="module")
def greedy(make, tmp_path_factory) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("greedy")
    return folder, make(folder).run()


def part(page: Page, name: str):
    return next(section for section in page.sections if section.name == name)


def test_what_was_tried_and_what_was_chosen(greedy, supernet):
    folder, results = greedy
    page = read_page(folder / "report.json")
    memo = json.loads((folder / "search_state.json").read_text())["memo"]
    lines = {line.name: line for line in part(page, "front").chart.series}
    rows = np.array([key.split(",") for key in memo], int)
    tried = zip(supernet.cost_model(rows)["macs"].tolist(), (entry["score"] for entry in memo.values()), strict=True)
    assert sorted(lines["tried"].points) == sorted((macs, float(f"{score:.7g}")) for macs, score in tried)
    best = lines["the best of its cost"].points
    assert list(best) == sorted(best) and [y for _, y in best] == sorted(y for _, y in best)
    for x, y in lines["tried"].points:
        assert not any(a <= x and b > y for a, b in best if (x, y) in best)
        assert any(a <= x and b >= y for a, b in best), "nothing is above the line"
    chosen = [(r["resources"]["macs"], float(f"{r['score']['mean/true']:.7g}")) for r in results]
    assert list(lines["chosen"].points) == chosen
    assert [dict(one.costs) for one in page.outcomes[1:]] == [r["resources"] for r in results]
    assert [one.file for one in page.outcomes[1:]] == [r["file"].name for r in results]
    assert page.outcomes[0].name == "full network" and dict(page.outcomes[0].costs) == supernet.cost_model.max()
    steps = json.loads((folder / "search_log.json").read_text())["steps"]
    (progress,) = part(page, "progress").chart.series
    assert [y for _, y in progress.points] == [float(f"{step['best_score']:.7g}") for step in steps]
    assert progress.points[-1][0] == sum(step["asked"] for step in steps)


def test_widths_macs_and_time(greedy, supernet):
    folder, results = greedy
    page = read_page(folder / "report.json")
    widths = part(page, "choices").chart
    assert widths.behind and widths.names == tuple(supernet.search_space)
    kept = [tuple(r["subnet"].values()) for r in results]
    assert [numbers for _, numbers in widths.values] == [tuple(supernet.search_space.max().values()), *kept]
    macs = part(page, "macs").chart
    totals = [sum(numbers) for _, numbers in macs.values]
    assert totals == [supernet.cost_model.max()["macs"], *(r["resources"]["macs"] for r in results)]
    spent = dict(zip(part(page, "time").chart.names, part(page, "time").chart.values[0][1], strict=True))
    steps = json.loads((folder / "search_log.json").read_text())["steps"]
    assert spent == pytest.approx({name: sum(s["seconds"][name] for s in steps) for name in spent}, rel=1e-6)


def test_macs_of_each_layer_are_those_of_the_export(supernet):
    subnet = supernet.search_space.subnet([1] * len(supernet.search_space))
    counted: dict[str, int] = {}

    def count(name: str):
        def hook(module, inputs, output):
            counted[name] = counted.get(name, 0) + output[0].numel() * module.weight[0].numel()

        return hook

    network = supernet.mutator.export(subnet).eval()
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count(name))
    with torch.no_grad():
        network(torch.zeros(1, 3, 8, 8))
    assert supernet.cost_model.by_part(subnet) == counted


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_finished_search_is_resumed_to_the_same_bytes_and_every_part_is_there(make, greedy, tmp_path, kind):
    folder = greedy[0] if kind == "greedy" else tmp_path
    if kind != "greedy":
        make(folder, kind).run()
    before = {path.name: path.read_bytes() for path in folder.glob("report.*")}
    loop = make(folder, kind)
    loop.evaluator.evaluate = None  # must not be called
    loop.run(resume=True)
    assert before.keys() == {"report.html", "report.json"}
    assert {path.name: path.read_bytes() for path in folder.glob("report.*")} == before
    found = parsed(before["report.html"].decode())
    expected = {"networks", "front", "progress", "choices", "macs", "time", "settings", "files"}
    assert set(found.sections) == expected and found.pictures == 5 and not found.from_elsewhere
    assert "b" not in found.tags and "mmrazor-lite search <b> c.pth" in found.words
    assert all((folder / link).is_file() for link in found.links) and len(found.links) > 3


def test_a_full_disk_costs_the_page_alone(make, tmp_path, monkeypatch):
    told = []
    write = search_output.write_page

    def full(path, page):
        with at_most(5000):
            return write(path, page)

    monkeypatch.setattr(search_output, "write_page", full)
    monkeypatch.setattr("mmrazor_lite.visualization.page_file.note", lambda text, level: told.append(text))
    results = make(tmp_path).run()
    assert all(result["file"].is_file() for result in results) and (tmp_path / "search_log.json").is_file()
    assert not list(tmp_path.glob("*report*")) and not list(tmp_path.glob(".*.tmp"))
    assert len(told) == 1 and "no report.html:" in told[0] and "File too large" in told[0]
    make(tmp_path).run(resume=True)
    assert not list(tmp_path.glob("report.html"))
    monkeypatch.undo()
    make(tmp_path).run(resume=True)
    assert (tmp_path / "report.html").is_file()


def test_limits_in_words():
    limits = [("macs", 750_000.0), ("latency", 12.5), ("params", 0.0, 2e6), ("flops", 3e8, None), ("memory", 1e6, 2e6)]
    assert search_page._limits(limits) == [
        "macs <= 750k", "latency <= 12.5", "params <= 2M", "300M <= flops", "1M <= memory <= 2M",
    ]  # fmt: skip
