"""What the demo shows: all networks timed in turns, the table, the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from html_pages import parsed
from torch import nn

from mmrazor_lite.recipes import demo_result
from mmrazor_lite.recipes.demo_result import Row
from mmrazor_lite.visualization import read_page


@pytest.fixture
def rows() -> list[Row]:
    full = Row("full network", {"macs": 1000, "params": 20}, (90.0, None, None), {"conv": 8})
    slim = Row("slim", {"macs": 400, "params": 9}, (None, None, 88.5), {"conv": 4}, Path("none.pth"))
    return [full, slim]


def test_all_are_timed_in_turns(rows, monkeypatch):
    calls: list[str] = []

    class Net(nn.Conv2d):
        def forward(self, x):
            calls.append(self.name)
            assert x.shape == (demo_result.BATCH, 3, 8, 8)
            return super().forward(x)

    def network(name: str) -> nn.Module:
        net = Net(3, 4, 1)
        net.name = name
        return net

    monkeypatch.setattr("mmrazor_lite.load_subnet", lambda file: network("slim"), raising=False)
    monkeypatch.setattr(demo_result, "SECONDS", 1e-6)
    times = demo_result.timed(network("full"), rows, (3, 8, 8))
    assert list(times) == ["full network", "slim"]
    assert all(0 < low <= middle <= high for low, middle, high in times.values())
    turns = [name for name, before in zip(calls, ["", *calls], strict=False) if name != before]
    assert len(turns) > demo_result.ROUNDS / 2, "they take turns"


def test_the_table_and_the_page_show_the_spread(rows, tmp_path, capsys):
    times = {"full network": (9.0, 10.0, 12.0), "slim": (4.0, 5.0, 5.5)}
    demo_result.show(rows, times)
    said = capsys.readouterr().out
    assert "10.0 ms (9.0-12.0)" in said and "88.50 %" in said and "64 images on one thread" in said
    (tmp_path / "none.pth").touch()
    rows[1] = Row(**{**vars(rows[1]), "file": tmp_path / "none.pth"})
    html, _ = demo_result.write_page(tmp_path, rows, times, {"train": 60.0}, {"train": "mmrazor-lite train"})
    page, found = read_page(tmp_path / "report.json"), parsed(html.read_text())
    assert {part.name for part in page.sections} == {
        "front",
        "latency",
        "widths",
        "stages",
        "time",
        "settings",
        "files",
    }
    assert page.outcomes[1].file == "none.pth" and dict(page.outcomes[1].costs)["ms of 64 images"] == 5
    (latency,) = [part for part in page.sections if part.name == "latency"]
    assert latency.table.rows[1] == ("slim", 4, 5, 5.5, 2)
    assert found.links == ["./none.pth", "./none.pth"] and found.pictures == 5
