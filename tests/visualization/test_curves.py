"""The picture of accuracy over epochs."""

from __future__ import annotations

import sys

import pytest

from mmrazor_lite.errors import UserError
from mmrazor_lite.visualization import plot_curves


def test_writes_a_png(tmp_path):
    path = tmp_path / "folder/accuracy.png"
    plot_curves(path, {"a": [{1: 10.0, 2: 20.0}, {1: 12.0, 2: 18.0, 3: 30.0}], "b": [{1: 5.0}]}, "title")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in path.parent.iterdir()] == ["accuracy.png"]


@pytest.mark.parametrize("seeds", [[], [{}], [{1: 1.0}, {2: 1.0}]])
def test_nothing_to_draw_is_refused(tmp_path, seeds):
    with pytest.raises(UserError, match="plot of 'a': no epoch"):
        plot_curves(tmp_path / "a.png", {"a": seeds})
    assert not list(tmp_path.iterdir())


def test_missing_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        plot_curves(tmp_path / "a.png", {})
