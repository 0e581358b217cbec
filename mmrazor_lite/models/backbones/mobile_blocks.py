"""The blocks of MobileNet spaces: the inverted residual of any kernel and expansion, and no block at all."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS


@MODELS.register_module()
class MBBlock(BaseModule):
    """1x1 expansion, depthwise k x k, 1x1 projection (MobileNetV2, arXiv:1801.04381).

    (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride), with a residual where both shapes are equal. A
    ratio of 1 has no expansion.

    Args:
        in_channels, out_channels: Channels.
        kernel_size: Of the depthwise convolution, odd.
        expand_ratio: Times as many channels inside as come in.
        stride: 1 or 2.
        conv_cfg, norm_cfg, act_cfg: Layers, as in mmcv.
        init_cfg: mmengine's initialisation.

    Raises:
        UserError: A kernel, ratio or stride that no such block has.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        expand_ratio: int,
        stride: int = 1,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"MBBlock: kernel_size must be odd, got {kernel_size!r}")
        if not isinstance(expand_ratio, int) or expand_ratio < 1 or stride not in (1, 2):
            raise UserError(
                f"MBBlock: expand_ratio must be a whole number and stride 1 or 2, got {expand_ratio!r} and {stride!r}"
            )
        options = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg or {"type": "BN"}}
        act_cfg = act_cfg or {"type": "ReLU"}
        mid = in_channels * expand_ratio
        self.residual = stride == 1 and in_channels == out_channels
        self.expand_conv = ConvModule(in_channels, mid, 1, act_cfg=act_cfg, **options) if expand_ratio > 1 else None
        self.depthwise_conv = ConvModule(
            mid, mid, kernel_size, stride, kernel_size // 2, groups=mid, act_cfg=act_cfg, **options
        )
        self.linear_conv = ConvModule(mid, out_channels, 1, act_cfg=None, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        out = x if self.expand_conv is None else self.expand_conv(x)
        out = self.linear_conv(self.depthwise_conv(out))
        return x + out if self.residual else out


@MODELS.register_module()
class Identity(BaseModule):
    """No block: gives what it gets, or, where the shape must change, a strided 1x1 convolution and a norm of it.

    (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    Args:
        in_channels, out_channels, stride: The shape to give.
        conv_cfg, norm_cfg, act_cfg: Of the convolution, as in mmcv; no activation unless one is given.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            options = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg or {"type": "BN"}, "act_cfg": act_cfg}
            self.downsample = ConvModule(in_channels, out_channels, 1, stride, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Run the convolution, where there is one."""
        return x if self.downsample is None else self.downsample(x)
