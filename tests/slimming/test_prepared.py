"""Widths that must stay: every pattern that is accepted holds, whatever it names and in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming.prepared import prepare

SHAPE = (3, 8, 8)


class Added(nn.Module):
    """Two convs of one width behind a norm, and a depthwise one whose channels are normed together with others."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1, self.c2 = nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 1)
        self.c3, self.dw, self.c4 = nn.Conv2d(16, 12, 1), nn.Conv2d(12, 12, 3, groups=12), nn.Conv2d(16, 8, 3)
        self.both, self.fc = nn.BatchNorm2d(20), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b1(self.c1(x)).relu()
        x = (x + self.c2(x)).relu()
        x = self.both(torch.cat([self.dw(self.c3(x)), self.c4(x)], 1))
        return self.fc(x.relu().mean((2, 3)))


LIMITS = {"c1": 0.5, "c2": 0.9, "c?": 4, "*2": np.int64(3)}


@pytest.mark.parametrize("last", LIMITS)
def test_the_largest_of_all_limits_holds_in_any_order(last):
    names = [*(name for name in LIMITS if name != last), last]
    assert prepare(Added(), SHAPE, limits={name: LIMITS[name] for name in names}).least["c1"] == 15


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("b1", {"c3", "c4"}),
        ("dw", {"c1", "c4"}),
        ("both", {"c1"}),
        ("c3", {"c1", "c4"}),
    ],
)
def test_what_makes_no_channels_keeps_the_width_of_those_that_do(keep, left):
    prepared = prepare(Added(), SHAPE, keep=[keep])
    assert set(prepared.mutator.search_space) == left
    assert any(f"excluded by '{keep}'" in note for note in prepared.notes)


def test_a_norm_beside_convs_is_told_where_it_does_not_hold():
    assert not any("makes no channels" in note for note in prepare(Added(), SHAPE, keep=["*1"]).notes)
    (note,) = (note for note in prepare(Added(), SHAPE, keep=["[cd][4w]"]).notes if "makes no channels" in note)
    assert "'dw' makes no channels; the width of 'c3' is free" in note


def test_inference_mode_is_refused_in_one_line():
    problem = "slimming takes derivatives, which torch.inference_mode"
    network = Added()
    with torch.inference_mode():
        inside = Added()
        with pytest.raises(UserError, match=problem):
            prepare(network, SHAPE)
    with pytest.raises(UserError, match=problem):
        prepare(inside, SHAPE)
    with torch.no_grad():
        assert "c1" in prepare(network, SHAPE).mutator.search_space
