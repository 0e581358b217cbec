"""The picture of macs per layer."""

from __future__ import annotations

import sys

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from pictures import bars, legend, shown, ticks

from mmrazor_lite.errors import UserError
from mmrazor_lite.visualization import layers, plot_layers


def area(path, colour: str) -> int:
    """Pixels of one colour."""
    return int((np.abs(matplotlib.image.imread(path)[..., :3] - to_rgb(colour)).max(-1) < 0.01).sum())


@pytest.mark.parametrize("count", [1, 20, pytest.param(200, marks=pytest.mark.wide)])
def test_area_of_the_bars(tmp_path, count):
    path = tmp_path / "folder/layers.png"
    with shown() as pictures:
        plot_layers(path, [(f"layer{i}", 4_000_000, 1_000_000, True) for i in range(count)], "title")
    named = range(0, count, 3 if count == 200 else 1)  # as many names as do not overlap
    assert (ticks(pictures[0]), pictures[0].get_xticks().tolist()) == ([f"layer{i}" for i in named], list(named))
    assert [entry.name for entry in path.parent.iterdir()] == ["layers.png"]
    kept, dropped = area(path, layers.SEARCHABLE), area(path, layers.DROPPED)
    assert dropped / kept == pytest.approx(3, rel=0.05)  # the smallest subnet keeps a quarter of each layer


def test_what_stays_has_a_colour_of_its_own(tmp_path):
    plot_layers(tmp_path / "a.png", [("a", 10, 5, True), ("b", 10, 10, False)])
    searchable = area(tmp_path / "a.png", layers.SEARCHABLE)
    assert area(tmp_path / "a.png", layers.FIXED) / searchable == pytest.approx(2, rel=0.05)


def test_axes_and_values(tmp_path):
    with shown() as pictures:
        plot_layers(tmp_path / "a.png", [("stem", 3_000_000, 1_500_000, True), ("fc", 10_000, 10_000, False)], "title")
    (axes,) = pictures
    assert bars(axes) == [[3.0, 0.01], [1.5, 0.01]]
    assert (ticks(axes), axes.get_ylabel(), axes.get_title()) == (["stem", "fc"], "M macs", "title")
    assert legend(axes) == ["kept by the smallest subnet", "dropped by it", "stays at full width"]


def test_no_layers(tmp_path):
    with shown() as pictures:
        plot_layers(tmp_path / "a.png", [])
    assert bars(pictures[0]) == [[], []] and area(tmp_path / "a.png", layers.SEARCHABLE) > 0  # the legend is there


def test_missing_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        plot_layers(tmp_path / "a.png", [])
