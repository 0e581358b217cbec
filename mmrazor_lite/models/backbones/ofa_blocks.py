"""The inverted residual of Once-for-All: elastic kernel, elastic expansion, squeeze-and-excitation that follows it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from mmcv.cnn import build_activation_layer, build_norm_layer
from mmcv.cnn.bricks.drop import drop_path
from torch import Tensor, nn

from mmrazor_lite.models.mutables import ElasticBlock, KernelConv2d


class SqueezeExcite(nn.Module):
    """Weighs channels by what the whole map holds (MobileNetV3, arXiv:1905.02244, section 5.3); shapes stay.

    Args:
        channels: Of the map (N, channels, H, W).
        reduction: Times fewer channels inside, see :func:`squeezed`.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        inner = squeezed(channels, reduction)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.relu = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(inner, channels, 1)
        self.gate = nn.Hardsigmoid(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of ``x``."""
        return x * self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))


class OFABlock(ElasticBlock):
    """1x1 expansion, depthwise k x k, squeeze-and-excitation, 1x1 projection.

    (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride), with a residual where both shapes are equal.

    Source: Once-for-All, arXiv:1908.09791, section 3.3 and figure 3.

    Args:
        in_channels, out_channels: Channels; always all of them.
        kernel_sizes, expand_ratios: As for :class:`ElasticBlock`; the only ratio 1 has no expansion.
        stride: 1 or 2.
        use_se: Whether there is a squeeze-and-excitation, behind the activation of the depthwise convolution.
        norm_cfg, act_cfg: Layers, as in mmcv.

    :attr:`drop_path_rate` is for the algorithm that trains it: how likely an image goes around the block.
    """

    drop_path_rate = 0.0  # set while a pass runs that is regularised by it, else 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[int],
        expand_ratios: Sequence[int | float],
        stride: int,
        use_se: bool,
        norm_cfg: dict,
        act_cfg: dict,
    ) -> None:
        super().__init__(kernel_sizes, expand_ratios)
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.use_se, self.act = use_se, act_cfg["type"]
        self.residual = stride == 1 and in_channels == out_channels
        ratio = self.expand_ratios[-1]
        mid = expanded(in_channels, ratio)
        self.inverted_bottleneck: nn.Module | None = None
        if ratio != 1:
            self.inverted_bottleneck = conv_norm_act(nn.Conv2d(in_channels, mid, 1, bias=False), norm_cfg, act_cfg)
        self.depth_conv = conv_norm_act(_depthwise(mid, self.kernel_sizes, stride), norm_cfg, act_cfg)
        if use_se:
            self.depth_conv.add_module("se", SqueezeExcite(mid))
        self.point_linear = conv_norm_act(nn.Conv2d(mid, out_channels, 1, bias=False), norm_cfg, None)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        out = x if self.inverted_bottleneck is None else self.inverted_bottleneck(x)
        out = self.point_linear(self.depth_conv(out))
        if not self.residual:
            return out
        return x + (drop_path(out, self.drop_path_rate, True) if self.drop_path_rate else out)

    @property
    def inner_groups(self) -> tuple[dict[str, list[str]], ...]:
        """See :class:`ElasticBlock`: the expanded channels, then those inside the squeeze-and-excitation."""
        out = ["inverted_bottleneck.conv", "inverted_bottleneck.bn", "depth_conv.conv", "depth_conv.bn"]
        if not self.use_se:
            return ({"out": out, "into": ["point_linear.conv"]},)
        return (
            {"out": [*out, "depth_conv.se.expand"], "into": ["depth_conv.se.reduce", "point_linear.conv"]},
            {"out": ["depth_conv.se.reduce"], "into": ["depth_conv.se.expand"]},
        )

    def inner_widths(self, ratio: int | float) -> tuple[int, ...]:
        """See :class:`ElasticBlock`."""
        mid = expanded(self.in_channels, ratio)
        return (mid, squeezed(mid)) if self.use_se else (mid,)


def conv_norm_act(conv: nn.Module, norm_cfg: dict | None, act_cfg: dict | None) -> nn.Sequential:
    """``conv``, then ``bn`` and ``act`` where they are given."""
    parts = OrderedDict(conv=conv)
    if norm_cfg is not None:
        parts["bn"] = build_norm_layer(norm_cfg, conv.out_channels)[1]
    if act_cfg is not None:
        parts["act"] = build_activation_layer(act_cfg)
    return nn.Sequential(parts)


def expanded(channels: int, ratio: int | float) -> int:
    """Inner channels of a block: ``channels * ratio``, made a multiple of 8."""
    return channels if ratio == 1 else divisible(round(channels * ratio))


def squeezed(channels: int, reduction: int = 4) -> int:
    """Channels inside the squeeze-and-excitation of a map of ``channels``."""
    return divisible(channels // reduction)


def divisible(value: int | float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, of at least 90 % of ``value`` (MobileNetV2's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def _depthwise(channels: int, kernel_sizes: tuple[int, ...], stride: int) -> nn.Conv2d:
    if len(kernel_sizes) > 1:
        return KernelConv2d(channels, kernel_sizes, stride)
    size = kernel_sizes[0]
    return nn.Conv2d(channels, channels, size, stride, size // 2, groups=channels, bias=False)
