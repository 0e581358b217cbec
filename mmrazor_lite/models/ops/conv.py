"""A convolution whose input and output widths, and number of groups, are read from choices."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmrazor_lite.models.mutables import ChannelSlice

from .base import like, own_copy


class DynamicConv2d(nn.Conv2d):
    """``nn.Conv2d`` on the active channels: dense, depthwise or grouped.

    A group conv keeps the width of a group and varies how many there are; down to one it is a plain conv.
    """

    inputs: ChannelSlice
    outputs: ChannelSlice

    def forward(self, x: Tensor) -> Tensor:
        """(N, active in, H, W) -> (N, active out, H', W')."""
        if self.inputs.full and self.outputs.full:
            return super().forward(x)
        weight, bias = self.active_weight(), self.active_bias()
        padding = self.padding
        if self.padding_mode != "zeros":
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0, 0)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.active_groups())

    def active_weight(self) -> Tensor:
        weight = self.outputs.take(self.weight)
        return self.inputs.take(weight, 1) if self.groups == 1 else weight

    def active_bias(self) -> Tensor | None:
        return None if self.bias is None else self.outputs.take(self.bias)

    def active_groups(self) -> int:
        return 1 if self.groups == 1 else self.inputs.width * self.groups // self.in_channels

    def static(self) -> nn.Conv2d:
        """The active part as a plain layer with storage of its own."""
        conv = nn.Conv2d(
            self.inputs.width,
            self.outputs.width,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.active_groups(),
            self.bias is not None,
            self.padding_mode,
            device="meta",
        )
        conv.weight = own_copy(self.weight, self.active_weight())
        conv.bias = own_copy(self.bias, self.active_bias())
        return like(conv, self)
