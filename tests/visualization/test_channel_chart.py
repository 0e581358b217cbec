"""The picture of channels per layer."""

from __future__ import annotations

import sys

import matplotlib.image
import numpy as np
import pytest
from pictures import bars, legend, shown, ticks

from mmrazor_lite.errors import UserError
from mmrazor_lite.visualization import plot_channels

FULL = {"stem": 16, "last": 32}


def test_a_bar_for_each_layer_of_each_subnet(tmp_path):
    path = tmp_path / "folder/channels.png"
    with shown() as pictures:  # the layers of a subnet come in any order
        plot_channels(path, FULL, {"a": {"last": 16, "stem": 8}, "b": {"stem": 4, "last": 9}}, "title")
    (axes,) = pictures
    assert bars(axes) == [[16, 32], [8, 16], [4, 9]]
    assert legend(axes) == ["full network", "a", "b"]
    assert (ticks(axes), axes.get_ylabel(), axes.get_title()) == (["stem", "last"], "output channels", "title")
    middles = [[bar.get_x() + bar.get_width() / 2 for bar in series] for series in axes.containers]
    assert middles[0] == pytest.approx([0, 1])  # behind the two that stand side by side
    assert np.mean(middles[1:], 0) == pytest.approx([0, 1]) and middles[1][0] < 0 < middles[2][0]
    assert matplotlib.image.imread(path).shape[1] == 960  # 8 inches
    assert [entry.name for entry in path.parent.iterdir()] == ["channels.png"]


def test_missing_layer(tmp_path):
    with pytest.raises(UserError, match="layer 'last' is missing"):
        plot_channels(tmp_path / "a.png", FULL, {"a": {"stem": 8}})


def test_missing_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        plot_channels(tmp_path / "a.png", FULL, {})
