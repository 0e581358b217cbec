"""The fastest and the slowest subnet of a latency table, where times fall as a width grows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.estimators.width_curves import Curve, Priced, WidthCurves
from mmrazor_lite.graph import ChannelSum
from mmrazor_lite.subnet import Choice, SearchSpace


def drawn(rng: np.random.Generator, coupled: bool) -> LatencyTable:
    """A table of three widths with ops that are fast at multiples of some channels; of one width each, or in a row."""
    space = SearchSpace([Choice(f"w{i}", range(2, 2 * rng.integers(12, 20), 2), kind="width") for i in range(3)])
    full = [choice.candidates[-1] for choice in space.values()]
    curves, calls = [], []
    for i, name in enumerate(space):
        axes = [ChannelSum(int(rng.integers(0, 9)), ((name, int(rng.integers(1, 3)), 2),))]
        if coupled and i:
            axes.append(ChannelSum(0, ((f"w{i - 1}", 2, 2),)))
        tops = [axis.at(dict(zip(space, full, strict=True))) for axis in axes]
        ms = np.add.outer(np.arange(1.0, 4.0), np.arange(len(axes) * 1.0)) if coupled and i else np.arange(1.0, 4.0)
        ms = ms * rng.gamma(2.0) + np.sort(rng.gamma(1.0, size=3)).reshape(-1, *[1] * (ms.ndim - 1))
        grids = [np.array([1, max(top // 2, 2), top]) for top in tops[:1]] + [np.array([1, top]) for top in tops[1:]]
        lanes = int(rng.choice([1, 8, 16]))
        curves.append(Curve(f"op{i}", tuple(grids), ms, lanes, float(rng.uniform(1, 3)) if lanes > 1 else 1.0))
        calls.append(Priced(f"op{i}", i, tuple(axes)))
    return LatencyTable(space, Cell("", (), np.ones(1)), [], widths=WidthCurves(space, curves, calls))


@pytest.mark.parametrize("coupled", [False, True])
def test_the_fastest_and_the_slowest_subnet_where_curves_fall(coupled):
    """As of all subnets; where ops depend on two widths at once, at least no other width improves it."""
    rng, inside = np.random.default_rng(7), 0
    for _ in range(30):
        table = drawn(rng, coupled)
        rows = np.array(list(itertools.product(*(range(len(c.candidates)) for c in table.space.values()))))
        times = table(rows)
        for largest, best in ((False, times.min()), (True, times.max())):
            row = table.extreme_row(largest)
            near = times[(rows != row).sum(1) <= 1]
            assert table.extreme(largest) == pytest.approx(near.max() if largest else near.min(), rel=1e-12)
            assert coupled or table.extreme(largest) == pytest.approx(best, rel=1e-12)
            ends = [len(c.candidates) - 1 if largest else 0 for c in table.space.values()]
            inside += row.tolist() != ends
    assert inside > 10


def test_a_table_of_one_width_that_falls():
    space = SearchSpace([Choice("a", (8, 16, 24, 32), kind="width")])
    curve = Curve("op", (np.array([8, 16, 24, 32]),), np.array([0.9, 1.0, 1.1, 1.2]), lanes=16, beside=2.0)
    widths = WidthCurves(space, [curve], [Priced("op", 0, (ChannelSum(0, (("a", 1, 1),)),))])
    table = LatencyTable(space, Cell("", (), np.zeros(1)), [], widths=widths)
    assert table(np.arange(4)[:, None]) == pytest.approx([1.8, 1.0, 2.2, 1.2])
    assert (table.extreme(False), table.extreme(True)) == pytest.approx((1.0, 2.2))
    assert table.of_largest() == pytest.approx(1.2), "a share of a budget is of the full width"
