"""A page: its records as data, and as one file of HTML that loads nothing and takes nothing for markup."""

from __future__ import annotations

import json
import math
import re
import sys
from functools import cache

import numpy as np
import pytest
from html_pages import Found, parsed

from mmrazor_lite.errors import UserError
from mmrazor_lite.visualization import page_charts, page_file
from mmrazor_lite.visualization.page import (
    MOST_POINTS,
    Curves,
    Fact,
    Page,
    Section,
    bars,
    files,
    outcome,
    page_of,
    series,
    settings,
    table,
)
from mmrazor_lite.visualization.page_file import read_page, write_page
from mmrazor_lite.visualization.page_html import html_of

HOSTILE = (
    "<script>alert(1)</script>\"'&amp;</style></svg>",
    "javascript:alert(1)",
    "../../x y#?%.pth",
    "$\\frac{1$ ]]> <!-- --",
    "null\0 bell\x07 \udc80 \ud83d \u202e 日本",
    "_hidden",
)


def page(text: str = "text") -> Page:
    """One with everything that there is, ``text`` wherever text can be."""
    cloud = series(text, [(number, number % 7) for number in range(20)], "faint")
    curves = Curves(text, text, (cloud, series(text, [(1, 2), (3, 4)], "steps"), series(text, [(2, 3)], "marks")))
    lines = Curves(text, text, (series(text, [(1, 0.1), (2, 0.001)]),), log_y=True)
    before = bars(text, [text, f"{text}2"], {text: [4, 8], f"{text}2": [2, None]}, behind=True)
    return Page(
        text,
        text,
        text,
        (Fact(text, text, text),),
        (outcome(text, {"macs": 5, text: 1.5}, {text: 2}, text),),
        (
            Section("front", text, text, curves, table((text, text), [(text, 1), (text, None)], (text, ""))),
            Section("progress", text, text, lines),
            Section("widths", text, text, before, folded=False),
            settings({text: {text: [text, 1], "none": None}, "number": 3}),
            files([(text, text)]),
        ),
    )


def test_it_comes_back_from_json():
    for text in ("text", *HOSTILE):
        assert page_of(json.loads(json.dumps(page(text).as_dict(), allow_nan=False))) == page(text)


def damaged() -> list[tuple[dict, str]]:
    def changed(*path: object, to: object) -> dict:
        data = json.loads(json.dumps(page().as_dict()))
        inner = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return data

    return [
        (changed("format", to="other"), "its format is not"),
        (changed("title", to=5), "page.title is int, not str"),
        (changed("extra", to=5), "page is not of kind, title"),
        (changed("sections", 0, "chart", "series", 0, "look", to="bold"), r"series.0.look is none of faint"),
        (changed("sections", 2, "chart", "names", to=["one"]), "another number of rows"),
        (changed("sections", 0, "chart", "series", 1, "points", 0, to=[1]), "has 1 entries, 2 are needed"),
        (changed("sections", 0, "chart", to={}), "sections.0.chart is not of"),
        (changed("outcomes", 0, "costs", to="x"), "outcomes.0.costs is no list"),
        (changed("sections", 0, "folded", to=1), "folded is int, not bool"),
    ]


@pytest.mark.parametrize(("data", "says"), damaged())
def test_what_is_no_page_is_told_with_its_place(tmp_path, data, says):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=rf"report.json: not the data of a page .*{says}.*--resume"):
        read_page(path)


def test_numbers_are_plain_and_finite():
    made = series("x", [(np.int64(1), np.float32(0.1)), (2, math.nan), (3, math.inf), (4, None)])
    assert made.points == ((1, 0.1),) and type(made.points[0][0]) is int
    assert bars("x", ["a", "b"], {"s": [math.inf, np.float64(1 / 3)]}).values == (("s", (None, 0.3333333)),)
    many = series("x", [(number, 0) for number in range(5000)], "faint").points
    assert len(many) == MOST_POINTS and many[0] == (0, 0) and many[-1] == (4999, 0)
    assert settings({"a": True, "b": {"c": False, "d": 0, "e": None}}).table.rows == (
        ("a", "yes"),
        ("b.c", "no"),
        ("b.d", 0),
    )
    with pytest.raises(TypeError, match="no number"):
        series("x", [("1", 2)])


def test_the_file_is_whole_loads_nothing_and_has_every_part():
    text, missing = html_of(page())
    found = parsed(text)
    assert missing is None and found.sections[0] == "networks" and found.sections[-2:] == ["settings", "files"]
    assert sorted(found.sections[1:4]) == ["front", "progress", "widths"]
    assert found.pictures == 3 and found.folded == 1
    assert not found.from_elsewhere and "script" not in found.tags and "://" not in text
    assert "prefers-color-scheme:dark" in text and 'name="viewport"' in text and "default-src 'none'" in text
    assert not re.search(r"(fill|stroke): #", text), "colours are those of the page, in light and dark"
    assert len(found.ids) == len(set(found.ids)), "ids of several pictures"


@cache
def _plain() -> Found:
    return parsed(html_of(page())[0])


WIDE = [pytest.param(name, marks=pytest.mark.wide) for name in HOSTILE[1:-2]]


@pytest.mark.parametrize("name", [HOSTILE[0], HOSTILE[-2], *WIDE])
def test_whatever_comes_from_outside_is_text(name, tmp_path):
    path, data = write_page(tmp_path / "report.html", page(name))
    found = parsed(path.read_text(encoding="utf-8"))
    plain = _plain()
    assert found.tags == plain.tags and found.sections == plain.sections and found.attributes == plain.attributes
    assert not found.from_elsewhere and all(link.startswith((".", "/")) for link in found.links)
    seen = re.sub("[\0\x07\udc80\ud83d]", "\ufffd", name)
    assert found.words.count(seen) > 10, "shown as it is"
    assert read_page(data) == page(name)


def test_equal_pages_are_equal_bytes_whatever_the_settings_of_matplotlib(tmp_path):
    import matplotlib

    first = html_of(page())
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": True}):
        assert html_of(page()) == first
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_tables_stand_open(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text, missing = html_of(page())
    found = parsed(text)
    assert "pip install matplotlib" in missing and found.pictures == found.folded == 0
    assert text.count("No picture: plots need matplotlib") == 3


def test_long_names_and_many_rows(tmp_path):
    names = [f"architecture.backbone.layer{number}.conv" for number in range(200)]
    assert page_charts.short_names(names)[:2] == ["layer0.conv", "layer1.conv"]
    assert page_charts.short_names(["backbone.layers.stage3.block1.conv"]) == ["\u2026stage3.block1.conv"]
    assert page_charts.short_names(["x" * 90]) == ["\u2026" + "x" * (page_charts.LONGEST - 1)]
    assert page_charts.short_names(["a.b", "a.b"]) == ["b", "b"] and page_charts.short_names(["", "a"]) == ["", "a"]
    chart = bars("channels", names, {"kept": list(range(200))})
    drawn = page_charts.svg(chart, "x")
    assert drawn.count("layer") == page_charts.MOST_ROWS and "layer199" in drawn and "layer1." not in drawn


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234, "1234"), (12_340, "12.34k"), (2.5e6, "2.5M"), (3e9, "3G"), (1e-5, "1e-5")]
)
def test_numbers_in_a_few_characters(value, text):
    assert page_charts.tick(value) == text


@pytest.mark.parametrize("chart", [Curves("x", "y", ()), bars("x", [], {}), bars("x", ["a"], {"s": [0]}, behind=True)])
def test_nothing_to_draw_is_drawn(chart):
    assert page_charts.svg(chart, "x").startswith("<svg viewBox=")


def test_a_page_that_cannot_be_written_is_a_line(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(page_file, "note", lambda text, level: told.append(text))
    (tmp_path / "report.json").mkdir()
    assert write_page(tmp_path / "report.html", page()) == [] and list(tmp_path.iterdir()) == [tmp_path / "report.json"]
    assert "no report.html:" in told[0] and "is a folder" in told[0]
