"""SPOS trains one path per step; what is not on the path does not move, whatever the optimizer remembers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms import SPOS

CLASSES = 5
STAGES = [[24, 2], [32, 2]]


def architecture() -> dict:
    return {
        "type": "mmpretrain.ImageClassifier",
        "backbone": {"type": "mmrazor_lite.SearchableShuffleNetV2", "arch_setting": STAGES, "last_channels": 24},
        "neck": {"type": "GlobalAveragePooling"},
        "head": {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 24},
    }


@pytest.fixture
def make():
    from mmengine.model import BaseDataPreprocessor

    def build(**options) -> SPOS:
        torch.manual_seed(0)
        algorithm = SPOS(
            **{
                "architecture": architecture(),
                "input_shape": (3, 32, 32),
                "data_preprocessor": BaseDataPreprocessor(),
                **options,
            }
        )
        return algorithm.double().train()

    return build


@pytest.fixture
def batch():
    from mmpretrain.structures import DataSample

    def build(seed: int = 0, n: int = 4) -> dict:
        images = torch.randn((n, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return {"inputs": images, "data_samples": [DataSample().set_gt_label(i % CLASSES) for i in range(n)]}

    return build


def sgd(algorithm, **options) -> SubnetOptimWrapper:
    optimizer = torch.optim.SGD(algorithm.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    return SubnetOptimWrapper(optimizer, **options)


def on_path(key: str, subnet) -> bool:
    head, split, tail = key.removeprefix("architecture.").partition("._candidates.")
    return not split or subnet[head] == tail.partition(".")[0]


def test_a_step_is_the_cross_entropy_of_one_path(make, batch):
    algorithm, data = make(), batch()
    subnet = algorithm.passes(0)[0].subnet
    exported = algorithm.mutator.export(subnet)
    labels = torch.cat([sample.gt_label for sample in data["data_samples"]])
    expected = F.cross_entropy(exported(data["inputs"]), labels)
    expected.backward()
    before = {key: value.detach().clone() for key, value in algorithm.named_parameters()}
    log = algorithm.train_step(data, SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.1)))
    assert log["loss"].item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = [p.grad for p in exported.parameters()]
    moved = [key for key in before if on_path(key, subnet)]
    for key, gradient in zip(moved, gradients, strict=True):
        torch.testing.assert_close(before[key] - algorithm.get_parameter(key), 0.1 * gradient, rtol=1e-9, atol=1e-12)


def test_what_is_not_sampled_does_not_move_by_momentum_or_decay(make, batch):
    """Trap 32b: with zeros instead of None, momentum and weight decay would keep moving every operator."""
    algorithm = make()
    wrapper = sgd(algorithm)
    for step in range(6):
        subnet = algorithm.passes(step)[0].subnet
        before = {key: value.clone() for key, value in algorithm.state_dict().items()}
        algorithm.train_step(batch(step), wrapper)
        after = algorithm.state_dict()
        for key, _ in algorithm.named_parameters():
            assert torch.equal(before[key], after[key]) != on_path(key, subnet), key
        for key in before:
            if not on_path(key, subnet):
                assert torch.equal(before[key], after[key]), key  # statistics too
    assert any(state for state in wrapper.optimizer.state.values())


def test_paths_are_uniform_and_independent_of_other_draws(make):
    algorithm = make()
    torch.manual_seed(5), np.random.seed(5)
    paths = [algorithm.passes(step)[0].subnet for step in range(800)]
    assert [item[0].subnet for item in map(algorithm.passes, range(3))] == paths[:3]
    assert paths[0] == make().passes(0)[0].subnet
    rows = np.array([algorithm.search_space.index(path) for path in paths])
    for column in range(rows.shape[1]):
        shares = np.bincount(rows[:, column], minlength=4) / len(rows)
        assert abs(shares - 0.25).max() < 0.07
    other = make()
    other.seed = 1
    assert [other.passes(step)[0].subnet for step in range(5)] != paths[:5]


def test_bins_are_drawn_evenly_though_their_paths_are_not(make):
    """The authors' code: a bin of FLOPs first, then a path inside it (traps 32)."""
    algorithm = make()
    low, high = (algorithm.cost_model.extreme("macs", largest) for largest in (False, True))
    edges = [low, low + (high - low) * 0.2, high]
    binned = make(path_bins={"resource": "macs", "edges": [f"{edge / 1e6}M" for edge in edges], "tries": 2000})
    costs = {name: [] for name in ("plain", "bins")}
    for step in range(200):
        costs["plain"].append(algorithm.cost_model.of(algorithm.passes(step)[0].subnet)["macs"])
        costs["bins"].append(algorithm.cost_model.of(binned.passes(step)[0].subnet)["macs"])
    share = {name: np.mean(np.array(values) <= edges[1] + 1) for name, values in costs.items()}
    assert share["plain"] < 0.3 and abs(share["bins"] - 0.5) < 0.12


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        ({"edges": [1000, 2000]}, "no path has .* reaches from"),
        ({"edges": [2, 1]}, "ascending"),
        ({"edges": [1]}, "two or more"),
        ({"resource": "macs"}, "'edges' is missing"),
        ({"edges": [1, 2], "n": 3}, "unknown key 'n'"),
        ({"edges": [1, 2], "tries": 0}, "tries"),
        ({"resource": "mac", "edges": [1, 2]}, "macs"),
    ],
)
def test_bins_that_make_no_sense_are_refused(make, bins, message):
    with pytest.raises(UserError, match=message):
        make(path_bins=bins)


def test_validation_shows_the_ends_and_a_fixed_random_path(make):
    algorithm = make()
    named = algorithm.named_subnets()
    assert list(named) == ["max_subnet", "min_subnet", "random0_subnet"]
    costs = algorithm.resources()
    assert costs["min_subnet"]["macs"] < costs["random0_subnet"]["macs"] < costs["max_subnet"]["macs"]
    assert named == copy.deepcopy(make()).named_subnets()


def test_accumulated_paths_are_updated_once(make, batch):
    algorithm = make()
    wrapper = sgd(algorithm, accumulative_counts=2)
    before = {key: value.detach().clone() for key, value in algorithm.named_parameters()}
    algorithm.train_step(batch(0), wrapper)
    assert all(torch.equal(before[key], value) for key, value in algorithm.named_parameters())
    algorithm.train_step(batch(1), wrapper)
    paths = [algorithm.passes(step)[0].subnet for step in range(2)]
    for key, value in algorithm.named_parameters():
        assert torch.equal(before[key], value) != any(on_path(key, path) for path in paths), key


def test_inner_widths_below_those_that_were_trained_are_no_search(make, monkeypatch):
    """A training of the upper half of the widths, and a search of all of them."""
    from mmrazor_lite.models.backbones import searchable_shufflenet_v2 as backbone

    offered = backbone.inner_widths
    config = architecture()
    config["backbone"]["search_channels"] = True
    every = make(architecture=copy.deepcopy(config))
    monkeypatch.setattr(backbone, "inner_widths", lambda channels: offered(channels)[4:])
    half = make(architecture=config)
    name = "backbone.layers.0.0.mid_channels"
    least = half.search_space[name].candidates[0]
    assert half.checkpoint_meta()["narrowest"][name] == least > every.search_space[name].candidates[0]
    every.check_meta(half.checkpoint_meta())  # a training may start from it
    with pytest.raises(UserError, match=rf"^a\.pth was trained with widths of {least} and more of '{name}'"):
        every.check_trained(half.checkpoint_meta(), "a.pth")
    half.check_trained(every.checkpoint_meta())
