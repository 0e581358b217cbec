"""Width groups of small networks written by hand: layers that agree, grouped convs, weights read elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from handmade import Cases, Net, block
from torch import nn

CASES = Cases()
case = CASES.add
STEM = ("stem.0", 16, 1)


# adding, concatenating, reading twice ---------------------------------------------------------------------------


class Residual(Net):
    def make(self):
        self.a, self.b = block(16, 12), nn.Conv2d(12, 16, 1)

    def body(self, x):
        return x + self.b(self.a(x))


class ConcatThenAdd(Net):
    """The sum ties the third conv to both others: one width each, and its own channels in two segments."""

    def make(self):
        self.a, self.b, self.c = block(16, 6), block(16, 10), block(16, 16)

    def body(self, x):
        return torch.cat([self.a(x), self.b(x)], 1) + self.c(x)


class ConcatThenNorm(Net):
    def make(self):
        self.a, self.norm = block(16, 6), nn.BatchNorm2d(22)

    def body(self, x):
        return F.relu(self.norm(torch.cat([self.a(x), x], 1)))


class SharedModule(Net):
    def make(self):
        self.a = block(16, 16)

    def body(self, x):
        return self.a(self.a(x))


class SharedModuleOfTwoProducers(Net):
    def make(self):
        self.a, self.b, self.c = block(16, 12), block(16, 12), nn.Conv2d(12, 16, 1)

    def body(self, x):
        return torch.cat([self.c(self.a(x)), self.c(self.b(x))], 1)


class OneModuleUnderTwoNames(Net):
    def make(self):
        self.a = block(16, 16)
        self.b, self.c = self.a, block(16, 16)

    def body(self, x):
        return self.c(self.b(x))


class SharedNorm(Net):
    def make(self):
        self.a, self.b, self.norm = nn.Conv2d(16, 12, 1), nn.Conv2d(16, 12, 1), nn.BatchNorm2d(12)

    def body(self, x):
        return self.norm(self.a(x)) * self.norm(self.b(x))


class PlainListOfLayers(Net):
    def make(self):
        self.a, self.b = block(16, 12), block(12, 16)
        self.both = [self.a, self.b]

    def body(self, x):
        for layer in self.both:
            x = layer(x)
        return x


class AddOfTheImage(Net):
    def make(self):
        self.a, self.b = block(16, 3), block(3, 16)

    def forward(self, x):
        return self.head(self.b(x + self.a(self.stem(x)))).mean((2, 3))


case([STEM, ("a.0", 12, 1)])(Residual)
case([STEM, ("a.0", 6, 1), ("b.0", 10, 1)])(ConcatThenAdd)
case([STEM, ("a.0", 6, 1)], out=22)(ConcatThenNorm)
case([STEM])(SharedModule)
case([STEM, ("a.0", 12, 1), ("c", 16, 1)], out=32)(SharedModuleOfTwoProducers)
case([STEM, ("a.0", 16, 1), ("c.0", 16, 1)])(OneModuleUnderTwoNames)
case([STEM, ("a", 12, 1)], out=12)(SharedNorm)
case([STEM, ("a.0", 12, 1), ("b.0", 16, 1)])(PlainListOfLayers)
case([STEM, ("b.0", 16, 1)], {"a.0": "no layer makes"})(AddOfTheImage)


# grouped convs --------------------------------------------------------------------------------------------------


class OneChannel(Net):
    """A conv that reads one channel is no depthwise conv."""

    def make(self):
        self.a, self.b = nn.Conv2d(16, 1, 1), nn.Conv2d(1, 16, 3, padding=1, groups=1)

    def body(self, x):
        return self.b(self.a(x))


class OneChannelGate(Net):
    def make(self):
        self.a = nn.Conv2d(16, 1, 1)

    def body(self, x):
        return x * torch.sigmoid(self.a(x))


class DepthwiseMultiplier(Net):
    def make(self):
        self.a, self.norm = nn.Conv2d(16, 32, 3, padding=1, groups=16), nn.BatchNorm2d(32)

    def body(self, x):
        return self.norm(self.a(x))


class DepthwiseOfTheImage(Net):
    def make(self):
        self.a = nn.Conv2d(3, 6, 3, padding=1, groups=3)

    def forward(self, x):
        return self.head(self.a(x)).mean((2, 3))


class GroupConv(Net):
    def make(self):
        self.a, self.norm = nn.Conv2d(16, 24, 3, padding=1, groups=4), nn.BatchNorm2d(24)

    def body(self, x):
        return self.norm(self.a(x))


class GroupConvOnConcat(Net):
    def make(self):
        self.a, self.g = block(16, 24), nn.Conv2d(40, 40, 3, padding=1, groups=8)

    def body(self, x):
        return self.g(torch.cat([x, self.a(x)], 1))


class TwoGroupings(Net):
    def make(self):
        self.g = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.h = nn.Conv2d(16, 16, 3, padding=1, groups=2)

    def body(self, x):
        return x + self.h(self.g(x))


class GroupConvThenShuffle(Net):
    def make(self):
        self.g = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.h = nn.Conv2d(16, 16, 3, padding=1, groups=4)

    def body(self, x):
        n, c, h, w = self.g(x).shape
        return self.h(self.g(x).view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w))


case([STEM, ("b", 16, 1)], {"a": "one unit"})(OneChannel)
case([STEM], {"a": "broadcast"})(OneChannelGate)
case([STEM], out=32)(DepthwiseMultiplier)
case([], {"stem.0": "neither eval nor train"}, out=6)(DepthwiseOfTheImage)
case([("stem.0", 4, 4)], out=24)(GroupConv)
case([("stem.0", 3, 5), ("a.0", 4, 5)], out=40)(GroupConvOnConcat)
case([("stem.0", 2, 8)])(TwoGroupings)
case([], {"g": "one unit", "stem.0": "one unit"})(GroupConvThenShuffle)


# weights that other code reads ----------------------------------------------------------------------------------


class TiedParameter(Net):
    def make(self):
        self.a, self.b = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.b.weight = self.a.weight

    def body(self, x):
        return self.b(self.a(x).relu())


class FunctionalConv(Net):
    def make(self):
        self.weight = nn.Parameter(torch.randn(16, 16, 1, 1))

    def body(self, x):
        return F.conv2d(x, self.weight)


class WeightReadByAnotherConv(Net):
    """Who asks a layer for its weight gets the active part of it, a functional conv too."""

    def make(self):
        self.d = nn.Conv2d(16, 16, 1)

    def forward(self, x):
        again = self.d(F.conv2d(x, self.stem[0].weight, padding=1))
        return (self.head(self.stem(x)) + self.head(again)).mean((2, 3))


class WeightInTheOutput(Net):
    def body(self, x):
        return x * self.stem[0].weight.pow(2).mean()


class BiasRead(Net):
    def make(self):
        self.a = nn.Conv2d(16, 16, 1)

    def body(self, x):
        return self.a(x) * self.a.bias.sum()


class CentredConv(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias, padding=1)


class StandardisedConv(nn.Conv2d):
    """Without a bias, no tensor of its own reaches its conv."""

    def forward(self, x):
        return F.conv2d(x, self.weight / self.weight.std((1, 2, 3), keepdim=True), padding=1)


class WeightStandardisation(Net):
    def make(self):
        self.a, self.b = StandardisedConv(16, 16, 3, bias=False), block(16, 16)

    def body(self, x):
        return self.b(self.a(x))


class Subclass(Net):
    def make(self):
        self.a, self.b = CentredConv(16, 16, 3), block(16, 16)

    def body(self, x):
        return self.b(self.a(x))


class WeightNorm(Net):
    def make(self):
        self.a = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 1))
        self.b = block(16, 16)

    def body(self, x):
        return self.b(self.a(x))


class HookThatChangesTheOutput(Net):
    def make(self):
        self.a = nn.Conv2d(16, 16, 1)
        self.a.register_forward_hook(lambda module, args, out: out * 2)

    def body(self, x):
        return self.a(x)


class ChannelBuffer(Net):
    def make(self):
        self.register_buffer("scale", torch.rand(1, 16, 1, 1) + 0.5)

    def body(self, x):
        return x * self.scale


class IndexBuffer(Net):
    def make(self):
        self.register_buffer("order", torch.randperm(16))

    def body(self, x):
        return x[:, self.order]


class FunctionalNorm(Net):
    def make(self):
        self.n = nn.BatchNorm2d(16)

    def body(self, x):
        n = self.n
        return F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, self.training)


case([], {"stem.0": "functional conv2d", "a": "share a parameter"})(TiedParameter)
case([], {"stem.0": "read by"})(FunctionalConv)
case([STEM])(WeightReadByAnotherConv)
case([], {"stem.0": "also read by 'pow'"})(WeightInTheOutput)
case([], {"a": "also read by 'sum'"})(BiasRead)
case([("b.0", 16, 1)], {"a": "computed of its weight first", "stem.0": "functional conv2d in a"})(WeightStandardisation)
case([("b.0", 16, 1)], {"a": "a weight of a is also read by"})(Subclass)
case([("b.0", 16, 1)], {"a": "ParametrizedConv2d"})(WeightNorm)
case([], {"a": "forward hook"})(HookThatChangesTheOutput)
case([], {"stem.0": "scale, which the model itself holds"})(ChannelBuffer)
case([], {"stem.0": "indexed along the channels"})(IndexBuffer)
case([], {"stem.0": "the check of a small subnet failed"})(FunctionalNorm)


@pytest.mark.parametrize("name", CASES)
def test_network(name):
    CASES.check(name)
