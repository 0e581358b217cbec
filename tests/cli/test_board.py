"""``board``: several work dirs in one table and one page; what is no work dir of a run in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from html_pages import parsed
from robustness.bad_input import line_of_failure

from mmrazor_lite.cli import main
from mmrazor_lite.visualization import read_page, write_page
from mmrazor_lite.visualization.page import Curves, Page, Section, bars, outcome, series


def page(kind: str, score: str, *found: tuple[str, int, float]) -> Page:
    tried = series("tried", [(100, 1), (200, 2)], "faint")
    best = series("the best of its cost", [(100, 1), (200, 2)], "steps")
    sections = (
        Section("front", "Cost", chart=Curves("macs", score, (tried, best))),
        Section("time", "Time", chart=bars("seconds", ["a", "b"], {"seconds": [1, 2.5]})),
    )
    full = outcome("full network", {"macs": 1000, "params": 7}, {score: 99})
    rows = (outcome(name, {"macs": macs, "params": 5}, {score: value}, f"{name}.yaml") for name, macs, value in found)
    return Page(kind, f"of {kind}", "told", outcomes=(full, *rows), sections=sections)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_page("runs/<i>1/report.html", page("search", "top1", ("a", 200, 50.5), ("b", 100, 40.0)))
    write_page("runs/2/report.html", page("search", "top1", ("c", 150, 45.0)))
    write_page("slim/report.html", page("slim", "agreement", ("d", 300, 80.0)))
    return tmp_path


def test_one_table_and_one_page(here, capsys):
    assert main(["board", "runs/<i>1/", "runs/2", "slim", "-o", "out/b.html"]) == 0
    said = capsys.readouterr().out
    assert "runs/<i>1: a" in said and "50.5" in said and "4 networks of 3 runs" in said
    assert "wrote out/b.html" in said and "wrote out/b.json" in said
    found = read_page("out/b.json")
    fronts = [part.chart for part in found.sections if part.name.startswith("front")]
    assert [(chart.x, chart.y) for chart in fronts] == [("macs", "top1"), ("macs", "agreement")]
    marks = {line.name: line.points for line in fronts[0].series if line.look == "marks"}
    assert marks == {"runs/<i>1": ((200, 50.5), (100, 40)), "runs/2": ((150, 45),)}
    assert [line.of for line in fronts[0].series] == ["runs/<i>1", "", "runs/2", ""]
    (time,) = [part.chart for part in found.sections if part.name == "time"]
    assert time.values == (("seconds", (3.5, 3.5, 3.5)),)
    html = parsed(Path("out/b.html").read_text())
    assert html.words.count("runs/<i>1") > 1
    reports = [link for link in html.links if link.endswith("report.html")]
    assert len(reports) == 3 and "../runs/%3Ci%3E1/report.html" in reports
    assert "../runs/%3Ci%3E1/a.yaml" in html.links


def test_another_cost(here, capsys):
    assert main(["board", "runs/2", "--cost", "params"]) == 0
    (front,) = [part.chart for part in read_page("board.json").sections if part.name == "front"]
    assert front.x == "params" and [line.points for line in front.series] == [((5, 45),)]


BAD = {
    "no folder": (["none"], "there is no folder 'none'"),
    "no page": (["empty"], "'empty' has no report.json", "--resume"),
    "twice": (["slim", "slim/"], "'slim' is given twice"),
    "damaged": (["damaged"], "report.json: not the data of a page", "its format is not"),
    "no JSON": (["text"], "report.json: not the data of a page", "no JSON"),
    "cost": (["slim", "--cost", "latency"], "--cost latency: no run knows it (known: macs, params)"),
    "ending": (["slim", "-o", "board.txt"], "give a name that ends in .html"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(here, capsys, case):
    for name, text in (("damaged", json.dumps({"format": "x"})), ("text", "{"), ("empty", None)):
        (here / name).mkdir()
        if text is not None:
            (here / name / "report.json").write_text(text)
    words, *says = BAD[case]
    line_of_failure(capsys, here, ["board", *words], *says)
