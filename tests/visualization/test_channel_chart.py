"""The picture of channels per layer."""

from __future__ import annotations

import sys

import pytest

from mmrazor_lite.errors import UserError
from mmrazor_lite.visualization import plot_channels

FULL = {"stem": 16, "last": 32}


def test_writes_a_png(tmp_path):
    path = tmp_path / "folder/channels.png"
    plot_channels(path, FULL, {"a": {"stem": 8, "last": 16}, "b": {"stem": 4, "last": 8}}, "title")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in path.parent.iterdir()] == ["channels.png"]


def test_missing_layer(tmp_path):
    with pytest.raises(UserError, match="layer 'last' is missing"):
        plot_channels(tmp_path / "a.png", FULL, {"a": {"stem": 8}})


def test_missing_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        plot_channels(tmp_path / "a.png", FULL, {})
