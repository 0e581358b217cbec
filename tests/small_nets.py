"""Small networks of every origin: what slimming must take."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv(channels: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two blocks with a stream, and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.block1 = nn.Sequential(conv(16, 24), nn.Conv2d(24, 16, 3, 1, 1))
        self.block2 = nn.Sequential(conv(16, 24), nn.Conv2d(24, 16, 3, 1, 1))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.block1(x))
        x = torch.relu(x + self.block2(x))
        return self.head(x.mean((2, 3)))


class UNet(nn.Module):
    """Skips are concatenated; the output is a map."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = conv(3, 16), conv(16, 32, 2)
        self.middle = conv(32, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.merge = conv(32, 16)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.middle(self.down2(a))
        return self.out(self.merge(torch.cat([a, self.up(b)], 1)))


class TwoHeads(nn.Module):
    """A trunk with a classifier and a regression, given as a dict; no norm anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 24, 1)
        )
        self.classes, self.box = nn.Linear(24, 5), nn.Sequential(nn.Linear(24, 16), nn.GELU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.trunk(x).relu().mean((2, 3))
        return {"classes": self.classes(features), "box": self.box(features)}


class TwoOutputs(nn.Module):
    """Maps of two depths, given as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 16), conv(16, 24, 2)
        self.small, self.large = nn.Conv2d(24, 3, 1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        return self.large(x), self.small(self.second(x))


class Tokens(nn.Module):
    """One block of attention over patches, layer norms, no conv behind the first."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.mlp(self.norm2(x))).mean(1))


NETS = {cls.__name__: cls for cls in (Residual, UNet, TwoHeads, TwoOutputs, Tokens)}


def build(name: str) -> nn.Module:
    """The network, with weights and statistics as of a training."""
    torch.manual_seed(0)
    network = NETS[name]().train()
    with torch.no_grad():
        for _ in range(3):
            network(images(32))
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.3, 0.3)
    return network


def images(count: int = 80, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
