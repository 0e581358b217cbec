"""Blocks of dense convolutions for the SPOS claim: a depthwise one takes a CPU four times as long for the same macs.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrazor_lite.registry import MODELS

_NORM, _ACT = {"type": "BN"}, {"type": "ReLU"}


@MODELS.register_module()
class DenseBlock(BaseModule):
    """k x k convolution to the inner width, 1x1 back, the input added where it has the shape of the output.

    (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride). The block of EfficientNetV2 (arXiv:2104.00298,
    figure 2, Fused-MBConv without squeeze-and-excitation); with ``reduce`` that of ResNet (arXiv:1512.03385, figure 5),
    whose k x k convolution is between two 1x1 ones. Neither ends in an activation.

    Args:
        in_channels, out_channels, stride: Shape.
        kernel_size: Odd.
        expand_ratio: The inner width as a multiple of the output.
        reduce: Put a 1x1 convolution to the inner width in front.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        kernel_size: int = 3,
        expand_ratio: float = 1.0,
        reduce: bool = False,
    ) -> None:
        super().__init__()
        inner = max(1, round(out_channels * expand_ratio))
        layers = [ConvModule(in_channels, inner, 1, norm_cfg=_NORM, act_cfg=_ACT)] if reduce else []
        options = {"padding": kernel_size // 2, "norm_cfg": _NORM, "act_cfg": _ACT}
        layers.append(ConvModule(inner if reduce else in_channels, inner, kernel_size, stride, **options))
        layers.append(ConvModule(inner, out_channels, 1, norm_cfg=_NORM, act_cfg=None))
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        out = self.layers(x)
        return out + x if self.adds else out
