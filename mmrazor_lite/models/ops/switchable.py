"""Batch norms for several subnets trained together: one plain batch norm per subnet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SwitchableBatchNorm(nn.Module):
    """One batch norm per jointly trained subnet, at that subnet's width (Slimmable Networks, section 3.3).

    Subnets of equal width at a layer still have their own: their inputs differ.
    """

    def __init__(
        self, norms: Sequence[nn.Module], pieces: Sequence[Sequence[tuple[int, int]] | None] | None = None
    ) -> None:
        """Take one norm per subnet, and which of all channels it has, as (start, length); None for all of them."""
        super().__init__()
        self.bns = nn.ModuleList(norms)
        self.pieces = list(pieces or [None] * len(norms))
        self.index = 0

    def part(self, index: int, tensor: Tensor) -> Tensor:
        """What the norm of a subnet has of a ``tensor`` of all channels; one of its own size comes back as it is."""
        pieces = self.pieces[index]
        if (
            pieces is None
            or tensor.ndim != 1
            or len(tensor) < sum(pieces[-1])
            or len(tensor) == sum(length for _, length in pieces)
        ):
            return tensor
        return torch.cat([tensor.narrow(0, *piece) for piece in pieces])

    def share_out(self, tensors: dict[str, Tensor], prefix: str) -> bool:
        """Give every subnet its part of a norm that a file has once, or at full width.

        Args:
            tensors: Name to tensor, of a file; changed.
            prefix: The name of this module in it.

        Returns:
            Whether any tensor was cut.
        """
        sliced = False
        for name in self.bns[0].state_dict():
            whole = tensors.pop(f"{prefix}.{name}", None)
            for index in range(len(self.bns)):
                key = f"{prefix}.bns.{index}.{name}"
                value = tensors.get(key, whole)
                if value is not None:
                    tensors[key] = self.part(index, value)
                    sliced = sliced or tensors[key] is not value
        return sliced

    @property
    def chosen(self) -> nn.Module:
        """The batch norm of the active subnet."""
        return self.bns[self.index]

    def settled(self) -> nn.Module:
        """That batch norm."""
        return self.chosen

    def forward(self, x: Tensor) -> Tensor:
        """(N, C of the active subnet, ...) -> the same shape."""
        return self.bns[self.index](x)
