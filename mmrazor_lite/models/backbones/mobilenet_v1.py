"""MobileNet v1, which neither torchvision nor mmpretrain has."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS

# Channels and stride of each block: arXiv:1704.04861, table 1.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """A 3x3 convolution and 13 depthwise separable ones; (N, 3, H, W) to a tuple of one tensor (N, C, H/32, W/32).

    Source: arXiv:1704.04861.

    Args:
        widen_factor: Of all channels, rounded to multiples of 8.
        blocks: ``(channels, stride)`` of each block, before ``widen_factor``; those of the paper by default.
        stem_channels: Of the first convolution, before ``widen_factor``.
        stem_stride: Its stride.
        norm_cfg, act_cfg: As in mmcv; ReLU6 as in the code of the AutoSlim authors by default.
        init_cfg: mmengine's initialisation.

    Raises:
        UserError: A block that is not two positive integers, or a ``widen_factor`` that is not above 0.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        blocks: Any = BLOCKS,
        stem_channels: int = 32,
        stem_stride: int = 2,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        from mmpretrain.models.utils import make_divisible  # slow to import

        if isinstance(widen_factor, bool) or not isinstance(widen_factor, int | float) or not widen_factor > 0:
            raise UserError(f"MobileNetV1: widen_factor={widen_factor!r} must be a number above 0")
        for block in blocks:
            if len(block) != 2 or any(not isinstance(value, int) or value < 1 for value in block):
                raise UserError(
                    f"MobileNetV1: blocks has {block}, each block is two positive integers (channels, stride)"
                )
        super().__init__(init_cfg)
        options = {"norm_cfg": norm_cfg or {"type": "BN"}, "act_cfg": act_cfg or {"type": "ReLU6"}}
        width = make_divisible(stem_channels * widen_factor, 8)
        self.conv1 = ConvModule(3, width, 3, stem_stride, 1, **options)
        self.layers = []  # names, as in mmpretrain's MobileNetV2
        for number, (channels, stride) in enumerate(blocks, start=1):
            out = make_divisible(channels * widen_factor, 8)
            self.add_module(f"layer{number}", DepthwiseSeparableConvModule(width, out, 3, stride, 1, **options))
            self.layers.append(f"layer{number}")
            width = out

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the output of the last block."""
        x = self.conv1(x)
        for name in self.layers:
            x = getattr(self, name)(x)
        return (x,)
