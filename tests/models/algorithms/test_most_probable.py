"""Networks in the order of how probable they are, beside a sort of all of them."""

from __future__ import annotations

from itertools import islice, pairwise, product

import numpy as np
import pytest

from mmrazor_lite.models.algorithms.most_probable import by_probability

STAGES = ((0, 1), (2, 3, 4), (5,))  # blocks of each; the last one has no depth to choose
DEPTHS = ((1, 2), (1, 3))


def runs(indices) -> list[bool]:
    depths = [DEPTHS[stage][index] for stage, index in enumerate(indices)] + [1]
    return [place < depth for stage, depth in zip(STAGES, depths, strict=True) for place in range(len(stage))]


def behind(operators, depths, network) -> float:
    """By the definition."""
    found, indices = network
    lost = sum(max(row) - row[index] for row, index in zip(depths, indices, strict=True))
    rows = zip(operators, found, runs(indices), strict=True)
    return lost + sum(max(row) - row[index] for row, index, is_run in rows if is_run)


def drawn(seed: int, operators: int = 3) -> tuple[list, list]:
    rng = np.random.default_rng(seed)
    rows = [rng.dirichlet(np.ones(operators)) for _ in range(6)], [rng.dirichlet(np.ones(2)) for _ in DEPTHS]
    return tuple([np.log(row).tolist() for row in group] for group in rows)


@pytest.mark.parametrize("seed", range(5))
def test_every_network_once_and_none_before_a_more_probable_one(seed):
    operators, depths = drawn(seed)
    networks = list(by_probability(operators, depths, runs))
    best = [int(np.argmax(row)) for row in operators]
    expected = {
        (tuple(op if is_run else other for op, other, is_run in zip(ops, best, runs(at), strict=True)), at)
        for at in product(range(2), repeat=2)
        for ops in product(range(3), repeat=6)
    }
    assert len(networks) == len(expected)
    assert {(tuple(ops), tuple(at)) for ops, at in networks} == expected
    lost = [behind(operators, depths, network) for network in networks]
    assert lost[0] == 0 and all(after >= before - 1e-9 for before, after in pairwise(lost))


def test_equal_ones_too_and_the_first_of_equals_is_read_as_by_argmax():
    operators, depths = [[0.0] * 3] * 6, [[0.0] * 2] * 2
    networks = list(by_probability(operators, depths, runs))
    assert networks[0] == ([0] * 6, [0] * 2)
    assert len(networks) == len({(tuple(ops), tuple(at)) for ops, at in networks})


def test_a_deep_network_is_not_behind_for_its_blocks():
    operators, depths = [[-2.0, -2.1]] * 6, [[-1.0, -0.5], [-0.5, -1.0]]
    assert next(by_probability(operators, depths, runs)) == ([0] * 6, [1, 0])


def test_the_first_of_a_large_space_come_at_once():
    operators, depths = drawn(0, operators=8)
    lost = [behind(operators, depths, network) for network in islice(by_probability(operators, depths, runs), 3000)]
    assert len(lost) == 3000 and all(after >= before - 1e-9 for before, after in pairwise(lost))
