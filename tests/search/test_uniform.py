"""Uniform scaling: one ratio everywhere, as close to the limit as that allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrazor_lite.errors import UserError
from mmrazor_lite.search import uniform_subnet
from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace

FULL = (16, 32, 7)
SPACE = SearchSpace(
    [Choice(f"c{i}", range(1, full + 1)) for i, full in enumerate(FULL)],
    {f"c{i}": LayerWidth(f"c{i}", full) for i, full in enumerate(FULL)},
)


def cost(rows: np.ndarray) -> dict[str, np.ndarray]:
    widths = rows + 1
    return {"macs": widths[:, 0] * widths[:, 1] + widths[:, 1] * widths[:, 2]}


@settings(deadline=None, max_examples=30)
@given(limit=st.integers(2, 16 * 32 + 32 * 7))
def test_is_the_largest_of_one_ratio_within_the_limit(limit):
    subnet = uniform_subnet(SPACE, cost, "macs", limit)
    found = cost(SPACE.index(subnet)[None])["macs"][0]
    assert found <= limit
    ratios = [width / full for width, full in zip((subnet[f"c{i}"] for i in range(3)), FULL, strict=True)]
    assert all(abs(ratio - ratios[1]) <= 0.5 / full + 0.5 / 32 + 1e-9 or width == 1 for ratio, full, width in
               zip(ratios, FULL, subnet.values(), strict=True))  # fmt: skip
    for step in range(1, 1001):
        widths = [max(1, round(step / 1000 * full - 1e-9)) for full in FULL]
        value = widths[0] * widths[1] + widths[1] * widths[2]
        assert value > limit or value <= found


def test_full_width_at_its_own_cost():
    assert uniform_subnet(SPACE, cost, "macs", 16 * 32 + 32 * 7) == SPACE.max()


def test_out_of_reach_is_refused():
    with pytest.raises(UserError, match="no ratio has 1 macs or less, the least is 2"):
        uniform_subnet(SPACE, cost, "macs", 1)
