"""Width groups of small networks of every kind of layer: transposed convs, signals and clips, standardised weights,
convs along the channels, response norms."""

from __future__ import annotations

import pytest
import timm.layers as timm_layers
import torch
from handmade import Cases, Net, block
from mmpretrain.models.utils.norm import GRN
from timm.layers.grn import GlobalResponseNorm
from torch import nn

CASES = Cases()
case = CASES.add
STEM = ("stem.0", 16, 1)


# transposed convs -----------------------------------------------------------------------------------------------


class Up(Net):
    """Dense, then of three groups of 4 to 2 channels, then depthwise with two outputs each."""

    def make(self):
        self.a, self.norm = nn.ConvTranspose2d(16, 12, 2, 2), nn.BatchNorm2d(12)
        self.grouped = nn.ConvTranspose2d(12, 6, 3, padding=1, groups=3)
        self.deep = nn.ConvTranspose2d(6, 12, 2, 2, groups=6, bias=False)

    def body(self, x):
        return torch.relu(self.deep(torch.relu(self.grouped(torch.relu(self.norm(self.a(x)))))))


class UNet(Net):
    """The skip and the way up meet in a concat: a reader has the active channels of both."""

    def make(self):
        self.down, self.middle = block(16, 12), block(12, 20)
        self.up, self.join = nn.ConvTranspose2d(20, 12, 2, 2), block(24, 16)

    def body(self, x):
        skip = self.down(x)
        deep = self.middle(nn.functional.max_pool2d(skip, 2))
        return self.join(torch.cat([skip, self.up(deep)], 1)) + x


class UpByAFunction(Net):
    """Who makes the call does not matter, only whose weight it is."""

    def make(self):
        self.a = nn.ConvTranspose2d(16, 12, 2, 2, bias=False)

    def body(self, x):
        return torch.relu(nn.functional.conv_transpose2d(x, self.a.weight, stride=2))


case([STEM, ("a", 3, 4)], out=12)(Up)
case([STEM, ("down.0", 12, 1), ("middle.0", 20, 1), ("up", 12, 1)])(UNet)
case([STEM, ("a", 12, 1)], out=12)(UpByAFunction)


# signals and clips ----------------------------------------------------------------------------------------------


class Signal(Net):
    def make(self):
        self.a, self.norm = nn.Conv1d(16, 12, 3, padding=1), nn.BatchNorm1d(12)
        self.deep, self.other = nn.Conv1d(12, 12, 3, padding=1, groups=12), nn.InstanceNorm1d(12, affine=True)
        self.up = nn.ConvTranspose1d(12, 8, 2, 2)

    def body(self, x):
        x = torch.relu(self.norm(self.a(x.flatten(2))))
        x = nn.functional.avg_pool1d(torch.relu(self.other(self.deep(x))), 2)
        return torch.relu(self.up(x)).unflatten(2, (8, 8))


class Clip(Net):
    def make(self):
        self.a, self.norm = nn.Conv3d(16, 12, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(12)
        self.grouped, self.other = nn.Conv3d(12, 6, 1, groups=3), nn.InstanceNorm3d(6)
        self.up = nn.ConvTranspose3d(6, 8, (1, 2, 2), (1, 2, 2))

    def body(self, x):
        x = torch.relu(self.norm(self.a(x.unsqueeze(2))))
        x = nn.functional.max_pool3d(torch.relu(self.other(self.grouped(x))), (1, 2, 2))
        return torch.relu(self.up(x)).squeeze(2)


case([STEM, ("a", 12, 1), ("up", 8, 1)], out=8)(Signal)
case([STEM, ("a", 3, 4), ("up", 8, 1)], out=8)(Clip)


# weights that are computed --------------------------------------------------------------------------------------


class Standardised(Net):
    def make(self):
        self.a, self.b = timm_layers.StdConv2d(16, 12, 3), timm_layers.StdConv2dSame(12, 12, 3, 2, bias=True)

    def body(self, x):
        return torch.relu(self.b(torch.relu(self.a(x))))


class Scaled(Net):
    """Dense, grouped and depthwise."""

    def make(self):
        self.a, self.b = timm_layers.ScaledStdConv2d(16, 12, 3), timm_layers.ScaledStdConv2dSame(12, 6, 3, groups=3)
        self.deep = timm_layers.ScaledStdConv2d(6, 6, 3, groups=6, gamma=1.7)

    def body(self, x):
        return torch.relu(self.deep(torch.relu(self.b(torch.relu(self.a(x))))))


class ReadFromOutside(Net):
    """A weight that another module reads is not what the layer's own forward makes of it."""

    def make(self):
        self.a, self.b = timm_layers.StdConv2d(16, 12, 3), nn.Conv2d(12, 10, 1)

    def body(self, x):
        return torch.relu(self.b(torch.relu(self.a(x)))) + self.a.weight.mean()


class CalledFromOutside(Net):
    """What the layer's forward would make of its weight is not made here."""

    def make(self):
        self.a = timm_layers.StdConv2d(16, 12, 3)

    def body(self, x):
        return torch.relu(nn.functional.conv2d(x, self.a.weight, padding=1))


case([], {"stem.0": "read by a", "a": "another op takes its place"}, out=12)(CalledFromOutside)
case([STEM, ("a", 12, 1), ("b", 12, 1)], out=12)(Standardised)
case([STEM, ("a", 3, 4)], out=6)(Scaled)
case([("b", 10, 1)], {"a": "also read by 'mean'"}, out=10)(ReadFromOutside)


# along the channels ---------------------------------------------------------------------------------------------


class Eca(Net):
    def make(self):
        self.a, self.gate = block(16, 12), timm_layers.EcaModule(12)

    def body(self, x):
        return self.gate(self.a(x))


class EcaByHand(Net):
    """As its authors write it, with a bias, behind a concat: the neighbours are the next active ones."""

    def make(self):
        self.a, self.b = block(16, 6), block(16, 10)
        self.conv = nn.Conv1d(1, 1, 5, padding=2)

    def body(self, x):
        x = torch.cat([self.a(x), self.b(x)], 1)
        y = self.conv(x.mean((2, 3), keepdim=True).squeeze(-1).transpose(-1, -2))
        return x * torch.sigmoid(y.transpose(-1, -2).unsqueeze(-1))


class EcaShorter(Net):
    """Without padding there are fewer outputs than channels: nobody's."""

    def make(self):
        self.a, self.conv, self.fc = block(16, 12), nn.Conv1d(1, 1, 3), nn.Linear(10, 12)

    def body(self, x):
        x = self.a(x)
        return x * self.fc(self.conv(x.mean((2, 3))[:, None])[:, 0]).sigmoid()[:, :, None, None]


class ResponseNorm(Net):
    def make(self):
        self.a, self.first = block(16, 12), GlobalResponseNorm(12, channels_last=False)
        self.b, self.last, self.other = nn.Linear(12, 10), GlobalResponseNorm(10), GRN(10)

    def body(self, x):
        x = self.first(self.a(x)).permute(0, 2, 3, 1)
        x = self.other(self.last(nn.functional.gelu(self.b(x))), data_format="channel_last")
        return x.permute(0, 3, 1, 2)


class RootMeanSquare(Net):
    def make(self):
        self.a, self.norm, self.b = nn.Linear(16, 12), nn.RMSNorm(12), nn.Linear(12, 10)

    def body(self, x):
        x = nn.functional.gelu(self.norm(self.a(x.permute(0, 2, 3, 1))))
        return self.b(x).permute(0, 3, 1, 2)


class MeanOfChannels(Net):
    """The same line outside of a norm that is known stays as it is."""

    def make(self):
        self.a = block(16, 12)

    def body(self, x):
        x = self.a(x)
        return x / (x.mean(1, keepdim=True) + 1)


case([STEM, ("a.0", 12, 1)], out=12)(Eca)
case([STEM, ("a.0", 6, 1), ("b.0", 10, 1)])(EcaByHand)
case([STEM], {"a.0": "read by conv", "conv": "its input has its channels elsewhere"}, out=12)(EcaShorter)
case([STEM, ("a.0", 12, 1), ("b", 10, 1)], out=10)(ResponseNorm)
case([STEM, ("a", 12, 1), ("b", 10, 1)], out=10)(RootMeanSquare)
case([STEM], {"a.0": "'mean' over the channels"}, out=12)(MeanOfChannels)


@pytest.mark.parametrize("name", CASES)
def test_network(name):
    CASES.check(name)
