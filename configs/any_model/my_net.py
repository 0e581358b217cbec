"""A hand-written network for images of 32 x 32: a residual, a concat, a grouped conv, and a layer of its own kind.

Nothing in it knows of mmrazor_lite. Configs name it by its import path, ``configs.any_model.my_net.MyNet``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Conv, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """A bottleneck with a grouped conv in the middle, added to its input."""

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        self.reduce = conv_norm(channels, channels, 1)
        self.grouped = conv_norm(channels, channels, 3, groups=groups)
        self.expand = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.expand(self.grouped(self.reduce(x))))


class Fork(nn.Module):
    """Halves the image and doubles the channels: a strided conv beside a pool and a 1x1 conv, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_norm(channels, channels, 3, stride=2)
        self.pooled = conv_norm(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x), self.pooled(F.max_pool2d(x, 2))], 1)


class StandardisedConv(nn.Conv2d):
    """A conv whose weight has mean 0 and variance 1 per output; with fewer inputs it would be another function."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (self.weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return self._conv_forward(x, weight, self.bias)


class MyNet(nn.Module):
    """Logits (N, num_classes) of images (N, 3, H, W)."""

    def __init__(self, width: int = 16, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_norm(3, width)
        self.down = conv_norm(width, 2 * width, stride=2)
        self.stage1 = Residual(2 * width)
        self.fork = Fork(2 * width)
        self.stage2 = Residual(4 * width)
        self.fork2 = Fork(4 * width)
        self.stage3 = Residual(8 * width)
        self.mix = StandardisedConv(8 * width, 8 * width, 1)
        self.norm = nn.BatchNorm2d(8 * width)
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(self.down(self.stem(x)))
        x = self.stage3(self.fork2(self.stage2(self.fork(x))))
        x = F.relu(self.norm(self.mix(x)))
        return self.fc(x.mean((2, 3)))
