"""Width choices inside a model: how many units a group keeps, and what that means for one side of a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmrazor_lite.graph.channels import Side, WidthGroup

MAX_PIECES = 2  # more pieces than this are gathered by an index, built once per activate


class MutableChannel:
    """The width choice of one group: its candidates and the width active now.

    Args:
        group: the channels that share the width.
        candidates: ascending widths in output channels of the naming layer, each a multiple of ``group.unit``.
    """

    def __init__(self, group: WidthGroup, candidates: Sequence[int]) -> None:
        self.group = group
        self.candidates = candidates
        self.width = group.full

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def kept(self) -> int:
        """Units kept now."""
        return self.width // self.group.unit

    def __repr__(self) -> str:
        return f"MutableChannel({self.name}: {self.width} of {self.group.full})"


class ChannelSlice:
    """The active channels of one side of a layer.

    One prefix in the common case (a narrow slice, no copy); behind a concat or a shuffle several pieces, since each
    producer keeps its own first channels.
    """

    def __init__(self, side: Side, mutables: Sequence[MutableChannel]) -> None:
        self.side = side
        self.size = len(side)
        self._mutables = mutables  # of all groups, by group index
        self._own = [mutables[index] for index in side.counts]
        self._one_prefix = self._is_prefix(side)
        self._index: Tensor | None = None
        self.width = self.size
        self.pieces: tuple[tuple[int, int], ...] = ((0, self.size),)  # (start, length)

    @staticmethod
    def _is_prefix(side: Side) -> bool:
        """One group, its units in order: what stays is always a prefix."""
        return side.is_fixed or (len(side.counts) == 1 and side.constant == 0 and bool(np.all(np.diff(side.unit) >= 0)))

    def refresh(self) -> None:
        """Read the widths active now. No tensor is touched."""
        if not self._own:
            return
        if self._one_prefix:
            self.width = self._own[0].kept * next(iter(self.side.counts.values()))
            self.pieces = ((0, self.width),)
            return
        kept = np.array([mutable.kept for mutable in self._mutables])
        mask = np.concatenate(([False], self.side.active(kept), [False]))
        edges = np.flatnonzero(mask[1:] != mask[:-1])
        self.pieces = tuple((int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True))
        self.width = sum(length for _, length in self.pieces)
        self._index = None

    def widen(self) -> None:
        """Make all units of its groups active."""
        for mutable in self._own:
            mutable.width = mutable.group.full
        self.refresh()

    @property
    def full(self) -> bool:
        return self.width == self.size

    def take(self, tensor: Tensor, dim: int = 0) -> Tensor:
        """The active part of ``tensor`` along ``dim``: a view where it is one piece, a copy otherwise."""
        if self.full:
            return tensor
        if len(self.pieces) == 1:
            return tensor.narrow(dim, *self.pieces[0])
        if len(self.pieces) <= MAX_PIECES:
            return torch.cat([tensor.narrow(dim, *piece) for piece in self.pieces], dim)
        return tensor.index_select(dim, self.index(tensor.device))

    def put(self, target: Tensor, part: Tensor) -> None:
        """Write ``part`` (from :meth:`take`, changed since) back into the 1-d ``target`` where it is a copy."""
        if not self.full and len(self.pieces) > 1:
            target.index_copy_(0, self.index(target.device), part)

    def index(self, device: torch.device) -> Tensor:
        """Positions of the active channels, (width,)."""
        if self._index is None or self._index.device != device:
            runs = [torch.arange(start, start + length) for start, length in self.pieces]
            self._index = torch.cat(runs).to(device, non_blocking=True)
        return self._index
