"""Networks that can meet a cost in the order of how probable they are, beside a sort of all of them."""

from __future__ import annotations

import math
import time
from itertools import islice, pairwise, product

import numpy as np
import pytest

from mmrazor_lite.models.algorithms import most_probable
from mmrazor_lite.models.algorithms.most_probable import Depths, by_probability

STAGES = ((0, 1), (2, 3, 4), (5,))  # blocks of each; the last one has no depth to choose
DEPTHS = ((1, 2), (1, 3), (1,))
NETWORKS = [(ops, at) for at in product(range(2), range(2), [0]) for ops in product(range(3), repeat=6)]


def runs(indices) -> list[bool]:
    depths = [DEPTHS[stage][index] for stage, index in enumerate(indices)]
    return [place < depth for stage, depth in zip(STAGES, depths, strict=True) for place in range(len(stage))]


def cost(table, operators, indices) -> float:
    return sum(row[op] for row, op, is_run in zip(table, operators, runs(indices), strict=True) if is_run)


def behind(operators, depths, network) -> float:
    """By the definition."""
    found, indices = network
    lost = sum(max(row) - row[index] for row, index in zip(depths, indices, strict=True))
    rows = zip(operators, found, runs(indices), strict=True)
    return lost + sum(max(row) - row[index] for row, index, is_run in rows if is_run)


def drawn(seed: int, operators: int = 3) -> tuple[list, list, np.ndarray, np.ndarray]:
    """Log probabilities, and what is cheap as probable as what is not."""
    rng = np.random.default_rng(seed)
    rows = [rng.dirichlet(np.ones(operators)) for _ in range(6)], [rng.dirichlet(np.ones(len(row))) for row in DEPTHS]
    least = rng.uniform(0.1, 1.0, (6, operators))
    return *([np.log(row).tolist() for row in group] for group in rows), least, least * rng.uniform(1, 2, least.shape)


def stages_of(depths) -> list[Depths]:
    return [
        Depths(scores, [stage[:depth] for depth in offered])
        for scores, offered, stage in zip(depths, DEPTHS, STAGES, strict=True)
    ]


def found_by(operators, depths, least, most, *limits) -> list[tuple[float, tuple, tuple]]:
    return [
        (lost, tuple(ops), tuple(at))
        for lost, ops, at in by_probability(operators, stages_of(depths), least, most, *limits)
    ]


@pytest.mark.parametrize("cells", [most_probable.CELLS, 7], ids=["fine", "coarse"])
@pytest.mark.parametrize("share", [None, 0.2, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_every_network_that_can_meet_it_once_and_none_before_a_more_probable_one(monkeypatch, seed, share, cells):
    monkeypatch.setattr(most_probable, "CELLS", cells)
    operators, depths, least, most = drawn(seed)
    target = share and share * cost(most, most.argmax(1), (1, 1, 0))
    limits = (0.0, math.inf) if share is None else (0.95 * target, 1.05 * target)
    best = [int(np.argmax(row)) for row in operators]
    expected = {
        (tuple(op if is_run else other for op, other, is_run in zip(ops, best, runs(at), strict=True)), at)
        for ops, at in NETWORKS
        if cost(least, ops, at) <= limits[1] and cost(most, ops, at) >= limits[0]
    }
    networks = found_by(operators, depths, least, most, limits)
    assert expected and len(networks) == len(expected)
    assert {network[1:] for network in networks} == expected
    lost = [behind(operators, depths, network[1:]) for network in networks]
    assert lost == pytest.approx([network[0] for network in networks])
    assert all(after >= before - 1e-9 for before, after in pairwise(lost))


def test_equal_ones_too_and_the_first_of_equals_is_read_as_by_argmax():
    _, _, least, most = drawn(0)
    networks = found_by([[0.0] * 3] * 6, [[0.0] * 2, [0.0] * 2, [0.0]], least, most)
    assert networks[0] == (0.0, (0,) * 6, (0,) * 3)
    assert len(networks) == len(set(networks))


def test_a_deep_network_is_not_behind_for_its_blocks():
    operators, depths, cheap = [[-2.0, -2.1]] * 6, [[-1.0, -0.5], [-0.5, -1.0], [0.0]], np.ones((6, 2))
    assert found_by(operators, depths, cheap, cheap)[0] == (0.0, (0,) * 6, (1, 0, 0))


@pytest.mark.parametrize("limits", [(0.0, -1.0), (0.0, 0.01), (1e3, 2e3)])
def test_none_where_no_network_can_meet_it(limits):
    assert found_by(*drawn(0), limits) == []


@pytest.mark.parametrize("share", [0.15, 0.25, 0.5, 0.8])
def test_the_first_of_a_space_of_1e18_networks_comes_at_once(share):
    rng, blocks = np.random.default_rng(0), 20
    operators = [np.log(row).tolist() for row in rng.dirichlet(np.ones(8), blocks)]
    stages = [Depths([0.0, -1.0, -2.0, -3.0], [range(at, at + d) for d in (1, 2, 3, 4)]) for at in range(0, blocks, 4)]
    least = rng.uniform(0.1, 1.0, (blocks, 8))
    target, start = share * least.max(1).sum(), time.perf_counter()
    networks = list(islice(by_probability(operators, stages, least, least, (0.99 * target, 1.01 * target)), 20))
    assert len(networks) == 20 and time.perf_counter() - start < 5
    assert all(after[0] >= before[0] - 1e-9 for before, after in pairwise(networks))
