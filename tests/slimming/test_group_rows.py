"""The rows of width groups: what stayed, what was lost, and shares of the macs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from zoo import prepare

from mmrazor_lite.slimming.group_rows import group_rows


class Joined(nn.Module):
    """Two convs behind a stem, joined by a concat that a depthwise conv reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.a, self.b = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 12, 1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.deep(torch.cat([self.a(x), self.b(x)], 1))).mean((2, 3))


@dataclass
class Found:
    errors: np.ndarray


def test_shares_are_of_the_macs_in_layers_that_make_the_channels():
    mutator = prepare(Joined(), (3, 4, 4)).mutator
    subnet = {"stem": 4, "a": 4, "b": 6}
    rankings = {"stem": Found(np.array([10.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.0]))}
    rows = {row.name: row for row in group_rows(mutator, subnet, rankings, {"b": np.linspace(1, 0, 13)})}
    full, small = 16 * (24 + 128 + 9 * 16 + 80), 16 * (12 + 40 + 9 * 10 + 50)
    assert full == mutator.cost_model.max()["macs"] and small == mutator.cost_model.of(subnet)["macs"]
    assert rows["stem"].share_before == pytest.approx(16 * 24 / full)
    assert rows["stem"].share_after == pytest.approx(16 * 12 / small)
    assert rows["a"].share_before == pytest.approx(16 * (32 + 9 * 4) / full)
    assert rows["b"].share_after == pytest.approx(16 * (24 + 9 * 6) / small)
    assert sum(row.share_before for row in rows.values()) == pytest.approx(1 - 16 * 80 / full), "the head stays"
    stem = rows["stem"]
    assert (stem.full, stem.kept, stem.lost) == (8, 4, 0.2)
    assert stem.importance == (4, 2, 1, 1, 1, 0.5, 0.25, 0.25)
    assert rows["a"].importance == () and rows["a"].lost == 0
    assert rows["b"].sensitivity[6] == pytest.approx(0.5) and rows["a"].sensitivity == ()
    assert "b" in rows["b"].producers


def test_what_went_as_a_gain_is_no_negative_share():
    """On few images, a unit may be in the way of the others."""
    mutator = prepare(Joined(), (3, 4, 4)).mutator
    found = {"a": Found(np.array([1.0, 0.2, -0.1, -0.05, 0.0]))}
    rows = {row.name: row for row in group_rows(mutator, {"stem": 8, "a": 2, "b": 12}, found)}
    assert rows["a"].lost == 0 and rows["a"].importance[2] < 0


def test_units_of_several_channels():
    """A group conv keeps whole groups: the kept units are those of the errors."""
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    mutator = prepare(net, (3, 6, 6), divisor=1).mutator
    (group,) = [mutable.group for mutable in mutator.mutables if mutable.group.unit > 1]
    errors = np.linspace(3, 0, group.units + 1)
    subnet = {mutable.name: mutable.group.full for mutable in mutator.mutables} | {group.name: group.full // 2}
    row = next(row for row in group_rows(mutator, subnet, {group.name: Found(errors)}) if row.name == group.name)
    assert (row.kept, row.unit, row.lost) == (group.full // 2, group.unit, pytest.approx(0.5))
    assert len(row.importance) == group.units
