"""A kind of layer that the package does not know is one entry, made outside of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from handmade import assert_output_depends_on_the_image, block
from mmengine.model import BaseDataPreprocessor
from mmpretrain.structures import DataSample
from oracles import assert_cost_is_counted, assert_same_as_export, assert_same_bits, places
from torch import Tensor, nn
from zoo import prepare

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import LAYER_KINDS, LayerKind, LayerRow
from mmrazor_lite.graph.layers import flow, rows
from mmrazor_lite.models.algorithms import AutoSlim
from mmrazor_lite.models.classifiers import PlainClassifier

SHAPE = (3, 8, 8)


def outputs(full: dict, inputs: int, outputs: int) -> int:
    return outputs


# a module with a parameter per output channel, and one more in front of a call of torch's -------------------------


class ScaledConv2d(nn.Module):
    """No subclass of anything that is known."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, channels, 3, 3) / 8)
        self.scale = nn.Parameter(torch.rand(width) + 0.5)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.flatten(1).norm(dim=1)[:, None, None, None]
        return F.conv2d(x, weight * self.scale.view(self.width, 1, 1, 1), padding=1)


class Forgetful(ScaledConv2d):
    """Its entry says nothing of the scale."""


class Reversed(ScaledConv2d):
    """Its entry lets the inputs of the weight follow the outputs: shapes fit where both have one width."""


SCALED = LayerKind(
    "scaled conv",
    types=(ScaledConv2d,),
    ops=("conv2d",),
    follow=flow.conv,
    rows=rows.conv,
    tensors={"weight": ("outputs", "inputs"), "scale": ("outputs",)},
    numbers={"width": outputs},
    own_forward=True,
)
LAYER_KINDS.register(SCALED)


# a module with an op of its own, which nobody knows -----------------------------------------------------------------


@torch.library.custom_op("outside::mix", mutates_args=())
def mix(input: Tensor, weight: Tensor) -> Tensor:
    """(N, C, H, W), (O, C) -> (N, O, H, W)"""
    return torch.einsum("nchw,oc->nohw", input, weight)


@mix.register_fake
def _(input, weight):
    return input.new_empty(len(input), len(weight), *input.shape[2:])


def _backward(ctx, gradient):
    input, weight = ctx.saved_tensors
    into = torch.einsum("nohw,oc->nchw", gradient, weight)
    return into, torch.einsum("nohw,nchw->oc", gradient, input)


mix.register_autograd(_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


class Mix(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, channels) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return mix(x, self.weight)


def follow_mix(flow_: object, op: object) -> object:
    width, channels = op.argument("weight").meta["val"].shape
    return flow.dense(flow_, op, channels, width, dim=1)


def rows_of_mix(op: object, graph: object, images: int) -> Iterator[LayerRow]:
    shape = op.node.meta["val"].shape
    yield LayerRow(op.layer, "linear", math.prod(shape[2:]), 1, *graph.layers[op.layer], macs=True)


LAYER_KINDS.register(
    LayerKind(
        "mix",
        types=(f"{__name__}.Mix",),  # by its name: the class need not be imported
        ops=("outside::mix",),
        follow=follow_mix,
        rows=rows_of_mix,
        tensors={"weight": ("outputs", "inputs")},
        own_forward=True,
    )
)


class Net(nn.Module):
    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.stem, self.layer, self.norm = block(3, 16), layer(16, 12), nn.BatchNorm2d(12)
        self.last = layer(12, 12)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.last(F.relu(self.norm(self.layer(self.stem(x))))).relu().mean((2, 3)))


@pytest.mark.parametrize("layer", [ScaledConv2d, Mix])
def test_its_widths_are_found_checked_counted_trained_and_exported(layer):
    torch.manual_seed(0)
    twin = prepare(Net(layer), SHAPE).double()
    assert list(twin.mutator.search_space) == ["stem.0", "layer", "last"]
    assert [fixed.layer for fixed in twin.mutator.fixed] == ["fc"]
    taps = 9 if layer is ScaledConv2d else 1
    space = twin.mutator.search_space
    drawn = space.sample(np.random.default_rng(1))
    assert_output_depends_on_the_image(twin, drawn)
    for subnet in (space.min(), drawn, space.max()):
        exported = twin.mutator.export(subnet)
        assert type(exported.layer) is layer
        first, second, third = subnet.values()
        assert exported.layer.weight.shape[:2] == (second, first)
        assert_same_as_export(twin, subnet, places(twin.mutator, subnet, twin.plain))
        macs = 64 * (27 * first + taps * first * second + taps * second * third) + 5 * third
        assert twin.mutator.cost_model.of(subnet)["macs"] == macs
        params = sum(parameter.numel() for parameter in exported.parameters())
        assert twin.mutator.cost_model.of(subnet)["params"] == params
        if layer is ScaledConv2d:  # torch's counter knows the call
            assert_cost_is_counted(twin.mutator, subnet, SHAPE)
    images = twin.images()
    twin.mutator.activate(space.max())
    assert_same_bits(twin.model.eval()(images), twin.plain.eval()(images))


@pytest.mark.parametrize("layer", [ScaledConv2d, Mix])
def test_it_learns(layer):
    torch.manual_seed(0)
    classifier = PlainClassifier(Net(layer), data_preprocessor=BaseDataPreprocessor())
    algorithm = AutoSlim(classifier, {"type": "OneShotChannelMutator", "divisor": 4}, input_shape=SHAPE).train()
    optimizer = SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.1))
    data = {"inputs": torch.randn(4, *SHAPE), "data_samples": [DataSample().set_gt_label(i) for i in range(4)]}
    before = {name: value.clone() for name, value in algorithm.named_parameters() if "layer." in name}
    losses = [float(algorithm.train_step(data, optimizer)["max_subnet.loss"]) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert all(not torch.equal(before[name], dict(algorithm.named_parameters())[name]) for name in before)


@pytest.mark.parametrize("wrong", [Forgetful, Reversed])
def test_an_entry_that_is_wrong_costs_its_groups_and_no_more(wrong):
    tensors = (
        {"weight": ("outputs", "inputs")} if wrong is Forgetful else {**SCALED.tensors, "weight": ("outputs",) * 2}
    )
    if LAYER_KINDS.of(wrong(1, 1)) is SCALED:
        entry = LayerKind(f"wrong {wrong.__name__}", (wrong,), SCALED.ops, flow.conv, rows.conv, tensors,
                          SCALED.numbers, own_forward=True)  # fmt: skip
        LAYER_KINDS.register(entry)
    torch.manual_seed(0)
    twin = prepare(Net(wrong), SHAPE)
    reasons = {fixed.layer: fixed.reason for fixed in twin.mutator.fixed}
    assert "the check of a small subnet failed" in reasons["layer"]
    for subnet in (twin.mutator.search_space.min(), twin.mutator.search_space.max()):
        exported, images = twin.mutator.export(subnet), twin.images()
        twin.mutator.activate(subnet)
        assert_same_bits(exported.eval()(images), twin.model.eval()(images))


class Plainly(ScaledConv2d):
    """Its entry says nothing of its cost."""


LAYER_KINDS.register(replace(SCALED, name="plainly", types=(Plainly,), rows=None))


def test_what_an_entry_does_not_cost_its_op_does():
    torch.manual_seed(0)
    costs = [prepare(Net(layer), SHAPE).mutator.cost_model.max() for layer in (Plainly, ScaledConv2d)]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("types", ScaledConv2d),
        ("ops", "conv2d"),
        ("tensors", {"weight": ("output",)}),
        ("numbers", {"width": 3}),
        ("mask", "zeros"),
        ("dim", 7),
    ],
)
def test_a_field_that_cannot_be_is_named(field, value):
    with pytest.raises(UserError, match=f"kind of layer 'scaled conv': {field}=.* cannot be"):
        replace(SCALED, **{field: value})


def test_a_class_has_one_kind():
    with pytest.raises(UserError, match="'another'.*ScaledConv2d.*'scaled conv' already"):
        LAYER_KINDS.register(LayerKind("another", (ScaledConv2d,), ("conv2d",), flow.conv))


def test_a_class_has_one_kind_under_its_dotted_name_too():
    with pytest.raises(UserError, match="'another'.*torch.nn.modules.conv.Conv2d is of kind 'conv' already"):
        LAYER_KINDS.register(LayerKind("another", ("torch.nn.modules.conv.Conv2d",), ("conv2d",), flow.conv))
    with pytest.raises(UserError, match="'another'.*ScaledConv2d'?>? is of kind 'scaled conv' already"):
        LAYER_KINDS.register(replace(SCALED, name="another"))


def test_a_name_is_of_one_kind():
    class Other(nn.Conv2d):
        pass

    with pytest.raises(UserError, match="'scaled conv': the name is taken"):
        LAYER_KINDS.register(replace(SCALED, types=(Other,)))
    assert LAYER_KINDS.of(Other(1, 1, 1)) is LAYER_KINDS.of(nn.Conv2d(1, 1, 1))
