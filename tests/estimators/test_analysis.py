"""The analysis of a model: numbers that add up, and that a count by running the subnets gives too."""

from __future__ import annotations

import functools
import json
import math

import oracles
import pytest
import torch
from handmade import Net, block
from torch import nn
from zoo import prepare, prepared

from mmrazor_lite.estimators import Analysis, analyse
from mmrazor_lite.graph import FixedLayer
from mmrazor_lite.graph.versions import macs_counter

MODELS = ["demo", "densenet", "shufflenet_v2", "mobilenet_v3", "vgg"]


@functools.cache
def analysed(name: str) -> Analysis:
    twin = prepared(name)
    return analyse(twin.mutator, twin.model, twin.input_shape)


def exported(name: str, end: str) -> nn.Module:
    mutator = prepared(name).mutator
    return mutator.export(getattr(mutator.search_space, end)()).eval()


@pytest.mark.parametrize("end", ["max", "min"])
@pytest.mark.parametrize("name", MODELS)
def test_layers_add_up_to_the_cost_model_and_to_a_count(name, end):
    twin, analysis = prepared(name), analysed(name)
    costs = getattr(twin.mutator.cost_model, end)()
    layers = {key: sum(getattr(getattr(layer, key), end) for layer in analysis.layers) for key in ("macs", "params")}
    rest = {key: getattr(extent, end) for key, extent in analysis.rest.items()}
    sums = {
        "macs": layers["macs"],
        "flops": layers["macs"] + rest["flops"],
        "params": layers["params"] + rest["params"],
    }
    assert sums == {key: costs[key] for key in sums}
    assert sums == oracles.count(exported(name, end), twin.input_shape)
    assert {key: getattr(extent, end) for key, extent in analysis.resources.items()} == costs


@pytest.mark.parametrize("end", ["max", "min"])
@pytest.mark.parametrize("name", MODELS)
def test_each_layer_is_what_its_module_counts(name, end):
    plain = exported(name, end)
    with macs_counter() as counter:
        plain(torch.zeros(1, *prepared(name).input_shape))
    counted = {key.partition(".")[2]: sum(ops.values()) // 2 for key, ops in counter.get_flop_counts().items()}
    modules = dict(plain.named_modules())
    layers = [layer for layer in analysed(name).layers if layer.kind != "matmul"]
    assert layers
    for layer in layers:
        module = modules[layer.name]
        assert getattr(layer.macs, end) == counted[layer.name], layer.name
        assert getattr(layer.params, end) == sum(parameter.numel() for parameter in module.parameters())
        sizes = module.weight.shape[1], module.weight.shape[0]
        assert (getattr(layer.inputs, end), getattr(layer.outputs, end)) == sizes, layer.name


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_in_network_order(name):
    order: list[str] = []
    plain = exported(name, "max")
    for key, module in plain.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda *_, key=key: order.append(key))
    plain(torch.zeros(1, *prepared(name).input_shape))
    assert [layer.name for layer in analysed(name).layers] == list(dict.fromkeys(order))


@pytest.mark.parametrize("name", MODELS)
def test_groups_and_reasons_are_the_mutators(name):
    mutator, analysis = prepared(name).mutator, analysed(name)
    assert [group.name for group in analysis.groups] == list(mutator.search_space)
    assert math.prod(len(group.candidates) for group in analysis.groups) == pytest.approx(10**analysis.size_log10)
    assert all(group.candidates[-1] == group.full for group in analysis.groups)
    pairs = [FixedLayer(layer, reason) for reason, layers in analysis.fixed.items() for layer in layers]
    assert sorted(map(str, pairs)) == sorted(map(str, mutator.fixed))


def test_a_network_counted_by_hand():
    class Half(Net):
        """A conv whose width the model's input sets, one shared by two names, one called twice."""

        def make(self) -> None:
            self.body = nn.Conv2d(16, 16, 1, bias=False)
            self.again = self.body
            self.skip = nn.Conv2d(3, 3, 3, padding=1, bias=False)

        def forward(self, x):
            x = self.stem(x + self.skip(x))
            return self.head(self.body(x) + self.again(x)).mean((2, 3))

    twin = prepare(Half(), (3, 8, 8), candidate_choices=[0.5, 1.0])
    analysis = analyse(twin.mutator, twin.model, (3, 8, 8))
    layers = {layer.name: layer for layer in analysis.layers}
    assert list(layers) == ["skip", "stem.0", "body", "head"]
    assert analysis.shared == {"body": ("again",)}
    assert [layers[name].calls for name in layers] == [1, 1, 2, 1]
    macs = {name: (layer.macs.max, layer.macs.min) for name, layer in layers.items()}
    assert macs["skip"] == (64 * 81, 64 * 81)
    assert macs["stem.0"] == (64 * 27 * 16, 64 * 27 * 8)
    assert macs["body"] == (2 * 64 * 16 * 16, 2 * 64 * 8 * 8)
    assert macs["head"] == (64 * 16 * 5, 64 * 8 * 5)
    assert [layer.searchable for layer in analysis.layers] == [False, True, True, True]
    total = sum(full for full, _ in macs.values())
    assert analysis.searchable_share == pytest.approx(1 - 64 * 81 / total)
    assert layers["body"].params.max == 256 and layers["body"].input_groups == ("stem.0",)
    assert (analysis.rest["params"].max, analysis.rest["params"].min) == (32, 16)  # the one batch norm
    assert analysis.choices == 2 and analysis.size_log10 == pytest.approx(math.log10(4))


def test_a_network_without_choices():
    twin = prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 8, 8))
    analysis = analyse(twin.mutator, twin.model, (3, 8, 8))
    assert (analysis.choices, analysis.size_log10, analysis.searchable_share) == (0, 0, 0)
    assert analysis.resources["macs"].ratio == 1
    assert sum(map(len, analysis.fixed.values())) == 1


def test_plain_data():
    twin = prepare(nn.Sequential(*block(3, 8), nn.Conv2d(8, 4, 1)), (3, 8, 8), candidate_choices=[0.5, 1.0])
    data = analyse(twin.mutator, twin.model, (3, 8, 8)).as_dict()
    assert json.loads(json.dumps(data))["layers"][0]["macs"] == {"max": 64 * 27 * 8, "min": 64 * 27 * 8}
    assert sum(layer["share"] for layer in data["layers"]) == pytest.approx(1)
    for extent in data["resources"].values():
        assert extent["ratio"] == extent["min"] / extent["max"]
