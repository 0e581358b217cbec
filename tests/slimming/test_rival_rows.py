"""Different ways to spend a budget: all within it, and each what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from zoo import Prepared, prepare, prepared

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.importance import rank
from mmrazor_lite.slimming.allocation import uniform
from mmrazor_lite.slimming.rival_rows import candidates, streams_of


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 32, 3), nn.Linear(32, 4)
        self.into = nn.ModuleList(nn.Conv2d(32, 48, 1) for _ in range(2))
        self.back = nn.ModuleList(nn.Conv2d(48, 32, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for into, back in zip(self.into, self.back, strict=True):
            x = x + back(into(x.relu()).relu())
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def residual() -> Prepared:
    torch.manual_seed(0)
    return prepare(Residual(), (3, 8, 8))


def test_streams(residual: Prepared) -> None:
    assert streams_of(residual.mutator) == {"stem"}
    assert streams_of(prepared("vgg").mutator) == frozenset()


def test_candidates_meet_the_limits_and_differ(residual: Prepared) -> None:
    mutator = residual.mutator
    cost, space = mutator.cost_model, mutator.search_space
    limits = {"macs": 0.5 * cost.max()["macs"], "params": 0.6 * cost.max()["params"]}
    rankings = rank(mutator, [(residual.images(8), None)], "reconstruction")
    rng = np.random.default_rng(0)
    curves = {}
    for name, units in mutator.unit_counts.items():
        curves[name] = np.append(np.cumsum(rng.random(units))[::-1], 0.0)
        curves[name][0] = np.inf
    found = candidates(curves, rankings, cost, space, limits, 4, streams=streams_of(mutator), least={"into.0": 16})
    assert set(found) == {"measured", "streams kept", "global", "uniform"}
    assert len({row.tobytes() for row in found.values()}) == 4
    for row in found.values():
        costs, subnet = cost(row[None]), space.subnet(row)
        assert all(costs[name][0] <= limit for name, limit in limits.items())
        assert subnet["into.0"] >= 16
        assert all(width % 4 == 0 for width in subnet.values())
    assert space.subnet(found["streams kept"])["stem"] == 32
    narrow = {"macs": 0.1 * cost.max()["macs"]}
    assert "streams kept" not in candidates(curves, rankings, cost, space, narrow, streams={"stem", "into.0"})


def test_uniform_is_the_widest_equal_share(residual: Prepared) -> None:
    mutator = residual.mutator
    cost, space = mutator.cost_model, mutator.search_space
    curves = {name: np.zeros(units + 1) for name, units in mutator.unit_counts.items()}

    def at(share: int) -> dict:
        return {"stem": 32 * share // 16, "into.0": 48 * share // 16, "into.1": 48 * share // 16}

    for share in range(1, 17):
        limits = {"macs": cost.of(at(share))["macs"]}
        assert dict(space.subnet(uniform(curves, cost, space, limits, 1))).items() >= at(share).items()
    with pytest.raises(UserError, match="out of reach"):
        uniform(curves, cost, space, {"macs": 10})
