"""Sorting channels: the full network stays what it is, subnets keep the best, and what depends on order stays."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from zoo import Prepared, prepare

from mmrazor_lite.errors import UserError


def random_scores(network: Prepared, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(units) for name, units in network.mutator.unit_counts.items()}


def test_subnets_keep_the_best() -> None:
    """A subnet of n units computes what the full network does with the others masked: those of the lowest scores."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    network = prepare(body, (3, 8, 8))
    plain, scores = network.plain, {"0": [3.0, 9.0, 1.0, 8.0, 2.0, 7.0]}
    network.mutator.sort_channels(scores)
    network.mutator.activate({"0": 3})
    with torch.no_grad():
        features = plain[1](plain[0](network.images()))
        features[:, [0, 2, 4]] = 0
        torch.testing.assert_close(network.model(network.images()), plain[2](features))


class NeighboursMatter(nn.Module):
    """Its second half reads channels in pairs of neighbours, whatever they are; no graph says that order counts."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.attend = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.inner, self.last = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = x * self.attend(x.mean((2, 3)).unsqueeze(1)).squeeze(1)[..., None, None]
        return self.last(self.inner(x).relu())


def test_a_group_whose_order_counts_stays() -> None:
    network = prepare(NeighboursMatter(), (3, 8, 8))
    assert {"first", "inner"} <= set(network.mutator.unit_counts)
    before = copy.deepcopy(network.model.state_dict())
    assert network.mutator.sort_channels(random_scores(network)) == ["first"]
    after = network.model.state_dict()
    assert torch.equal(before["first.weight"], after["first.weight"])
    assert not torch.equal(before["inner.weight"], after["inner.weight"])


def test_scores_may_be_tensors() -> None:
    network = prepare(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1)), (3, 8, 8))
    scores = network.model[0].weight.abs().sum((1, 2, 3)).bfloat16()
    assert network.mutator.sort_channels({"0": scores}) == []
    after = network.model[0].weight.abs().sum((1, 2, 3)).bfloat16()
    assert torch.equal(after, scores.sort(descending=True).values)


def test_equal_scores_change_nothing_and_a_tensor_of_two_modules_moves_once() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.Linear(5, 2))
    body[4].weight = body[2].weight
    network = prepare(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), *body), (3, 8, 8)).double()
    before = copy.deepcopy(network.model.state_dict())
    network.mutator.sort_channels({name: np.ones(units) for name, units in network.mutator.unit_counts.items()})
    assert all(torch.equal(value, before[key]) for key, value in network.model.state_dict().items())
    expected = network.mutator.run(network.images())
    assert network.mutator.sort_channels(random_scores(network)) == []
    torch.testing.assert_close(network.mutator.run(network.images()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"nowhere": [1.0]}, "'nowhere' is no width group"),
        ({"0": [1.0, 2.0]}, "'0' needs 6 finite scores"),
        ({"0": [1, 2, 3, 4, 5, float("nan")]}, "'0' needs 6 finite scores, got .* with 1 that are not finite"),
        ({"0": ["a"] * 6}, "'0' needs 6 numbers"),
        ({"0": [[1], [1, 2]]}, "'0' needs 6 numbers"),
        (None, "takes scores by group"),
    ],
)
def test_wrong_scores(scores: dict, message: str) -> None:
    network = prepare(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1)), (3, 8, 8))
    with pytest.raises(UserError, match=message):
        network.mutator.sort_channels(scores)
