"""Width groups of small networks written by hand: parameters and numbers that modules hold."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from handmade import Cases, Net, block
from torch import nn

CASES = Cases()
case = CASES.add
STEM = ("stem.0", 16, 1)


# tensors that modules hold --------------------------------------------------------------------------------------


class Scale(nn.Module):
    """Layer scale, its shape that of what it scales."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(shape) + 0.5)

    def forward(self, x):
        return x * self.gamma


class LayerScale(Net):
    def make(self):
        self.a, self.scale = block(16, 16), Scale(16, 1, 1)

    def body(self, x):
        return x + self.scale(self.a(x))


class ScaleByAView(Net):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gamma = nn.Conv2d(16, 12, 1), nn.Parameter(torch.rand(12) + 0.5)

        def forward(self, x):
            return self.conv(x).mul(self.gamma.exp().reshape(1, -1, 1, 1))

    def make(self):
        self.a, self.b = self.Scaled(), block(12, 16)

    def body(self, x):
        return self.b(self.a(x))


class ScaleOfTwoPieces(Net):
    """The channels of the scale come from two producers: two segments of one parameter."""

    def make(self):
        self.a, self.b, self.scale = block(16, 6), block(16, 10), Scale(1, 16, 1, 1)

    def body(self, x):
        return self.scale(torch.cat([self.a(x), self.b(x)], 1))


class ScaleOverSpace(Net):
    """A position embedding varies over space and channels: it follows the channels only."""

    def make(self):
        self.scale, self.a = Scale(16, 8, 8), block(16, 16)

    def body(self, x):
        return self.a(self.scale(x))


class SharedScale(Net):
    def make(self):
        self.a, self.b = block(16, 16), block(16, 16)
        self.scale = Scale(16, 1, 1)

    def body(self, x):
        return self.scale(self.b(self.scale(self.a(x))))


class ScaleOfTheModel(Net):
    """Nobody can be put in the place of the whole model."""

    def make(self):
        self.gamma, self.a = nn.Parameter(torch.rand(16, 1, 1) + 0.5), block(16, 16)

    def body(self, x):
        return self.a(x * self.gamma)


class BufferOfAModule(Net):
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.rand(1, 16, 1, 1))

        def forward(self, x):
            return x - self.mean

    def make(self):
        self.a, self.n = block(16, 16), self.Normalised()

    def body(self, x):
        return self.n(self.a(x))


class BufferWrittenTo(Net):
    class Tracks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(16))

        def forward(self, x):
            if self.training:
                self.seen.add_(x.detach().mean((0, 2, 3)))
            return x + self.seen.view(-1, 1, 1)

    def make(self):
        self.a, self.t = block(16, 16), self.Tracks()

    def body(self, x):
        return self.t(self.a(x))


class Slopes(Net):
    def make(self):
        self.a, self.b, self.many, self.one = nn.Conv2d(16, 12, 1), block(12, 16), nn.PReLU(12), nn.PReLU()

    def body(self, x):
        return self.one(self.b(self.many(self.a(x))))


class InstanceNorms(Net):
    def make(self):
        self.a, self.n = nn.Conv2d(16, 12, 1), nn.InstanceNorm2d(12, affine=True)
        self.b, self.m = nn.Conv2d(12, 16, 1), nn.InstanceNorm2d(16)

    def body(self, x):
        return self.m(self.b(self.n(self.a(x)).relu())).relu()


class Blur(Net):
    """A functional depthwise conv by a buffer, its number of groups an attribute."""

    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.channels = 16
            self.register_buffer("filters", torch.rand(16, 1, 3, 3))

        def forward(self, x):
            return F.conv2d(x, self.filters, stride=2, padding=1, groups=self.channels)

    def make(self):
        self.pool, self.a = self.Pool(), block(16, 16)

    def body(self, x):
        return self.a(self.pool(x))


case([STEM])(LayerScale)
case([STEM, ("a.conv", 12, 1), ("b.0", 16, 1)])(ScaleByAView)
case([STEM, ("a.0", 6, 1), ("b.0", 10, 1)])(ScaleOfTwoPieces)
case([STEM, ("a.0", 16, 1)])(ScaleOverSpace)
case([STEM, ("a.0", 16, 1)])(SharedScale)
case([("a.0", 16, 1)], {"stem.0": "put it into a module of its own"})(ScaleOfTheModel)
case([STEM, ("a.0", 16, 1)])(BufferOfAModule)
case([STEM], {"a.0": "in t with t.seen, which a forward pass changes"})(BufferWrittenTo)
case([STEM, ("a", 12, 1), ("b.0", 16, 1)])(Slopes)
case([STEM, ("a", 12, 1), ("b", 16, 1)])(InstanceNorms)
case([STEM, ("a.0", 16, 1)])(Blur)


# numbers that modules hold --------------------------------------------------------------------------------------


class Numbered(nn.Module):
    """A module whose forward uses its own number of channels."""

    channels = 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels


class ViewByAnAttribute(Net):
    class Excite(Numbered):
        def __init__(self) -> None:
            super().__init__(16)
            self.fc = nn.Linear(16, 16)

        def forward(self, x):
            return x * self.fc(x.mean((2, 3))).sigmoid().view(-1, self.channels, 1, 1)

    def make(self):
        self.se, self.a = self.Excite(), block(16, 16)

    def body(self, x):
        return self.a(self.se(x))


class ShuffleByAnAttribute(Net):
    class Shuffle(Numbered):
        def forward(self, x):
            n, _, h, w = x.shape
            return x.view(n, 2, self.channels // 2, h, w).transpose(1, 2).reshape(n, self.channels, h, w)

    def make(self):
        self.shuffle, self.a = self.Shuffle(16), block(16, 16)

    def body(self, x):
        return self.a(self.shuffle(x))


class PartialResidual(Net):
    """The first channels get the shortcut, how many is a number of the module."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_channels, self.conv = 16, nn.Conv2d(16, 24, 1)

        def forward(self, x):
            out = self.conv(x)
            return torch.cat([out[:, : self.in_channels] + x, out[:, self.in_channels :]], 1)

    def make(self):
        self.block = self.Block()

    def body(self, x):
        return self.block(x)


class UnequalSplitByAttributes(Net):
    """A partial convolution: a quarter of the channels is convolved, the rest passes."""

    class Partial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.some, self.rest, self.conv = 4, 12, nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            x, rest = torch.split(x, [self.some, self.rest], dim=1)
            return torch.cat([self.conv(x), rest], 1)

    def make(self):
        self.partial = self.Partial()

    def body(self, x):
        return self.partial(x)


class SplitByAList(Net):
    """Sizes in a list, in a forward that the module chose for itself."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.splits, self.convs = [6, 10], nn.ModuleList([nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(10, 8, 1)])
            self.forward = self.forward_in_parts

        def forward_in_parts(self, x):
            parts = torch.split(x, self.splits, 1)
            return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], 1)

    def make(self):
        self.mixed = self.Mixed()

    def body(self, x):
        return self.mixed(x)


class SplitByAnAttribute(Net):
    """Res2Net: as many parts as the width of one goes into the whole."""

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width, self.convs = 4, nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

        def forward(self, x):
            first, *parts = torch.split(x, self.width, 1)
            return torch.cat([first, *(conv(part) for conv, part in zip(self.convs, parts, strict=True))], 1)

    def make(self):
        self.split, self.a = self.Split(), block(16, 16)

    def body(self, x):
        return self.a(self.split(x))


class SameNumberOfTwoGroups(Net):
    """One attribute, two widths: it cannot follow both."""

    class Both(Numbered):
        def __init__(self) -> None:
            super().__init__(16)
            self.a, self.b = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)

        def forward(self, x):
            first, second = self.a(x), self.b(x)
            n, _, h, w = x.shape
            return first.view(n, self.channels, h, w) + self.a(second.view(n, self.channels, h, w).relu())

    def make(self):
        self.both = self.Both()

    def body(self, x):
        return self.both(x)


case([STEM, ("a.0", 16, 1)])(ViewByAnAttribute)
case([("stem.0", 8, 2), ("a.0", 16, 1)])(ShuffleByAnAttribute)
case([STEM, ("block.conv", 8, 1)], out=24)(PartialResidual)
case([("stem.0", 4, 1), ("stem.0#2", 12, 1), ("partial.conv", 4, 1)])(UnequalSplitByAttributes)
case([("stem.0", 6, 1), ("stem.0#2", 10, 1), ("mixed.convs.0", 6, 1), ("mixed.convs.1", 8, 1)], out=14)(SplitByAList)
case([("stem.0", 4, 4), *((f"split.convs.{i}", 4, 1) for i in range(3)), ("a.0", 16, 1)])(SplitByAnAttribute)


# slices, branches, products -------------------------------------------------------------------------------------


class Halves(Net):
    """A cross stage partial: both halves by slices of half the width."""

    def make(self):
        self.a = block(8, 8)

    def body(self, x):
        half = x.shape[1] // 2
        return torch.cat([self.a(x[:, :half]), x[:, half:]], 1)


class SelectiveKernels(Net):
    """Branches stacked, weighed against each other by a softmax over the branches, and summed."""

    def make(self):
        self.a, self.b, self.fc = block(16, 12), block(16, 12), nn.Conv2d(12, 24, 1)
        self.c = block(12, 16)

    def body(self, x):
        x = torch.stack([self.a(x), self.b(x)], 1)
        weights = self.fc(x.sum(1).mean((2, 3), keepdim=True))
        weights = weights.view(len(x), 2, -1, 1, 1).softmax(1)
        return self.c((x * weights).sum(1))


class GlobalContext(Net):
    """Channels pass through the left operand of a product; the one channel of the right one stays."""

    def make(self):
        self.where, self.a = nn.Conv2d(16, 1, 1), nn.Conv2d(16, 16, 1)

    def body(self, x):
        weights = self.where(x).flatten(2).softmax(-1).transpose(1, 2)
        return x + self.a((x.flatten(2) @ weights).unsqueeze(-1))


class GatedLinear(Net):
    def make(self):
        self.a, self.b = nn.Conv2d(16, 24, 1), block(12, 16)

    def body(self, x):
        return self.b(F.glu(self.a(x), 1))


case([("stem.0", 8, 2), ("a.0", 8, 1)])(Halves)
case([STEM, ("a.0", 12, 1), ("c.0", 16, 1)])(SelectiveKernels)
case([STEM], {"where": "broadcast by 'matmul'"})(GlobalContext)
case([STEM, ("a", 12, 2), ("b.0", 16, 1)])(GatedLinear)


@pytest.mark.parametrize("name", CASES)
def test_network(name):
    CASES.check(name)
