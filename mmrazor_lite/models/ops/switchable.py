"""Batch norms for several subnets trained together: one plain batch norm per subnet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class SwitchableBatchNorm(nn.Module):
    """One batch norm per jointly trained subnet, at that subnet's width (Slimmable Networks, section 3.3).

    Subnets of equal width at a layer still have their own: their inputs differ.
    """

    def __init__(self, norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.bns = nn.ModuleList(norms)
        self.index = 0

    @property
    def current(self) -> nn.Module:
        """The batch norm of the active subnet."""
        return self.bns[self.index]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C of the active subnet, ...) -> the same shape."""
        return self.bns[self.index](x)
