"""The inverted residual of TF-NAS: any inner width, squeeze-and-excitation of a fixed one, drop-connect."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS

from .ofa_blocks import conv_norm_act


@MODELS.register_module()
class TFNASBlock(BaseModule):
    """1x1 expansion, depthwise k x k, squeeze-and-excitation, 1x1 projection.

    (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride), with a residual where both shapes are equal.
    With as many inner channels as come in, there is no expansion.

    Source: TF-NAS, arXiv:2008.05314, figure 1 and appendix; ``models/layers.py`` of its authors.

    Args:
        in_channels, out_channels: Channels.
        mid_channels: Inner channels; the most where they are a choice.
        kernel_size: Of the depthwise convolution, odd.
        stride: 1 or 2.
        se_channels: Inside the squeeze-and-excitation; 0 for none.
        mid_widths: What the inner width may be, ascending up to ``mid_channels``; ``None`` where it is no choice.
        norm_cfg, act_cfg: Layers, as in mmcv.

    Raises:
        UserError: A number that no such block has, or widths that do not end at ``mid_channels``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        se_channels: int = 0,
        mid_widths: Sequence[int] | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        norm_cfg, act_cfg = norm_cfg or {"type": "BN"}, act_cfg or {"type": "ReLU"}
        numbers = (in_channels, out_channels, mid_channels, kernel_size)
        if not all(type(value) is int and value > 0 for value in numbers) or kernel_size % 2 == 0:
            raise UserError(f"TFNASBlock: channels must be above 0 and kernel_size odd, got {numbers}")
        if stride not in (1, 2) or type(se_channels) is not int or se_channels < 0:
            raise UserError(f"TFNASBlock: stride must be 1 or 2, se_channels 0 or more, got {(stride, se_channels)}")
        self.in_channels, self.out_channels, self.mid_channels = in_channels, out_channels, mid_channels
        self.stride, self.se_channels = stride, se_channels
        self.act = act_cfg["type"]
        if mid_widths is not None:
            if mid_widths[-1] != mid_channels or mid_channels <= in_channels:
                raise UserError(
                    f"TFNASBlock: mid_widths end at {mid_widths[-1]}, they must end at mid_channels={mid_channels}, "
                    f"which must be more than in_channels={in_channels}"
                )
            self.mid_widths = mid_widths
        self.residual = stride == 1 and in_channels == out_channels
        self.inverted_bottleneck: nn.Module | None = None
        if mid_channels != in_channels:
            self.inverted_bottleneck = conv_norm_act(
                nn.Conv2d(in_channels, mid_channels, 1, bias=False), norm_cfg, act_cfg
            )
        depthwise = nn.Conv2d(
            mid_channels, mid_channels, kernel_size, stride, kernel_size // 2, groups=mid_channels, bias=False
        )
        self.depth_conv = conv_norm_act(depthwise, norm_cfg, act_cfg)
        self.squeeze_excite = SqueezeExcite(mid_channels, se_channels, act_cfg) if se_channels else None
        self.point_linear = conv_norm_act(nn.Conv2d(mid_channels, out_channels, 1, bias=False), norm_cfg, None)
        self.drop_connect = DropPath(0.0) if self.residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        out = x if self.inverted_bottleneck is None else self.inverted_bottleneck(x)
        out = self.depth_conv(out)
        if self.squeeze_excite is not None:
            out = self.squeeze_excite(out)
        out = self.point_linear(out)
        return x + self.drop_connect(out) if self.residual else out

    @property
    def kernel_size(self) -> int:
        """Of the depthwise convolution."""
        return self.depth_conv.conv.kernel_size[0]

    @property
    def inner_groups(self) -> tuple[dict[str, list[str]], ...]:
        """The layers that share the inner width, as groups of a width mutator."""
        out = ["inverted_bottleneck.conv", "inverted_bottleneck.bn", "depth_conv.conv", "depth_conv.bn"]
        into = ["point_linear.conv"]
        if self.squeeze_excite is not None:
            out, into = [*out, "squeeze_excite.conv_expand"], ["squeeze_excite.conv_reduce", *into]
        return ({"out": out, "into": into},)

    @property
    def importance(self) -> Tensor:
        """Of the inner channels: the absolute sums of their depthwise kernels."""
        return self.depth_conv.conv._parameters["weight"].detach().abs().sum((1, 2, 3))


class SqueezeExcite(nn.Module):
    """Weighs channels by what the whole map holds; shapes stay.

    Args:
        channels: Of the map (N, channels, H, W).
        inner: Channels inside.
        act_cfg: Its activation, as in mmcv.
    """

    def __init__(self, channels: int, inner: int, act_cfg: dict) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv_reduce = nn.Conv2d(channels, inner, 1)
        self.act = build_activation_layer(act_cfg)
        self.conv_expand = nn.Conv2d(inner, channels, 1)
        self.gate = nn.Sigmoid()
        for conv in (self.conv_reduce, self.conv_expand):
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of ``x``."""
        return x * self.gate(self.conv_expand(self.act(self.conv_reduce(self.pool(x)))))
