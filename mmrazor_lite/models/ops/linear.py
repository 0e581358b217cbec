"""A fully connected layer whose input and output widths are read from choices."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmrazor_lite.models.mutables import ChannelSlice

from .base import like, own_copy


class DynamicLinear(nn.Linear):
    """``nn.Linear`` on the active features."""

    inputs: ChannelSlice
    outputs: ChannelSlice

    def forward(self, x: Tensor) -> Tensor:
        """(..., active in) -> (..., active out)."""
        if self.inputs.full and self.outputs.full:
            return super().forward(x)
        return F.linear(x, self.active_weight(), self.active_bias())

    def active_weight(self) -> Tensor:
        return self.inputs.take(self.outputs.take(self.weight), 1)

    def active_bias(self) -> Tensor | None:
        return None if self.bias is None else self.outputs.take(self.bias)

    def static(self) -> nn.Linear:
        """The active part as a plain layer with storage of its own."""
        linear = nn.Linear(self.inputs.width, self.outputs.width, self.bias is not None, device="meta")
        linear.weight = own_copy(self.weight, self.active_weight())
        linear.bias = own_copy(self.bias, self.active_bias())
        return like(linear, self)
