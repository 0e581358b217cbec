"""Width groups of small networks written by hand: channels cut, moved, normalised, multiplied, given out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from handmade import Cases, Net, block
from torch import nn

CASES = Cases()
case = CASES.add
STEM = ("stem.0", 16, 1)


# cutting and moving channels ------------------------------------------------------------------------------------


class Slices(Net):
    def body(self, x):
        return x[:, :8] * x[:, 8:]


class ChunkAndConcat(Net):
    def make(self):
        self.a = block(8, 8)

    def body(self, x):
        left, right = x.chunk(2, 1)
        return torch.cat([left, self.a(right)], 1)


class ChunkInThree(Net):
    def make(self):
        self.pre, self.a = block(16, 15), block(5, 5)

    def body(self, x):
        first, second, third = self.pre(x).chunk(3, 1)
        return torch.cat([self.a(third), first, second], 1)


class UnequalSplit(Net):
    def make(self):
        self.a = block(12, 12)

    def body(self, x):
        left, right = x.split([4, 12], 1)
        return torch.cat([left, self.a(right)], 1)


class SplitByANumber(Net):
    """The graph cannot tell 8 from half; the smallest subnet can."""

    def body(self, x):
        left, right = x.split(8, 1)
        return torch.cat([right, left], 1)


class Shuffle(Net):
    def make(self):
        self.a = block(16, 16)

    def body(self, x):
        n, c, h, w = x.shape
        return self.a(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


class ShuffleByNumbers(Net):
    def make(self):
        self.a = block(16, 16)

    def body(self, x):
        return self.a(x.view(-1, 2, 8, 8, 8).transpose(1, 2).reshape(-1, 16, 8, 8))


class FlattenLinear(Net):
    def make(self):
        self.a, self.norm, self.b = nn.Linear(1024, 20), nn.BatchNorm1d(20), nn.Linear(20, 5)

    def forward(self, x):
        return self.b(self.norm(self.a(self.stem(x).flatten(1))).relu())


class ViewByNumbers(Net):
    def make(self):
        self.a, self.b = nn.Linear(1024, 20), nn.Linear(20, 5)

    def forward(self, x):
        return self.b(self.a(self.stem(x).view(-1, 1024)).relu())


class DividedByTheWidth(Net):
    """The width is a number in the graph: only the comparison with the masked full network shows it."""

    def make(self):
        self.a, self.b = block(16, 12), block(12, 16)

    def body(self, x):
        x = self.a(x)
        return self.b(x / x.shape[1])


class PaddingShortcut(Net):
    """Option A of the CIFAR ResNets: the padded channels stay."""

    def make(self):
        self.a, self.norm = nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32)

    def body(self, x):
        return F.relu(self.norm(self.a(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)))


class ConcatWithZeros(Net):
    def make(self):
        self.a = nn.Conv2d(16, 32, 3, 2, 1)

    def body(self, x):
        short = x[:, :, ::2, ::2]
        return self.a(x) + torch.cat([short, torch.zeros_like(short)], 1)


class FlipAndRoll(Net):
    def make(self):
        self.a = block(16, 16)

    def body(self, x):
        return self.a(x.flip(3) + x.roll(1, 2)).flip(1)


class Written(Net):
    def make(self):
        self.a = block(16, 16)

    def body(self, x):
        y = torch.zeros_like(x)
        y[:, :8] = self.a(x)[:, 8:]
        return y


class SqueezeExcite(Net):
    def make(self):
        self.a, self.b = nn.Linear(16, 20), nn.Linear(20, 16)

    def body(self, x):
        n, c = x.shape[:2]
        gate = self.b(self.a(F.adaptive_avg_pool2d(x, 1).view(n, c)).relu())
        return x * torch.sigmoid(gate).view(n, c, 1, 1)


class ConvAlongTheChannels(Net):
    """Efficient channel attention: its 1-d conv mixes neighbouring channels."""

    def make(self):
        self.a = nn.Conv1d(1, 1, 3, padding=1)

    def body(self, x):
        return x * torch.sigmoid(self.a(x.mean((2, 3)).unsqueeze(1))).transpose(1, 2).unsqueeze(-1)


case([], {"stem.0": "the check of a small subnet failed"}, out=8)(Slices)
case([("stem.0", 8, 2), ("a.0", 8, 1)])(ChunkAndConcat)
case([STEM, ("pre.0", 5, 3), ("a.0", 5, 1)], out=15)(ChunkInThree)
case([("a.0", 12, 1)], {"stem.0": "the check of a small subnet failed"})(UnequalSplit)
case([], {"stem.0": "the check of a small subnet failed"})(SplitByANumber)
case([("stem.0", 8, 2), ("a.0", 16, 1)])(Shuffle)
case([("a.0", 16, 1)], {"stem.0": "the check of a small subnet failed"})(ShuffleByNumbers)
case([STEM, ("a", 20, 1)])(FlattenLinear)
case([("a", 20, 1)], {"stem.0": "the check of a small subnet failed"})(ViewByNumbers)
case([STEM, ("b.0", 16, 1)], {"a.0": "the check of a small subnet failed"})(DividedByTheWidth)
case([STEM], out=32)(PaddingShortcut)
case([STEM], out=32)(ConcatWithZeros)
case([STEM], {"a.0": "'flip' along the channels"})(FlipAndRoll)
case([], {"stem.0": "'copy' in the model"})(Written)
case([STEM, ("a", 20, 1)])(SqueezeExcite)
case([STEM])(ConvAlongTheChannels)


# norms, products, outputs ---------------------------------------------------------------------------------------


class LayerNormLast(Net):
    def make(self):
        self.a, self.norm, self.b = nn.Linear(16, 20), nn.LayerNorm(20), nn.Linear(20, 16)

    def body(self, x):
        return self.b(F.gelu(self.norm(self.a(x.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)


class LayerNormOnConcat(Net):
    def make(self):
        self.a, self.b, self.norm = nn.Linear(16, 6), nn.Linear(16, 10), nn.LayerNorm(16)

    def body(self, x):
        x = x.permute(0, 2, 3, 1)
        return self.norm(torch.cat([self.a(x), self.b(x)], -1)).permute(0, 3, 1, 2)


class LayerNormOverSpace(Net):
    def make(self):
        self.norm = nn.LayerNorm([16, 8, 8])

    def body(self, x):
        return self.norm(x)


class GroupNorms(Net):
    def make(self):
        self.n, self.a, self.m, self.b = nn.GroupNorm(4, 16), nn.Conv2d(16, 12, 1), nn.GroupNorm(1, 12), block(12, 16)

    def body(self, x):
        return self.b(self.m(self.a(self.n(x).relu())))


class Products(Net):
    def make(self):
        self.a = nn.Linear(256, 5)

    def forward(self, x):
        x = self.stem(x).flatten(2)
        return self.a((x @ x.transpose(1, 2)).flatten(1))


class SoftmaxOverChannels(Net):
    def make(self):
        self.a = block(16, 16)

    def body(self, x):
        return self.a(x * x.flatten(2).softmax(-1).view_as(x) * 64).softmax(1)


class MeanOverChannels(Net):
    def body(self, x):
        return x - x.mean(1, keepdim=True)


class TupleOutput(Net):
    def make(self):
        self.b = block(16, 12)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x), self.b(x)


class DictOutput(Net):
    def make(self):
        self.b, self.c = block(16, 12), nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        return {"logits": self.head(x), "rest": [self.c(self.b(x))]}


class Dropouts(Net):
    def make(self):
        self.first, self.a, self.second = nn.Dropout2d(0.3), block(16, 16), nn.Dropout(0.3)

    def body(self, x):
        return self.second(self.a(self.first(x)))


class OnlyInTraining(Net):
    """An auxiliary head ties two convs in train mode only; their widths agree in both modes."""

    def make(self):
        self.a, self.b, self.aux = block(16, 12), block(16, 12), nn.Conv2d(12, 3, 1)
        self.c = nn.Conv2d(12, 16, 1)

    def forward(self, x):
        x = self.stem(x)
        out = self.head(self.c(self.a(x))).mean((2, 3))
        return (out, self.aux(self.a(x) + self.b(x))) if self.training else out


class NeverReached(Net):
    def make(self):
        self.spare = block(16, 16)

    def body(self, x):
        return x


case([STEM, ("a", 20, 1), ("b", 16, 1)])(LayerNormLast)
case([STEM, ("a", 6, 1), ("b", 10, 1)])(LayerNormOnConcat)
case([], {"stem.0": "more than the channels"})(LayerNormOverSpace)
case([("stem.0", 4, 4), ("a", 12, 1), ("b.0", 16, 1)])(GroupNorms)
case([], {"stem.0": "the check of a small subnet failed"})(Products)
case([STEM], {"a.0": "'softmax' over the channels"})(SoftmaxOverChannels)
case([], {"stem.0": "'mean' over the channels"})(MeanOverChannels)
case([STEM], {"head": "output", "b.0": "output"})(TupleOutput)
case([STEM, ("b.0", 12, 1)], {"head": "output", "c": "output"})(DictOutput)
case([STEM, ("a.0", 16, 1)])(Dropouts)
case([STEM, ("a.0", 12, 1), ("c", 16, 1)])(OnlyInTraining)
case([STEM], {"spare.0": "neither eval nor train"})(NeverReached)


@pytest.mark.parametrize("name", CASES)
def test_network(name):
    CASES.check(name)
