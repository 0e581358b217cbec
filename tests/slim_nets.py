"""Small networks whose files must come back: one for each thing that follows a width."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    """A stream, a branch, and a depthwise conv."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem, self.branch = block(3, width), block(width, 2 * width)
        self.deep = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.back, self.fc = nn.Conv2d(2 * width, width, 1), nn.Linear(width, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.back(self.deep(self.branch(x)))
        return self.fc(x.mean((2, 3)))


class UNet(nn.Module):
    """A skip that is joined by a concat; its output is an image."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.low, self.up = block(3, 8), block(8, 16), block(24, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        skip = self.down(x)
        low = self.low(F.max_pool2d(skip, 2))
        return self.out(self.up(torch.cat([skip, F.interpolate(low, scale_factor=2)], 1)))


class TwoHeads(nn.Module):
    """Class scores and a box, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.neck = block(3, 16), block(16, 16)
        self.cls, self.box = nn.Linear(16, 6), nn.Linear(16, 4)

    def forward(self, x):
        x = self.neck(self.body(x)).mean((2, 3))
        return {"scores": self.cls(x), "box": self.box(x)}


class Attention(nn.Module):
    """Heads are counted by a number of the module, and the projections are split by one."""

    def __init__(self, dim: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.patch, self.num_heads = nn.Conv2d(3, dim, 4, 4), heads
        self.head_dim = dim // heads
        self.norm, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp, self.fc = nn.Sequential(nn.Linear(dim, 32), nn.GELU(), nn.Linear(32, dim)), nn.Linear(dim, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        n, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, -1)
        x = x + self.proj(y)
        x = x + self.mlp(x)
        return self.fc(x.mean(1))


class Split(nn.Module):
    """A number of the module says how a map is split, and a buffer that is not saved scales its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.half = block(3, 16), 8
        self.a, self.b, self.fc = block(8, 8), block(8, 12), nn.Linear(20, 4)
        self.register_buffer("scale", torch.linspace(0.5, 2, 12), persistent=False)

    def forward(self, x):
        left, right = self.stem(x).split([self.half, self.half], 1)
        right = self.b(right) * self.scale[:, None, None]
        return self.fc(torch.cat([self.a(left), right], 1).mean((2, 3)))


class Grouped(nn.Module):
    """A grouped conv, a group norm, squeeze and excitation, a transposed conv, and maps that are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped, self.norm = nn.Conv2d(3, 24, 3), nn.Conv2d(24, 48, 3, groups=4), nn.GroupNorm(4, 48)
        self.squeeze, self.excite = nn.Conv2d(48, 12, 1), nn.Conv2d(12, 48, 1)
        self.up, self.fc = nn.ConvTranspose2d(48, 16, 2, 2), nn.Linear(16, 5)

    def forward(self, x):
        x = self.norm(self.grouped(self.stem(x))).relu_()
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.fc(F.layer_norm(self.up(x).mean((2, 3)), (16,)))


NETWORKS = {net.__name__: net for net in (Residual, UNet, TwoHeads, Attention, Split)}
