"""What is part of the same network, and what is another one with the same names and shapes of weights."""

from __future__ import annotations

import copy
import json
import re

import pytest
import torch
from draws import some
from torch import nn
from torch.nn import functional as F

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import trace
from mmrazor_lite.graph.compared import difference
from mmrazor_lite.graph.computation import document, held, inside, lines_of
from mmrazor_lite.models.mutators import OneShotChannelMutator
from tests.zoo import SMALL, ZOO

SHAPE = (3, 16, 16)


class Block(nn.Module):
    """Two convolutions with most things that leave no trace in a state dict."""

    def __init__(self, c: int = 8, **o) -> None:
        super().__init__()
        stride, dilation = o.get("stride", 1), o.get("dilation", 1)
        padding = o.get("padding", dilation)
        mode = o.get("padding_mode", "zeros")
        self.conv1 = nn.Conv2d(c, c, 3, stride, padding, dilation, bias=False, padding_mode=mode)
        self.norm = o.get("norm", nn.BatchNorm2d)(c, eps=o.get("eps", 1e-5), momentum=o.get("momentum", 0.1))
        self.act = o.get("act", nn.ReLU)()
        self.drop = nn.Dropout(o.get("dropout", 0.1))
        self.conv2 = nn.Conv2d(c, c, 1)
        self.scale = o.get("scale", 0.5)
        self.shortcut, self.crossed = o.get("shortcut", True), o.get("crossed", False)
        self.register_buffer("table", torch.linspace(0, o.get("last", 1.0), c)[:, None, None], persistent=False)
        self.pool = nn.AdaptiveAvgPool2d(o.get("bins", 1))
        self.pool_kind = o.get("pool", "mean")

    def forward(self, x):
        y = self.act(self.norm(self.conv1(x)))
        y = self.conv2(self.drop(y)) * self.scale + self.table
        if self.training and self.drop.p > 0.4:  # drop path
            y = y * torch.bernoulli(torch.full((len(y), 1, 1, 1), 0.9))
        if self.shortcut:
            y = y + F.interpolate(y if self.crossed else x, y.shape[-2:])
        return y


class Net(nn.Module):
    """A stem, two blocks of which the first varies, and a classifier."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1, self.layer2 = Block(**options), Block()
        self.fc = nn.Linear(8, 5)
        self.reduction = options.get("reduction", "mean")

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(x.mean((2, 3)) if self.reduction == "mean" else x.amax((2, 3)))


def described(model: nn.Module, shape=SHAPE) -> dict:
    """As it comes back from a file."""
    return json.loads(json.dumps(document(lines_of(trace(model, shape)), shape)))


@pytest.fixture(scope="module")
def base() -> dict:
    return described(Net())


OTHERS = {
    "stride": ({"stride": 2}, r"layer layer1.conv1: stride \(2, 2\) in the file, \(1, 1\) in the config"),
    "padding": ({"padding": 0}, r"layer layer1.conv1: padding \(0, 0\) in the file, \(1, 1\)"),
    "dilation": ({"dilation": 2}, r"layer layer1.conv1: (padding|dilation) \(2, 2\) in the file, \(1, 1\)"),
    "padding mode": ({"padding_mode": "reflect"}, r"layer layer1.conv1: pad, conv2d in the file, conv2d in the config"),
    "eps": ({"eps": 1e-3}, r"layer layer1.norm: eps 0.001 in the file, 1e-05 in the config"),
    "activation": ({"act": nn.Hardswish}, r"layer layer1.act: hardswish in the file, relu in the config"),
    "slope": ({"act": lambda: nn.LeakyReLU(0.1)}, r"layer layer1.act: leaky_relu in the file, relu in the config"),
    "shortcut": ({"shortcut": False}, r"layer layer1: mul, add in the file, mul, add, .*add in the config"),
    "wiring": ({"crossed": True}, r"layer layer1: upsample_nearest2d reads layer1 in the file, stem in the config"),
    "a number": ({"scale": 0.25}, r"layer layer1: other 0.25 in the file, 0.5 in the config"),
    "a constant": ({"last": 2.0}, r"layer layer1: a constant \(0, 0.28.*\) in the file, \(0, 0.14.*\) in the config"),
    "reduction": ({"reduction": "max"}, r"the network itself: amax, .* in the file, mean, .* in the config"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_network_with_the_same_weights(base, name):
    options, expected = OTHERS[name]
    other = Net(**options)
    assert {k: v.shape for k, v in other.state_dict().items()} == {k: v.shape for k, v in Net().state_dict().items()}
    found = difference(described(other), base, "a.pth")
    assert found is not None
    assert re.match(expected, found), found
    assert "\n" not in found and len(found) < 300


SAME = {
    "dropout": {"dropout": 0.3},
    "drop path": {"dropout": 0.5},
    "momentum": {"momentum": 0.01},
    "synchronised": {"norm": nn.SyncBatchNorm},
}


@pytest.mark.parametrize("name", SAME)
def test_what_only_regularises_is_the_same_network(base, name):
    assert difference(described(Net(**SAME[name])), base, "a.pth") is None


def test_modes_layout_weights_and_copies_change_nothing(base):
    net = Net().train().to(memory_format=torch.channels_last)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    assert described(net) == base == described(copy.deepcopy(net).eval())


def test_a_table_that_a_machine_computes_a_little_otherwise(base):
    assert difference(described(Net(last=1 + 1e-7)), base, "a.pth") is None
    assert difference(described(Net(scale=0.5 * (1 + 1e-12))), base, "a.pth") is None


@pytest.mark.parametrize("size", [8, 32])
def test_another_size_of_images_is_legal(base, size):
    shape = (3, size, size)
    assert difference(described(Net(), shape), base, "a.pth") is None
    for name in ("stride", "dilation", "activation", "shortcut", "eps"):
        assert difference(described(Net(**OTHERS[name][0]), shape), base, "a.pth"), name


class Pooled(nn.Module):
    """A pool over all places of a map, and their mean: numbers that follow the size of images."""

    def __init__(self, kernel: int | None = None, last=torch.abs) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.kernel, self.last = kernel, last

    def forward(self, x):
        x = self.last(self.conv(x))
        pooled = F.avg_pool2d(x, self.kernel or x.shape[2:])[:, :, 0, 0]
        return self.fc(pooled + x.sum((2, 3)) / (x.shape[2] * x.shape[3]))


@pytest.mark.parametrize("kernel", [None, 8])
def test_a_pool_over_the_whole_map_is_the_same_at_another_size(kernel):
    small, large = (described(Pooled(kernel), (3, size, size)) for size in (8, 16))
    assert difference(small, large, "a.pth") is None and difference(large, small, "a.pth") is None
    assert "kernel (4, 4) in the file" in difference(described(Pooled(4), (3, 8, 8)), large, "a.pth")
    assert "kernel (4, 4) in the file" in difference(described(Pooled(4), (3, 8, 8)), small, "a.pth")


class Wired(nn.Module):
    """Two convolutions around any functions of their maps."""

    def __init__(self, wire) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.wire = wire

    def forward(self, x):
        a = self.conv1(x)
        return self.wire(x, a, self.conv2(a)).mean((2, 3))


def backwards(a):
    return torch.arange(a.shape[-1] - 1, -1, -1)


WIRES = {
    "twice in a list": (lambda x, a, b: torch.cat([a, b, a], 2), lambda x, a, b: torch.cat([a, b, b], 2)),
    "twice": (lambda x, a, b: torch.addcmul(a, a, b), lambda x, a, b: torch.addcmul(a, b, b)),
    "queries and values": (
        lambda x, a, b: F.scaled_dot_product_attention(a, a, b),
        lambda x, a, b: F.scaled_dot_product_attention(a, b, b),
    ),
    "side of an index": (lambda x, a, b: b[:, :, backwards(b)], lambda x, a, b: b[:, :, :, backwards(b)]),
    "a constant made on the way": (lambda x, a, b: b * torch.tensor(0.5), lambda x, a, b: b * torch.tensor(0.25)),
    "an index made on the way": (lambda x, a, b: b[:, [1, 0]], lambda x, a, b: b[:, [0, 1]]),
    "the first of two constants": (
        lambda x, a, b: torch.addcmul(b, torch.tensor(2.0), torch.tensor(3.0)),
        lambda x, a, b: torch.addcmul(b, torch.tensor(4.0), torch.tensor(3.0)),
    ),
}


@pytest.mark.parametrize("name", WIRES)
def test_what_is_read_stands_where_it_did(name):
    first, second = (described(Wired(wire)) for wire in WIRES[name])
    assert difference(first, first, "a.pth") is None
    assert difference(first, second, "a.pth").startswith("the network itself: ")
    # Files of before say neither the order nor a constant that is made on the way.
    before = [re.sub(r" (slots|values)=[^ \t]*", "", line) for line in first["lines"]]
    assert difference({**first, "lines": before}, first, "a.pth") is None


@pytest.mark.parametrize(
    "wires",
    [
        (lambda x, a, b: F.channel_shuffle(a, 2), lambda x, a, b: F.channel_shuffle(a, 4)),
        (lambda x, a, b: a, lambda x, a, b: a.transpose(2, 3)),
        (lambda x, a, b: a, lambda x, a, b: a[:, :, ::2]),
        (lambda x, a, b: a.permute(0, 1, 3, 2), lambda x, a, b: a.permute(0, 1, 2, 3)),
    ],
)
def test_how_channels_and_places_move_is_told_at_another_size_too(wires):
    first, second = map(Wired, wires)
    small = described(first, (3, 8, 8))
    assert difference(small, described(first), "a.pth") is None
    assert difference(small, described(second), "a.pth").startswith("the network itself: ")


@pytest.mark.parametrize("last", [torch.neg, torch.square, torch.exp, lambda x: x.clamp(max=6), lambda x: x.flip(3)])
def test_functions_of_each_value_are_told_at_another_size_too(last):
    found = difference(described(Pooled(last=last), (3, 8, 8)), described(Pooled(), (3, 16, 16)), "a.pth")
    assert found.startswith("the network itself: ") and "abs" in found


def test_another_release_of_torch_is_compared_by_its_layers(base):
    other = {**described(Net(act=nn.Hardswish)), "torch": "1.0"}
    assert difference(other, base, "a.pth") is None  # how a release writes an activation is its own business
    found = difference({**described(Net(stride=2)), "torch": "1.0"}, base, "a.pth")
    assert found.startswith("layer layer1.conv1: stride")


def test_a_part_of_a_network(base):
    other = described(Net(stride=2))
    assert difference(other, base, "a.pth", part="layer2") is None
    assert difference(other, base, "a.pth", part="layer1").startswith("layer layer1.conv1: stride")


def test_widths_that_are_offered_do_not_matter(base):
    found = []
    for options in ({}, {"candidate_choices": [0.5, 1.0]}):
        for every in (False, True):
            mutator = OneShotChannelMutator(**options)
            mutator.prepare(Net(), SHAPE, any_width=every)
            found.append(mutator.computation)
    assert all(item == base for item in found)


@pytest.mark.parametrize("name", some((name for name in SMALL if name != "densenet"), "demo"))
def test_architectures_are_described_alike_whatever_their_weights(name):
    variant = ZOO[name]
    torch.manual_seed(1)
    first = described(variant.build(), variant.input_shape)
    torch.manual_seed(2)
    assert described(variant.build().eval(), variant.input_shape) == first
    channels, height, width = variant.input_shape
    larger = described(variant.build(), (channels, 2 * height, 2 * width))
    assert difference(larger, first, "a.pth") is None


def test_what_only_holds_a_network_computes_the_same_under_its_name(base):
    """A file of a classifier and one of the network inside say the same, whatever the statistics of its norms are."""

    class Held(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net
            self.register_state_dict_post_hook(without_prefix)

        def forward(self, x):
            return self.net(x)

    def without_prefix(module, state, prefix, metadata):
        for key in list(state):
            state[key.removeprefix("net.")] = state.pop(key)

    net = Net()
    with torch.no_grad():
        net.layer1.norm.running_var.uniform_(0.5, 2)
    alone, around = (document(lines_of(trace(module, SHAPE)), SHAPE) for module in (net, Held(net)))
    assert inside(alone, "net") == around and held(around, "net") == alone
    assert alone["lines"] == base["lines"], "statistics of norms are weights, not constants"
    assert any("values=" in line for line in around["lines"]), "a table that is not saved is one"


def test_statistics_that_files_of_before_say_as_constants_are_not_compared(base):
    lines = [line.replace("batch_norm", "batch_norm values=1,1,0.5") for line in base["lines"]]
    assert lines != base["lines"] and difference({**base, "lines": lines}, base, "a.pth") is None


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {"lines": "x"},
        {"torch": 3, "input_shape": [], "lines": []},
        {"torch": "2", "input_shape": [], "lines": ["x"]},
        {"torch": "2", "input_shape": [], "lines": [3]},
        {"torch": "2", "input_shape": 3, "lines": []},
        {"torch": "2", "input_shape": [], "lines": [""] * 300_000},
    ],
)
def test_what_is_no_description_is_an_error(base, damaged):
    with pytest.raises(UserError, match="a.pth: its description of what the network computes is damaged"):
        difference(damaged, base, "a.pth")


@pytest.mark.parametrize("told", ["adaptive_avg_pool2d", "slice step=", "avg_pool2d whole_map=True", "conv2d =", ""])
def test_a_line_that_lacks_what_it_should_say_is_only_a_difference(base, told):
    lines = [base["lines"][0].split("\t")[0] + f"\t{told}\timage", *base["lines"][1:]]
    for shape in (SHAPE, (3, 8, 8)):
        assert difference({**base, "input_shape": list(shape), "lines": lines}, base, "a.pth")


@pytest.mark.parametrize("reads", ["-1000000", "99999999999999999999", "-0", "--1", "image,image"])
def test_nonsense_in_a_line_is_only_a_difference(base, reads):
    lines = [*base["lines"]]
    lines[5] = lines[5].rpartition("\t")[0] + f"\t{reads}"
    for shape in (base["input_shape"], [3, 8, 8]):
        assert difference({**base, "input_shape": shape, "lines": lines}, base, "a.pth")
