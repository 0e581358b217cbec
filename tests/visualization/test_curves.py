"""The picture of accuracy over epochs."""

from __future__ import annotations

import sys

import matplotlib.image
import pytest
from pictures import legend, shown

from mmrazor_lite.errors import UserError
from mmrazor_lite.visualization import plot_curves


def test_the_mean_of_the_seeds_and_their_range(tmp_path):
    path = tmp_path / "folder/accuracy.png"
    with shown() as pictures:  # the third epoch is of one seed alone
        plot_curves(path, {"a": [{2: 20.0, 1: 10.0}, {1: 12.0, 2: 17.0, 3: 30.0}], "b": [{1: 5.0}]}, "title")
    (axes,) = pictures
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 11], [2, 18.5]], [[1, 5]]]
    ranges = [{tuple(point) for point in band.get_paths()[0].vertices.tolist()} for band in axes.collections]
    assert ranges == [{(1, 10), (1, 12), (2, 17), (2, 20)}, {(1, 5)}]
    assert legend(axes) == ["a", "b"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("epoch", "test accuracy (%)", "title")
    assert matplotlib.image.imread(path).shape[1] == 960  # 8 inches
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
