"""The cost model against an independent count on the exported module, and its vectorised form against single calls."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torchvision.models as tv
from oracles import count, memory
from torch import nn
from zoo import FEW, SMALL, prepared

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators import RESOURCES, ResourceEstimator

MEMORY = ["demo", "resnet18", "densenet", "squeezenet", "vgg"]  # the rest take the same rules, and export is slow


@pytest.mark.parametrize("draws", [(16, 2), pytest.param((100, 4), marks=pytest.mark.wide)], ids=["few", "many"])
@pytest.mark.parametrize("name", FEW)
def test_cost_equals_a_count_on_the_export(name, draws):
    twin = prepared(name)
    space = twin.mutator.search_space
    mutator = copy.deepcopy(twin.mutator)
    rng = np.random.default_rng(0)
    rows = space.sample_indices(rng, draws[0] if name in SMALL else draws[1])
    rows = np.concatenate([rows, [space.index(space.max())], [space.index(space.min())]])
    costs = twin.mutator.cost_model(rows)
    for number, row in enumerate(rows):
        counted = count(mutator.export(space.subnet(row)), twin.input_shape)
        assert {key: int(costs[key][number]) for key in counted} == counted


@pytest.mark.parametrize("name", MEMORY)
def test_memory_equals_the_largest_sum_of_live_tensors(name):
    """Of the exported program, run node by node; a kernel's workspace and the indices of a max pool are left out."""
    twin = prepared(name)
    space, mutator = twin.mutator.search_space, copy.deepcopy(twin.mutator)
    rng = np.random.default_rng(0)
    for subnet in (space.min(), space.sample(rng)):
        assert mutator.cost_model.of(subnet)["memory"] == memory(mutator.export(subnet), twin.input_shape)


@pytest.mark.parametrize("name", FEW)
def test_many_at_once_equal_one_by_one(name):
    space, cost = prepared(name).mutator.search_space, prepared(name).mutator.cost_model
    rows = space.sample_indices(np.random.default_rng(1), 50)
    many = cost(rows)
    assert tuple(many) == RESOURCES
    assert all(array.dtype == np.int64 and array.shape == (50,) for array in many.values())
    singles = [cost.of(space.subnet(row)) for row in rows]
    assert all(type(value) is int for value in singles[0].values())
    assert [{key: int(many[key][i]) for key in RESOURCES} for i in range(50)] == singles
    low, high = cost.min(), cost.max()
    for key in RESOURCES:
        assert low[key] <= many[key].min() and many[key].max() <= high[key] and low[key] < high[key]


def test_many_chunks_are_joined_in_order():
    space, cost = prepared("demo").mutator.search_space, prepared("demo").mutator.cost_model
    rows = space.sample_indices(np.random.default_rng(2), 20_000)
    macs = cost(rows)["macs"]
    assert macs.shape == (20_000,)
    assert np.array_equal(cost(rows[12_345:12_350])["macs"], macs[12_345:12_350])
    assert cost(rows[:0])["macs"].shape == (0,)


def test_the_estimator_costs_any_module():
    model = tv.MobileNetV2(num_classes=7, width_mult=0.5).eval()
    costs = ResourceEstimator((1, 3, 64, 64)).estimate(model)
    assert {key: costs[key] for key in ("macs", "flops", "params")} == count(model, (3, 64, 64))
    assert costs["memory"] == memory(model, (3, 64, 64))
    smaller = ResourceEstimator((3, 32, 32)).estimate(model)
    assert smaller["macs"] < costs["macs"] / 3 and smaller["params"] == costs["params"]


class _Algorithm(nn.Module):
    """What the estimator reads of an algorithm."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.architecture, self.mutator = prepared(name).model, prepared(name).mutator


def test_the_estimator_costs_a_subnet_and_heeds_the_input_shape():
    algorithm = _Algorithm("demo")
    subnet = algorithm.mutator.search_space.min()
    assert ResourceEstimator((3, 8, 8)).estimate(algorithm, subnet) == algorithm.mutator.cost_model.of(subnet)
    assert ResourceEstimator((3, 8, 8)).estimate(algorithm) == algorithm.mutator.cost_model.max()
    larger = ResourceEstimator((3, 16, 16)).estimate(algorithm, subnet)
    exported = copy.deepcopy(algorithm.mutator).export(subnet)
    assert {key: larger[key] for key in ("macs", "flops", "params")} == count(exported, (3, 16, 16))


def test_a_subnet_of_a_plain_module_is_refused():
    with pytest.raises((UserError, ValueError), match="search space"):
        ResourceEstimator((3, 8, 8)).estimate(nn.Conv2d(3, 4, 1), {"conv": 2})


class _Odd(nn.Module):
    """Products and layers outside of the usual: all of them stay at full width and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 6, 3, 2, groups=3)
        self.grouped, self.plain = nn.Conv2d(6, 9, 3, padding=1, groups=3), nn.BatchNorm2d(9, affine=False)
        self.tied = nn.Conv2d(6, 6, 1)
        self.again = nn.Conv2d(6, 6, 1)
        self.again.weight = self.tied.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.tied(self.up(x)))
        x = torch.cat([x, self.plain(self.grouped(x))], 1).flatten(2)
        square = torch.einsum("bcx,bdx->bcd", x, x)
        return square @ square


def test_transposed_convs_products_and_shared_parameters_are_counted():
    model = _Odd().eval()
    costs = ResourceEstimator((3, 5, 5)).estimate(model)
    assert {key: costs[key] for key in ("macs", "flops", "params")} == count(model, (3, 5, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict, "choice '.*' is missing"),
        (lambda subnet: list(subnet), "a subnet maps the names"),
        (lambda subnet: {**subnet, next(iter(subnet)): "wide"}, "cannot be 'wide'"),
        (lambda subnet: {**subnet, next(iter(subnet)): 0}, "cannot be 0"),
        (lambda subnet: {**subnet, next(iter(subnet)): 2.5}, "cannot be 2.5"),
        (lambda subnet: {**subnet, next(iter(subnet)): True}, "cannot be True"),
        (lambda subnet: {**subnet, next(iter(subnet)): 10**6}, "cannot be 1000000"),
        (lambda subnet: {**subnet, "none": 3}, "unknown choice 'none'"),
    ],
)
def test_what_is_no_subnet_has_no_cost(change, message):
    mutator = prepared("demo").mutator
    given = {} if change is dict else change(mutator.search_space.max())
    with pytest.raises(UserError, match=message) as error:
        mutator.cost_model.of(given)
    assert "\n" not in str(error.value)
