"""Width groups by the analysis alone, on small networks whose groups are written out by hand.

``prepare()`` ends with a check that puts right, or leaves at full width, what the analysis gets wrong. Here nothing
does: each expectation is what the graph says.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmrazor_lite.graph import Side, WidthGraph, find_width_groups, trace
from mmrazor_lite.graph.channels import FIXED

Channel = tuple[str, int] | None  # group and unit, or None for one that stays


class Net(nn.Module):
    """A conv in front (``stem``), a body under test, and a 1x1 conv on ``out`` channels behind it (``head``)."""

    def __init__(self, body: nn.Module, out: int = 8, stem: int = 8) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, stem, 1), body, nn.Conv2d(out, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


def analysed(body: nn.Module, out: int = 8, stem: int = 8) -> WidthGraph:
    return find_width_groups(trace(Net(body, out, stem), (3, 4, 4)))


def groups(graph: WidthGraph) -> dict[str, tuple]:
    """Name -> units, channels per unit, producers, members."""
    return {group.name: (group.units, group.unit, group.producers, group.members) for group in graph.groups}


def channels(graph: WidthGraph, side: Side) -> list[Channel]:
    """A side as written out by hand."""
    pairs = zip(side.group.tolist(), side.unit.tolist(), strict=True)
    return [None if group == FIXED else (graph.groups[group].name, unit) for group, unit in pairs]


def reads(graph: WidthGraph, layer: str) -> list[Channel]:
    return channels(graph, graph.layers[layer][0])


def makes(graph: WidthGraph, layer: str) -> list[Channel]:
    return channels(graph, graph.layers[layer][1])


def of(name: str, *units: int) -> list[Channel]:
    return [(name, unit) for unit in units]


def stays(graph: WidthGraph) -> dict[str, str]:
    return {fixed.layer: fixed.reason for fixed in graph.fixed}


def conv(inputs: int = 8, outputs: int = 8, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, groups=groups)


# how ids flow -----------------------------------------------------------------------------------------------------


class Add(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(), nn.BatchNorm2d(8)

    def forward(self, x):
        return x + self.norm(self.a(x))


def test_layers_that_are_added_share_one_width():
    graph = analysed(Add())
    assert groups(graph) == {"stem": (8, 1, ("stem", "body.a"), ("body.norm",))}
    for layer in ("stem", "body.a", "body.norm"):
        assert makes(graph, layer) == of("stem", *range(8)), layer
    assert reads(graph, "body.a") == reads(graph, "head") == of("stem", *range(8))
    assert makes(graph, "head") == [None] * 2 and reads(graph, "stem") == [None] * 3
    assert stays(graph) == {"head": "the model's output"} and not graph.assumed and not graph.numbers


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(8, 4), nn.BatchNorm2d(12)

    def forward(self, x):
        return self.norm(torch.cat([self.a(x), x], 1))


def test_a_concat_is_read_in_two_segments():
    graph = analysed(Concat(), 12)
    assert groups(graph) == {"stem": (8, 1, ("stem",), ("body.norm",)), "body.a": (4, 1, ("body.a",), ("body.norm",))}
    assert makes(graph, "body.norm") == reads(graph, "head") == of("body.a", *range(4)) + of("stem", *range(8))


class Shuffle(nn.Module):
    """Of two groups of four: channels 0 4 1 5 2 6 3 7."""

    def __init__(self) -> None:
        super().__init__()
        self.a = conv()

    def forward(self, x):
        n, c, h, w = x.shape
        return self.a(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def test_a_shuffle_ties_channels_that_change_places_together():
    graph = analysed(Shuffle())
    assert groups(graph) == {"stem": (4, 2, ("stem",), ()), "body.a": (8, 1, ("body.a",), ())}
    assert makes(graph, "stem") == of("stem", *range(4), *range(4))
    assert reads(graph, "body.a") == of("stem", 0, 0, 1, 1, 2, 2, 3, 3)
    assert graph.assumed == {"stem"}  # whether 2 and c // 2 are numbers in the code, no graph shows


class ShuffleAndAdd(Shuffle):
    def __init__(self) -> None:
        super().__init__()
        self.b = conv()

    def forward(self, x):
        n, c, h, w = x.shape
        return self.b(x) + x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def test_producers_may_hold_the_units_of_a_group_at_different_places():
    graph = analysed(ShuffleAndAdd())
    assert groups(graph) == {"stem": (4, 2, ("stem", "body.b"), ())}
    assert makes(graph, "stem") == of("stem", *range(4), *range(4))
    assert makes(graph, "body.b") == of("stem", 0, 0, 1, 1, 2, 2, 3, 3)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.dw = conv(8, 12, groups=4), conv(12, 12, groups=12)

    def forward(self, x):
        return self.dw(self.a(x))


def test_a_grouped_conv_keeps_the_width_of_a_group():
    graph = analysed(Grouped(), 12)
    # 4 groups: 2 channels in, 3 out each; a depthwise conv only passes on.
    assert groups(graph) == {"stem": (4, 2, ("stem", "body.a"), ("body.dw",))}
    assert makes(graph, "stem") == of("stem", 0, 0, 1, 1, 2, 2, 3, 3)
    assert makes(graph, "body.a") == makes(graph, "body.dw") == of("stem", 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3)


class GroupNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x):
        return self.norm(x)


def test_a_group_norm_keeps_the_width_of_a_group():
    graph = analysed(GroupNorm())
    assert groups(graph) == {"stem": (2, 4, ("stem",), ("body.norm",))}
    assert makes(graph, "body.norm") == of("stem", 0, 0, 0, 0, 1, 1, 1, 1)


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = conv(4, 4)

    def forward(self, x):
        left, right = x.chunk(2, 1)
        return torch.cat([left, self.a(right)], 1)


def test_equal_parts_keep_the_same_channels():
    graph = analysed(Halves())
    assert groups(graph) == {"stem": (4, 2, ("stem",), ()), "body.a": (4, 1, ("body.a",), ())}
    assert makes(graph, "stem") == of("stem", *range(4), *range(4))
    assert reads(graph, "body.a") == of("stem", *range(4))
    assert reads(graph, "head") == of("stem", *range(4)) + of("body.a", *range(4))


class Twice(nn.Module):
    """One conv on two producers: they share a width, and its own channels come twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(8, 6), conv(8, 6), conv(6, 4)

    def forward(self, x):
        return torch.cat([self.c(self.a(x)), self.c(self.b(x))], 1)


def test_a_layer_that_is_called_twice_ties_what_it_reads():
    graph = analysed(Twice())
    assert groups(graph) == {
        "stem": (8, 1, ("stem",), ()),
        "body.a": (6, 1, ("body.a", "body.b"), ()),
        "body.c": (4, 1, ("body.c",), ()),
    }
    assert reads(graph, "head") == of("body.c", 0, 1, 2, 3, 0, 1, 2, 3)


# attention ----------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Two heads of four channels; queries, keys and values from one linear layer, or from three."""

    def __init__(self, heads: int = 2, joint: bool = True) -> None:
        super().__init__()
        self.num_heads, self.joint = heads, joint
        self.qkv = nn.Linear(8, 24) if joint else nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.proj = nn.Linear(8, 8)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        n, tokens, _ = x.shape
        parts = self.qkv(x).chunk(3, -1) if self.joint else [layer(x) for layer in self.qkv]
        q, k, v = (part.reshape(n, tokens, self.num_heads, -1).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(mixed.reshape(n, tokens, -1)).transpose(1, 2).reshape(n, -1, 4, 4)


def test_an_attention_keeps_whole_heads():
    graph = analysed(Attention())
    assert groups(graph)["body.qkv"] == (2, 12, ("body.qkv",), ())
    assert makes(graph, "body.qkv") == 3 * of("body.qkv", 0, 0, 0, 0, 1, 1, 1, 1)
    assert reads(graph, "body.proj") == of("body.qkv", 0, 0, 0, 0, 1, 1, 1, 1)
    graph = analysed(Attention(joint=False))
    layers = tuple(f"body.qkv.{i}" for i in range(3))
    assert groups(graph)[layers[0]] == (2, 4, layers, ())
    assert all(makes(graph, layer) == of(layers[0], 0, 0, 0, 0, 1, 1, 1, 1) for layer in layers)


class ByProducts(Attention):
    """Attention written out: two products of activations, and a softmax between them."""

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        n, tokens, _ = x.shape
        q, k, v = (layer(x).reshape(n, tokens, self.num_heads, -1).transpose(1, 2) for layer in self.qkv)
        mixed = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2)
        return self.proj(mixed.reshape(n, tokens, -1)).transpose(1, 2).reshape(n, -1, 4, 4)


def test_products_keep_whole_heads():
    graph = analysed(ByProducts(heads=4, joint=False))
    layers = tuple(f"body.qkv.{i}" for i in range(3))
    assert groups(graph)[layers[0]] == (4, 2, layers, ())
    assert all(makes(graph, layer) == of(layers[0], 0, 0, 1, 1, 2, 2, 3, 3) for layer in layers)
    assert stays(graph)["stem"].startswith("the embedding that 'matmul' in body reads")


def test_the_embedding_that_an_attention_reads_stays():
    graph = analysed(Attention())
    assert set(groups(graph)) == {"body.qkv", "body.proj"}
    assert stays(graph)["stem"] == "the embedding that the attention in body reads"
    assert reads(graph, "body.qkv") == [None] * 8


# what is refused ----------------------------------------------------------------------------------------------------


class Image(nn.Module):
    """Adds what no layer makes to channels of ``a``; ``gate`` multiplies all of them by one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate = conv(8, 3), conv(8, 1)

    def forward(self, x):
        constant = torch.ones(1, 3, 4, 4)
        return torch.cat([self.a(x) + constant, x * self.gate(x)], 1)


def test_what_meets_a_tensor_of_no_layer_stays_and_so_does_one_channel_for_all():
    graph = analysed(Image(), 11)
    assert groups(graph) == {"stem": (8, 1, ("stem",), ())}
    reasons = stays(graph)
    assert "'add' in body with a tensor that no layer makes" in reasons["body.a"]
    assert "broadcast by 'mul' in body" in reasons["body.gate"]
    assert reads(graph, "head") == [None] * 3 + of("stem", *range(8))


class Padded(nn.Module):
    """Adds eight channels and eight zeros to the sixteen of ``a``, as the shortcuts of small ResNets do."""

    def __init__(self) -> None:
        super().__init__()
        self.a = conv(8, 16)

    def forward(self, x):
        return self.a(x) + nn.functional.pad(x, (0, 0, 0, 0, 0, 8))


def test_channels_that_meet_padding_stay():
    graph = analysed(Padded(), 16)
    assert groups(graph) == {"stem": (8, 1, ("stem", "body.a"), ())}
    assert makes(graph, "body.a") == reads(graph, "head") == of("stem", *range(8)) + [None] * 8


class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(8, 1), conv(1, 8)

    def forward(self, x):
        return self.b(self.a(x))


def test_one_channel_is_no_group():
    graph = analysed(Narrow())
    assert list(groups(graph)) == ["stem", "body.b"]
    assert stays(graph)["body.a"] == "its channels are one unit"


class TwoReasons(nn.Module):
    def forward(self, x):
        return x.roll(1, 1) + x.mean(1, keepdim=True)


def test_the_first_reason_is_told():
    assert stays(analysed(TwoReasons()))["stem"].startswith("'roll' along the channels in body")


class Crossed(nn.Module):
    """``b`` gives the second half of what ``stem`` gives first: no prefix of one is a prefix of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.b = conv()

    def forward(self, x):
        first, second = x.split([3, 5], 1)
        return torch.cat([second, first], 1) + self.b(x)


def test_layers_that_order_their_channels_differently_stay():
    graph = analysed(Crossed())
    assert groups(graph) == {}
    assert stays(graph)["stem"] == stays(graph)["body.b"] == "stem and body.b order its channels differently"


class Parts(nn.Module):
    """Reads its input in parts, each by a conv of its own."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes, self.convs = sizes, nn.ModuleList(conv(size, 4) for size in sizes)

    def forward(self, x):
        return sum(layer(part) for layer, part in zip(self.convs, x.split(self.sizes, 1), strict=True))


def test_a_group_is_split_where_readers_take_some_of_its_channels():
    graph = analysed(Parts(3, 5), 4)
    convs = ("body.convs.0", "body.convs.1")
    assert groups(graph) == {
        "stem": (3, 1, ("stem",), ()),
        "stem#2": (5, 1, ("stem",), ()),
        convs[0]: (4, 1, convs, ()),
    }
    assert makes(graph, "stem") == of("stem", *range(3)) + of("stem#2", *range(5))
    assert [reads(graph, layer) for layer in convs] == [of("stem", *range(3)), of("stem#2", *range(5))]
    assert graph.assumed == {"stem", "stem#2"}
    (sizes,) = graph.numbers["body"].values()
    assert [channels(graph, side) for side in sizes] == [of("stem", *range(3)), of("stem#2", *range(5))]


def test_a_group_in_many_parts_stays():
    four = analysed(Parts(2, 3, 2, 3), 4, stem=10)
    names = ["stem", "stem#2", "stem#3", "stem#4"]
    assert [group.units for group in four.groups if group.name in names] == [2, 3, 2, 3]
    five = analysed(Parts(2, 3, 2, 3, 2), 4, stem=12)
    assert list(groups(five)) == ["body.convs.0"]
    assert stays(five)["stem"] == "a reader takes some of its channels only"
    assert makes(five, "stem") == [None] * 12


def test_a_part_of_one_channel_has_no_width():
    graph = analysed(Parts(1, 7), 4)
    assert groups(graph)["stem"] == (7, 1, ("stem",), ())
    assert makes(graph, "stem") == [None, *of("stem", *range(7))]
    assert reads(graph, "body.convs.0") == [None]


# tensors and numbers that modules hold --------------------------------------------------------------------------------


class Scaled(nn.Module):
    """``scale`` by channel, in front of a conv; ``shape`` is that of the parameter."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, x):
        return x * self.scale


def test_a_tensor_that_a_module_holds_follows_the_channels_it_meets():
    for shape, dim in (((8, 1, 1), 0), ((1, 8, 4, 4), 1)):
        graph = analysed(Scaled(*shape))
        (found, side), *others = graph.held["body"].values()
        assert (found, others) == (dim, []) and channels(graph, side) == of("stem", *range(8))
        assert groups(graph) == {"stem": (8, 1, ("stem",), ())}


class Table(Scaled):
    """A matrix that is read as one line of channels: no row or column of it is one channel."""

    def forward(self, x):
        return x * self.scale.reshape(1, -1, 1, 1)


def test_a_tensor_that_lies_across_its_channels_holds_them():
    graph = analysed(Table(2, 4))
    assert groups(graph) == {} and graph.held == {}
    assert stays(graph)["stem"] == "a reader takes some of its channels only"
    assert groups(analysed(Table(1, 8))) == {"stem": (8, 1, ("stem",), ())}


class Reshapes(nn.Module):
    """``size`` is in the reshapes of two tensors: of one group, or of one each."""

    def __init__(self, alike: bool) -> None:
        super().__init__()
        self.size, self.alike = 6, alike
        self.a, self.b, self.c, self.d = conv(8, 6), conv(8, 6), conv(6, 8), conv(6, 8)

    def forward(self, x):
        a, b = (layer(x).view(-1, self.size, 4, 4) for layer in (self.a, self.b))
        return self.c(a + b if self.alike else a) + self.d(b)


def test_a_number_is_the_size_of_one_side_or_of_none():
    graph = analysed(Reshapes(alike=True))
    assert {module: list(names) for module, names in graph.numbers.items()} == {"body": ["size"]}
    assert channels(graph, graph.numbers["body"]["size"]) == of("body.a", *range(6))
    assert graph.assumed == {"body.a"}
    graph = analysed(Reshapes(alike=False))
    assert graph.numbers == {} and graph.assumed == {"body.a", "body.b"}


class Hooked(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a = conv(8, 6)
        self.b = conv(6, 8)
        getattr(self.b, f"register_{kind}")(lambda module, *args: None)

    def forward(self, x):
        return self.b(self.a(x))


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook"])
def test_a_layer_with_a_hook_stays_and_what_it_reads(kind):
    graph = analysed(Hooked(kind))
    assert list(groups(graph)) == ["stem"]
    assert stays(graph) == {"body.a": "read by body.b", "body.b": "it has a forward hook", "head": "the model's output"}
