"""What must hold on every architecture of the zoo: the largest subnet, random subnets, gradients, cost."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from draws import some
from oracles import active_positions, assert_same_bits, assert_subnet_is_right, kept_channels, tensors
from torch import nn
from zoo import FEW, ZOO, Prepared, prepared

from mmrazor_lite.models.ops import active_of

ALL = pytest.mark.parametrize("name", FEW)


def subnets(twin: Prepared, number: int, seed: int = 0) -> list:
    """The smallest subnet and random ones."""
    rng = np.random.default_rng(seed)
    space = twin.mutator.search_space
    return [space.min(), *(space.sample(rng) for _ in range(number))]


@ALL
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_largest_subnet_computes_the_same_bits_as_the_plain_network(name, training):
    twin = copy.deepcopy(prepared(name))
    twin.mutator.activate(twin.mutator.search_space.min())
    twin.mutator.activate(twin.mutator.search_space.max())
    outputs = []
    for model in (twin.plain, twin.model):
        model.train(training)
        torch.manual_seed(0)
        outputs.append(model(twin.images()))
    assert_same_bits(outputs[1], outputs[0])
    buffers = zip(twin.model.buffers(), twin.plain.buffers(), strict=True)
    assert all(torch.equal(own, other) for own, other in buffers)


@pytest.mark.parametrize("name", some(["demo", "densenet", "vgg"], "demo", "densenet"))
def test_prepare_keeps_parameters_and_keys(name):
    model = ZOO[name].build()
    before = {key: id(parameter) for key, parameter in model.named_parameters()}
    buffers = {key: id(buffer) for key, buffer in model.named_buffers()}
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    modes = [module.training for module in model.train().modules()]

    from mmrazor_lite.models.mutators import OneShotChannelMutator

    OneShotChannelMutator(**ZOO[name].mutator).prepare(model, ZOO[name].input_shape)
    assert {key: id(parameter) for key, parameter in model.named_parameters()} == before
    assert {key: id(buffer) for key, buffer in model.named_buffers()} == buffers
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)


@ALL
@pytest.mark.parametrize("draws", [1, pytest.param(2, marks=pytest.mark.wide)])
def test_subnets_in_double_precision(name, draws):
    """Outputs and gradients of the export, outputs of the zeroed full network, and its counted cost."""
    twin = prepared(name).double()
    for subnet in subnets(twin, draws):
        assert_subnet_is_right(twin, subnet)


@ALL
def test_subnets_in_single_precision(name):
    twin = copy.deepcopy(prepared(name))
    twin.model.eval()
    for subnet in subnets(twin, 2, seed=1):
        exported = twin.mutator.export(subnet).eval()
        twin.mutator.activate(subnet)
        with torch.no_grad():
            pairs = zip(tensors(twin.model(twin.images())), tensors(exported(twin.images())), strict=True)
            for own, other in pairs:
                assert (own - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))


@ALL
def test_something_can_be_chosen_and_every_fixed_layer_has_a_reason(name):
    mutator = prepared(name).mutator
    assert len(mutator.mutables) >= 4
    assert all(layer.reason for layer in mutator.fixed)
    produced = [layer for mutable in mutator.mutables for layer in mutable.group.producers]
    fixed = [layer.layer for layer in mutator.fixed]
    assert not set(produced) & set(fixed)
    convs = {
        layer
        for layer, module in prepared(name).plain.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and getattr(module, "groups", 1) < max(2, _inputs(module))
    }
    assert convs <= {*produced, *fixed}


def _inputs(module: nn.Module) -> int:
    return module.in_channels if isinstance(module, nn.Conv2d) else module.in_features


EXPECTED_FIXED = {
    "demo": {"head.fc"},
    "mobilenet_v2_torchvision": {"classifier.1"},
    "resnet18": {"fc"},
    "resnet50": {"fc"},
    "efficientnet": {"classifier.1"},
    "shufflenet_v2": {"fc"},
    "densenet": {"classifier"},
    "squeezenet": {"classifier.1"},
    "googlenet": {"fc", "aux1.fc2", "aux2.fc2"},
    "auxiliary": {"fc", "aux.3"},
    "regnet": {"fc"},
    "vgg": {"classifier.6"},
}


@pytest.mark.parametrize("name", some(EXPECTED_FIXED, *(EXPECTED_FIXED.keys() - {"efficientnet", "googlenet"})))
def test_only_classifiers_stay_at_full_width(name):
    assert {layer.layer for layer in prepared(name).mutator.fixed} == EXPECTED_FIXED[name]


def test_convnext_is_searchable_through_layer_norm_and_layer_scale():
    mutator = prepared("convnext").mutator
    hidden = [f"features.{stage}.{i}.block.3" for stage, i in [(1, 0), (3, 0), (3, 1), (5, 0)]]
    stages = ["features.0.0", "features.2.1", "features.4.1"]
    assert sorted(mutable.name for mutable in mutator.mutables) == sorted([*hidden, *stages])
    mutator = copy.deepcopy(mutator)
    block = mutator._dynamic["features.3.0"]
    mutator.activate(mutator.search_space.min())
    width = mutator.search_space.min()["features.2.1"]
    assert block.layer_scale.shape == (width, 1, 1) and block._parameters["layer_scale"].shape == (24, 1, 1)
    assert mutator._dynamic["features.3.0.block.2"].normalized_shape == (width,)


def test_residual_stages_share_one_width():
    groups = {m.name: m.group for m in prepared("resnet50").mutator.mutables}
    stage = groups["layer1.0.conv3"]
    assert set(stage.producers) == {"layer1.0.conv3", "layer1.0.downsample.0", "layer1.1.conv3"}
    assert set(stage.members) == {"layer1.0.bn3", "layer1.0.downsample.1", "layer1.1.bn3"}


def test_dense_layers_read_several_segments():
    layers = dict(prepared("densenet").model.named_modules())
    mutator = copy.deepcopy(prepared("densenet").mutator)
    mutator.activate(mutator.search_space.min())
    pieces = {
        name: len(active_of(layer).inputs.pieces) for name, layer in mutator._dynamic.items() if name.endswith("conv1")
    }
    assert pieces["features.denseblock2.denselayer3.conv1"] > 2
    assert isinstance(layers["features.denseblock2.denselayer3.conv1"], nn.Conv2d)


def test_the_oracle_sees_a_wrong_slice():
    """Slices that are prefixes where segments are needed agree with their export, and are still wrong."""
    twin = prepared("densenet").double()
    for channels in twin.mutator._slices.values():
        if not channels._one_prefix:
            channels.refresh = lambda channels=channels: _prefix(channels)
    with pytest.raises(AssertionError):
        assert_subnet_is_right(twin, twin.mutator.search_space.sample(np.random.default_rng(0)))


def _prefix(channels) -> None:
    type(channels).refresh(channels)
    channels.pieces = ((0, channels.width),)


def test_positions_of_a_layer_are_those_of_its_slices():
    twin = prepared("shufflenet_v2").double()
    subnet = twin.mutator.search_space.sample(np.random.default_rng(3))
    twin.mutator.activate(subnet)
    kept = np.array([mutable.kept for mutable in twin.mutator.mutables])
    for layer in map(active_of, twin.mutator._dynamic.values()):
        probe = torch.arange(layer.outputs.size, dtype=torch.float64)
        where = active_positions(layer, probe, kept)
        assert torch.equal(layer.outputs.take(probe), probe[where])
    assert kept_channels(twin.mutator, subnet)


# The others take seconds each, and differ from these in size.
QUICK = ["demo", "mobilenet_v3", "shufflenet_v2", "densenet", "squeezenet", "regnet", "convnext", "vit"]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in ZOO if n not in QUICK)])
def test_any_order_of_channels_computes_the_same(name):
    """In double precision: 1e-10 of the output; every weight that follows a group has moved."""
    network = prepared(name).double()
    before = {key: value.clone() for key, value in network.model.state_dict().items()}
    rng = np.random.default_rng(0)
    with torch.no_grad():
        expected = network.mutator.run(network.images())
        scores = {group: rng.random(units) for group, units in network.mutator.unit_counts.items()}
        assert network.mutator.sort_channels(scores) == []
        result = network.mutator.run(network.images())
    for own, other in zip(result, expected, strict=True):
        assert float((own - other).abs().max()) <= 1e-10 * max(1.0, float(other.abs().max()))
    moved = {f"{member.layer}.{member.name}" for member in network.mutator.members if member.tensor.dim() > 1}
    assert all(not torch.equal(before[key], value) for key, value in network.model.state_dict().items() if key in moved)
