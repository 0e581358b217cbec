"""Batch norms for several subnets trained together: one plain batch norm per subnet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .norm import BatchNorm, copy_batch_norm


class SwitchableBatchNorm(nn.Module):
    """One batch norm per jointly trained subnet, at that subnet's width (Slimmable Networks, section 3.3).

    Subnets of equal width at a layer still have their own: their inputs differ.
    """

    def __init__(self, norms: Sequence[BatchNorm]) -> None:
        super().__init__()
        self.bns = nn.ModuleList(norms)
        self.index = 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C of the active subnet, ...) -> the same shape."""
        return self.bns[self.index](x)

    def static(self) -> BatchNorm:
        """The active subnet's norm as a plain layer with storage of its own."""
        norm = self.bns[self.index]
        return copy_batch_norm(norm, norm.num_features, lambda tensor: tensor)
