"""Width groups of small networks written by hand: attention, and layers with a forward of their own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from handmade import Cases, Net, block
from torch import nn

CASES = Cases()
case = CASES.add
STEM = ("stem.0", 16, 1)


# attention ------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self-attention as timm and mmpretrain write it: the number of heads is an attribute."""

    fused = True

    def __init__(self, dim: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, dim // heads, dim
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.randn(64, heads))
        self.register_buffer("index", torch.arange(64).view(8, 8) % 5)

    def position_bias(self):
        return 0

    def forward(self, x):
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * self.head_dim**-0.5 @ k.transpose(-2, -1) + self.position_bias()).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(n, tokens, self.attn_dim))


class WithPositionBias(Attention):
    fused = False

    def position_bias(self):
        return self.bias[self.index.repeat(8, 8).view(-1)].view(64, 64, -1).permute(2, 0, 1).unsqueeze(0)


class WidthOfAHeadFromTheEmbedding(Attention):
    def forward(self, x):
        n, tokens, dim = x.shape
        shape = n, tokens, 3, self.num_heads, dim // self.num_heads
        q, k, v = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, dim))


class ByEinsum(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, self.head_dim).unbind(2)
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k).softmax(-1)
        return self.proj(torch.einsum("nhqk,nkhd->nqhd", weights, v).flatten(2))


class Transformer(Net):
    attention: type[nn.Module] = Attention

    def make(self):
        self.norm, self.attn = nn.LayerNorm(16), self.attention()
        self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))

    def body(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(self.norm(tokens))
        tokens = tokens + self.mlp(tokens)
        return tokens.transpose(1, 2).view(x.shape)


class WithABias(Transformer):
    attention = WithPositionBias


class HeadsFixed(Transformer):
    attention = WidthOfAHeadFromTheEmbedding


class Einsum(Transformer):
    attention = ByEinsum


class TorchAttention(Transformer):
    class attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mha = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x):
            return self.mha(x, x, x, need_weights=False)[0]


HEADS = ("attn.qkv", 4, 12)
STAYS = {"stem.0": "the embedding", "attn.proj": "the embedding"}
case([HEADS, ("mlp.1", 24, 1)], STAYS)(Transformer)
case([HEADS, ("mlp.1", 24, 1)], STAYS)(WithABias)
case([HEADS, ("mlp.1", 24, 1)], STAYS)(Einsum)
case([("mlp.1", 24, 1)], {"attn.qkv": "the check of a small subnet failed"})(HeadsFixed)
case([("mlp.1", 24, 1)], {"stem.0": "MultiheadAttention"})(TorchAttention)


# subclasses -----------------------------------------------------------------------------------------------------


class NormAct(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act, self.slopes = nn.ReLU(), nn.PReLU(channels)

    def forward(self, x):
        mean, var = (None, None) if self.training and not self.track_running_stats else self._statistics()
        x = F.batch_norm(x, mean, var, self.weight, self.bias, self.training, self.momentum, self.eps)
        return self.slopes(self.act(x) - 0.5)

    def _statistics(self):
        return self.running_mean, self.running_var


class ChannelsLastNorm(nn.LayerNorm):
    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class SamePadding(nn.Conv2d):
    def forward(self, x):
        pad = self.kernel_size[0] - 1
        return F.conv2d(F.pad(x, (0, pad, 0, pad)), self.weight, self.bias, self.stride, 0, 1, self.groups)


class NormsAndActs(Net):
    def make(self):
        self.a, self.n, self.b = nn.Conv2d(16, 12, 1), NormAct(12), nn.Conv2d(12, 16, 1)

    def body(self, x):
        return self.b(self.n(self.a(x)))


class NormActOnConcat(Net):
    """Statistics of two segments are written back where they belong."""

    def make(self):
        self.a, self.b, self.c, self.n = block(16, 6), block(16, 5), block(16, 5), NormAct(16)

    def body(self, x):
        return self.n(torch.cat([self.a(x), self.b(x), self.c(x)], 1))


class NormsOfConvNeXt(Net):
    def make(self):
        self.n, self.a = ChannelsLastNorm(16), block(16, 16)

    def body(self, x):
        return self.a(self.n(x))


class SamePaddings(Net):
    def make(self):
        self.a, self.dw, self.b = SamePadding(16, 12, 3), SamePadding(12, 12, 3, groups=12), block(12, 16)

    def body(self, x):
        return self.b(self.dw(self.a(x)))


case([STEM, ("a", 12, 1), ("b", 16, 1)])(NormsAndActs)
case([STEM, ("a.0", 6, 1), ("b.0", 5, 1), ("c.0", 5, 1)])(NormActOnConcat)
case([STEM, ("a.0", 16, 1)])(NormsOfConvNeXt)
case([STEM, ("a", 12, 1), ("b.0", 16, 1)])(SamePaddings)


@pytest.mark.parametrize("name", CASES)
def test_network(name):
    CASES.check(name)
