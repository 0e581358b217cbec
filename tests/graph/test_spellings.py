"""What gives the same bits is the same network however it is spelled, in checkpoints and in digests of small files."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmrazor_lite.graph import trace
from mmrazor_lite.graph.compared import difference
from mmrazor_lite.graph.computation import digest, digest_of_before, document, is_digest_of, lines_of
from mmrazor_lite.graph.computation_line import ADDED

SHAPE = (4, 12, 12)


class Net(nn.Module):
    """A convolution, some function of its map and the image, and what reads that."""

    def __init__(self, middle: Callable, **conv) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, **{"kernel_size": 3, "padding": 1, **conv})
        self.conv2 = nn.Conv2d(8, 8, 1)
        self.middle = middle if isinstance(middle, nn.Module) else None
        self.call = middle
        self.act = nn.Tanh()

    def forward(self, x):
        y = self.conv(x)
        return self.act(self.call(y) if self.middle is not None else self.call(self, y))


def conv(**options) -> Net:
    return Net(nn.Identity(), **options)


def described(net: nn.Module, shape=SHAPE) -> dict:
    return json.loads(json.dumps(document(lines_of(trace(net.eval(), shape, eval_only=True)), shape)))


@functools.cache
def known(build: Callable[[], nn.Module]) -> dict:
    """As it comes back from a file."""
    return described(build())


def as_before(document: dict) -> dict:
    """As files were written when spellings were told apart."""
    lines = []
    for line in document["lines"]:
        place, told, reads = line.split("\t")
        words = [word for word in told.split(" ") if word.partition("=")[0] not in ADDED]
        lines.append("\t".join((place, " ".join(words), reads)))
    return {"torch": document["torch"], "input_shape": document["input_shape"], "lines": lines}


class Relu(nn.Module):
    def forward(self, x):
        return F.relu(x)


def shuffled(x, groups=2):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def fn(call: Callable) -> Callable[[], Net]:
    return lambda: Net(lambda net, y: call(y))


def both(call: Callable) -> Callable[[], Net]:
    """``call(a, b)`` of two maps."""
    return lambda: Net(lambda net, y: call(y, net.conv2(y)))


def mod(module: Callable[[], nn.Module]) -> Callable[[], Net]:
    return lambda: Net(module())


EQUAL: dict[str, tuple[Callable[[], Net], ...]] = {
    "padding in words": (lambda: conv(padding="same"), lambda: conv(padding=1), lambda: conv(padding=(1, 1))),
    "no padding in words": (lambda: conv(padding="valid"), lambda: conv(padding=0)),
    "padding in words, dilated": (lambda: conv(padding="same", dilation=2), lambda: conv(padding=2, dilation=2)),
    "padding in words, two kernels": (
        lambda: conv(kernel_size=(1, 5), padding="same"),
        lambda: conv(kernel_size=(1, 5), padding=(0, 2)),
    ),
    "relu": (
        mod(nn.ReLU),
        mod(lambda: nn.ReLU(inplace=True)),
        mod(Relu),
        fn(F.relu),
        fn(lambda x: x.relu()),
        fn(lambda x: x.relu_()),
        fn(lambda x: x.clamp(min=0)),
        fn(lambda x: F.threshold(x, 0, 0)),
        mod(lambda: nn.Sequential(nn.Dropout(0.2), nn.Identity(), nn.ReLU())),
    ),
    "relu6": (
        mod(nn.ReLU6),
        fn(F.relu6),
        mod(lambda: nn.Hardtanh(0, 6)),
        fn(lambda x: F.hardtanh(x, 0.0, 6.0)),
        fn(lambda x: x.clamp(0, 6)),
        fn(lambda x: torch.clip(x, 0.0, 6.0)),
    ),
    "limits": (mod(nn.Hardtanh), fn(lambda x: x.clamp(-1, 1)), fn(lambda x: torch.clamp(x, -1.0, 1.0))),
    "sigmoid": (mod(nn.Sigmoid), fn(torch.sigmoid), fn(lambda x: x.sigmoid_())),
    "silu": (mod(nn.SiLU), fn(F.silu), mod(lambda: nn.SiLU(inplace=True))),
    "softmax": (mod(lambda: nn.Softmax(1)), fn(lambda x: x.softmax(-3)), fn(lambda x: F.softmax(x, dim=1))),
    "max pool": (
        mod(lambda: nn.MaxPool2d(2)),
        fn(lambda x: F.max_pool2d(x, 2)),
        fn(lambda x: F.max_pool2d(x, (2, 2), stride=2, padding=0)),
    ),
    "average pool": (mod(lambda: nn.AvgPool2d(3, 2)), fn(lambda x: F.avg_pool2d(x, (3, 3), (2, 2)))),
    "mean of the map": (
        fn(lambda x: x.mean((2, 3))),
        fn(lambda x: x.mean([-1, -2])),
        fn(lambda x: torch.mean(x, dim=(3, 2), keepdim=True).flatten(1)),
        fn(lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1)),
        fn(lambda x: F.adaptive_avg_pool2d(x, (1, 1)).squeeze()),
        mod(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
        fn(lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1)),
    ),
    "largest of the map": (fn(lambda x: x.amax((2, 3))), fn(lambda x: x.amax((-2, -1), keepdim=True).view(len(x), -1))),
    "flat": (
        fn(lambda x: x.flatten(1)),
        fn(lambda x: torch.flatten(x, start_dim=-3)),
        fn(lambda x: x.reshape(x.shape[0], -1)),
        fn(lambda x: x.contiguous().view(x.size(0), 8 * 12 * 12)),
        fn(lambda x: x.flatten(2).flatten(1)),
        fn(lambda x: x.unsqueeze(1).flatten(1)),
        mod(nn.Flatten),
    ),
    "nothing": (
        mod(nn.Identity),
        fn(lambda x: F.dropout(x, 0.5, training=False)),
        fn(lambda x: x.view(len(x), -1).reshape(x.shape)),
        fn(lambda x: x[:, :, :12]),
        fn(lambda x: F.pad(x, (0, 0, 0, 0))),
        fn(lambda x: x.permute(0, 1, 2, 3)),
    ),
    "shuffle": (
        fn(shuffled),
        fn(lambda x: F.channel_shuffle(x, 2)),
        mod(lambda: nn.ChannelShuffle(2)),
        fn(lambda x: x.reshape(len(x), 2, -1, *x.shape[2:]).permute(0, 2, 1, 3, 4).flatten(1, 2)),
    ),
    "turned": (
        fn(lambda x: x.flatten(2).transpose(1, 2)),
        fn(lambda x: x.flatten(2).permute(0, 2, 1)),
        fn(lambda x: x.flatten(2).mT),
    ),
    "halves": (
        fn(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
        fn(lambda x: torch.cat(x.split(4, dim=1)[::-1], -3)),
        fn(lambda x: torch.cat(torch.split(x, [4, 4], 1)[::-1], 1)),
        fn(lambda x: torch.cat([x[:, 4:], x[:, :4]], 1)),
        fn(lambda x: torch.cat([x[:, -4:], x[:, 0:-4]], 1)),
    ),
    "one of several": (
        fn(lambda x: x.unbind(1)[1]),
        fn(lambda x: x[:, 1]),
        fn(lambda x: x.select(-3, -7)),
    ),
    "sum": (both(lambda a, b: a + b), both(lambda a, b: b + a), both(torch.add), both(lambda a, b: b.add_(a))),
    "product": (both(lambda a, b: a * b), both(lambda a, b: torch.mul(b, a))),
    "square": (fn(lambda x: x**2), fn(lambda x: x * x), fn(torch.square), fn(lambda x: x.pow(2.0))),
}
DIFFERENT: dict[str, tuple[Callable[[], Net], Callable[[], Net]]] = {
    "padding of a stride": (lambda: conv(stride=2), lambda: conv(stride=2, padding=0)),
    "padding in words of an even kernel": (
        lambda: conv(kernel_size=4, padding="same"),
        lambda: conv(kernel_size=4, padding=1),
    ),
    "another padding": (lambda: conv(padding="same", dilation=2), lambda: conv(padding="same")),
    "relu and relu6": (mod(nn.ReLU), mod(nn.ReLU6)),
    "limits": (mod(lambda: nn.Hardtanh(0, 6)), mod(lambda: nn.Hardtanh(0, 5))),
    "limits, of before": (mod(lambda: nn.Hardtanh(0, 6)), mod(lambda: nn.Hardtanh(-1, 6))),
    "one limit": (fn(lambda x: x.clamp(min=0)), fn(lambda x: x.clamp(max=0))),
    "limit and threshold": (fn(lambda x: F.threshold(x, 0, 1)), mod(nn.ReLU)),
    "silu by hand, which rounds otherwise": (mod(nn.SiLU), fn(lambda x: x * torch.sigmoid(x))),
    "axis": (fn(lambda x: x.softmax(1)), fn(lambda x: x.softmax(2))),
    "axes": (fn(lambda x: x.mean((2, 3))), fn(lambda x: x.mean((1, 3)))),
    "mean and largest": (fn(lambda x: x.mean((2, 3))), fn(lambda x: x.amax((2, 3)))),
    "places": (
        fn(lambda x: F.adaptive_avg_pool2d(x, 2).flatten(1)),
        fn(lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1)),
    ),
    "stride of a pool": (fn(lambda x: F.max_pool2d(x, 2)), fn(lambda x: F.max_pool2d(x, 2, 1))),
    "order of axes": (fn(lambda x: x.flatten(1)), fn(lambda x: x.transpose(2, 3).flatten(1))),
    "cut otherwise": (fn(lambda x: x.flatten(2)), fn(lambda x: x.flatten(1, 2))),
    "groups of a shuffle": (fn(shuffled), fn(lambda x: shuffled(x, 4))),
    "shuffle and none": (fn(shuffled), fn(lambda x: x.view(len(x), 2, -1, 12, 12).view(x.shape))),
    "halves": (
        fn(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
        fn(lambda x: torch.cat(x.chunk(4, 1)[::-1], 1)),
    ),
    "order of halves": (fn(lambda x: torch.cat(x.chunk(2, 1), 1)), fn(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1))),
    "the other half": (fn(lambda x: x.chunk(2, 1)[0]), fn(lambda x: x[:, 4:])),
    "one of several": (fn(lambda x: x.unbind(1)[1]), fn(lambda x: x[:, 2])),
    "difference": (both(lambda a, b: a - b), both(lambda a, b: b - a)),
    "factor of a sum": (both(lambda a, b: torch.add(a, b, alpha=2)), both(lambda a, b: torch.add(b, a, alpha=2))),
    "quotient": (both(lambda a, b: a / b.exp()), both(lambda a, b: b.exp() / a)),
    "square and cube": (fn(lambda x: x**2), fn(lambda x: x**3)),
    "changed in place": (
        both(lambda a, b: a.relu_() + b),  # b was made before
        both(lambda a, b: a.relu() + b.relu()),
    ),
    "changed for who reads it later": (
        both(lambda a, b: F.relu(a, inplace=True) * 0 + a),
        both(lambda a, b: F.relu(a) * 0 + a),
    ),
    "changed by a view": (
        fn(lambda x: x.view(len(x), -1).mul_(2).view(x.shape) * 0 + x),
        fn(lambda x: x.view(len(x), -1).mul(2).view(x.shape) * 0 + x),
    ),
}


def pair(first: Callable[[], nn.Module], second: Callable[[], nn.Module]) -> list[nn.Module]:
    nets = [first().eval(), second().eval()]
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def outputs(nets: list[nn.Module]) -> list[torch.Tensor]:
    images = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)) * 5
    with torch.no_grad():
        return [net(images.clone()) for net in nets]


EQUAL_PAIRS = [(name, other) for name, nets in EQUAL.items() for other in range(1, len(nets))]


@pytest.mark.parametrize(("name", "other"), EQUAL_PAIRS)
def test_equal_networks(name, other):
    nets = pair(EQUAL[name][0], EQUAL[name][other])
    assert torch.equal(*outputs(nets)), "no spelling, but another computation"
    here, there = known(EQUAL[name][0]), known(EQUAL[name][other])
    assert difference(there, here, "a.pth") is None and difference(here, there, "a.pth") is None
    assert digest(here) == digest(there) and is_digest_of(digest(there), here)
    if other == 1 and name not in ("flat", "nothing"):
        assert difference(described(nets[1], (4, 16, 16)), here, "a.pth") is None


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_networks(name):
    nets = pair(*DIFFERENT[name])
    found = outputs(nets)
    assert found[0].shape != found[1].shape or not torch.equal(*found)
    here, there = map(known, DIFFERENT[name])
    told = difference(there, here, "a.pth")
    assert told and "\n" not in told and len(told) < 300
    assert difference(here, there, "a.pth") and digest(here) != digest(there)
    assert not is_digest_of(digest(there), here)


@pytest.mark.parametrize("name", EQUAL)
def test_a_file_of_before_is_taken_by_the_network_it_was_written_from(name):
    for here in map(known, EQUAL[name]):
        before = as_before(here)
        assert "form" not in before and difference(before, here, "a.pth") is None
        assert is_digest_of(digest_of_before(here), here)
        assert digest_of_before(before) == digest_of_before(here), "what was added is not in it"
        assert is_digest_of(digest_of_before(here).rpartition(":")[0], here), "the oldest say no floats"


@pytest.mark.parametrize("name", [name for name in DIFFERENT if not name.startswith("changed")])
def test_a_file_of_before_of_another_network_is_refused(name):
    here, there = map(known, DIFFERENT[name])
    assert difference(as_before(there), here, "a.pth")
    assert not is_digest_of(digest_of_before(there), here)


def test_a_shuffle_by_views_is_told_at_another_size_of_images():
    nets = [Net(lambda net, y, groups=groups: shuffled(y, groups)) for groups in (2, 4)]
    small, other = described(nets[0], (4, 8, 8)), described(nets[1])
    assert difference(small, described(nets[0]), "a.pth") is None
    assert "groups 2 in the file, 4 in the config" in difference(small, other, "a.pth")


def test_the_first_layer_that_differs_is_told_whatever_the_spelling_around():
    class Other(Net):
        def forward(self, x):
            return torch.tanh(F.relu(self.conv(x)))

    found = difference(described(Other(nn.ReLU(), stride=2)), described(Net(nn.ReLU())), "a.pth")
    assert found == "layer conv: stride (2, 2) in the file, (1, 1) in the config"


def test_a_form_of_a_later_release_is_compared_by_its_layers():
    here = described(Net(nn.ReLU()))
    there = {**described(Net(nn.SiLU())), "form": 99}
    assert difference(there, here, "a.pth") is None
    assert difference({**described(Net(nn.SiLU(), stride=2)), "form": 99}, here, "a.pth").startswith(
        "layer conv: stride"
    )


WORDS = (
    "takes= takes=-5 takes=0,0,0,0 takes=1 gives=9999999999999999999 dim=7 dim=-1 chunks=0 chunks=-3 split_size=0 "
    "split_sizes= index=99999999 step=0 start=x dims=3,3 dims= size= kernel=0 padding=same dilation=-1 changed=1 "
    "slots=0,0 output_size=1,1 exponent=2"
).split()
READS = ["-1", "image", "-2,-1", "5", ""]
KINDS = (
    "view permute transpose t slice select chunk split unbind getitem pad mean adaptive_avg_pool2d stack conv2d".split()
)


def test_no_damaged_word_ends_in_a_traceback():
    """Lines that nobody wrote, drawn from the words that rules read: a difference, never an error."""
    draw = torch.Generator().manual_seed(0)
    here = described(Net(nn.ReLU()))

    def some(of):
        return of[int(torch.randint(len(of), (), generator=draw))]

    for _ in range(500):
        lines = [
            f"a\t{some(KINDS)} {some(WORDS)} takes=2,{some(['8', '0', '65537', '-1'])},{some(['4', '12'])} "
            f"gives={some(['2,8', '2,2,4,12', ''])} {some(WORDS)} {some(WORDS)}\t{some(READS)}"
            for _ in range(4)
        ]
        there = {**here, "lines": [*here["lines"][:1], *lines, *here["lines"][1:]]}
        found = difference(there, here, "a.pth")
        assert found is None or "\n" not in found
        assert digest(there).startswith("torch")
