"""Uniform scaling: one ratio everywhere, as close to the limit as that allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrazor_lite.errors import UserError
from mmrazor_lite.search import uniform_subnet
from mmrazor_lite.search.uniform import _ratios
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
    one_up = 1.5  # half a channel of rounding, and one more
    assert all(abs(ratio - ratios[1]) <= one_up / full + one_up / 32 + 1e-9 or width == 1 for ratio, full, width in
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


@st.composite
def spaces(draw) -> tuple[SearchSpace, np.ndarray]:
    """Layers in a row, each with candidates of its own: coarse, fine, uneven; and what a pair of them costs."""
    number = draw(st.integers(1, 6))
    choices = []
    for i in range(number):
        candidates = draw(st.lists(st.integers(1, 64), min_size=1, max_size=8, unique=True))
        choices.append(Choice(f"c{i}", tuple(sorted(candidates)), kind="width"))
    if draw(st.booleans()):
        choices.append(Choice("kernel", (3, 5, 7), kind="value"))
    return SearchSpace(choices), np.array(draw(st.lists(st.integers(1, 50), min_size=number, max_size=number)))


@settings(deadline=None, max_examples=150)
@given(data=spaces(), part=st.floats(0, 1))
def test_in_the_space_within_the_limit_and_nothing_near_it_is_closer(data, part):
    space, factors = data
    names = [name for name, choice in space.items() if choice.kind == "width"]

    def cost(rows):
        widths = space.numeric(rows)[:, [list(space).index(name) for name in names]]
        edge = np.pad(widths, ((0, 0), (1, 0)), constant_values=3)
        return {"macs": (edge[:, :-1] * edge[:, 1:] * factors).sum(1)}

    low, high = (cost(space.index(end)[None])["macs"][0] for end in (space.min(), space.max()))
    limit = low + part * (high - low)
    subnet = uniform_subnet(space, cost, "macs", limit)
    space.validate(subnet)
    row = space.index(subnet)
    found = cost(row[None])["macs"][0]
    assert found <= limit
    rows = _ratios(space, [list(space).index(name) for name in names])
    costs = cost(rows)["macs"]
    start = rows[np.flatnonzero(costs <= limit)[costs[costs <= limit].argmax()]]
    assert found >= costs[costs <= limit].max()
    assert ((row - start >= 0) & (row - start <= 1)).all(), "one candidate off the ratio at most"
    for column, name in enumerate(names):
        if row[column] == start[column] < len(space[name].candidates) - 1:
            more = row.copy()
            more[column] += 1
            assert cost(more[None])["macs"][0] > limit, f"{name} could be rounded up"


def test_coarse_units_come_near_the_limit():
    """Whole heads: one ratio for all would leave a third of the budget unused."""
    space = SearchSpace([Choice(f"block{i:02}", (64, 128, 192), kind="width") for i in range(12)])
    subnet = uniform_subnet(space, lambda rows: {"macs": space.numeric(rows).sum(1)}, "macs", 0.5 * 12 * 192)
    assert sum(subnet.values()) == 0.5 * 12 * 192
    assert set(subnet.values()) <= {64, 128}


def test_a_space_without_widths():
    space = SearchSpace([Choice("op", ("a", "b"), kind="operator")])
    with pytest.raises(UserError, match="the search space has none"):
        uniform_subnet(space, lambda rows: {"macs": rows.sum(1)}, "macs", 1)
