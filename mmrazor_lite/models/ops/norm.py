"""Normalisation layers on the active channels.

Running statistics of the active channels are updated where they lie; those of the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as _sync_batch_norm

from mmrazor_lite.models.mutables import ChannelSlice

from .base import like, own_copy

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm


def _momentum(norm: BatchNorm) -> float:
    """Share of this batch in the running statistics; counts the batch in train mode."""
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:  # cumulative average: only while recalibrating
            return 1.0 / float(norm.num_batches_tracked)
    return 0.0 if norm.momentum is None else norm.momentum


def _sliced_batch_norm(norm: BatchNorm, x: Tensor) -> Tensor:
    outputs = norm.outputs
    momentum = _momentum(norm)
    stored = (norm.running_mean, norm.running_var)
    mean, var = (None if stat is None else outputs.take(stat) for stat in stored)
    weight = None if norm.weight is None else outputs.take(norm.weight)
    bias = None if norm.bias is None else outputs.take(norm.bias)
    by_batch = norm.training or mean is None
    update = norm.training and norm.track_running_stats
    passed = (mean, var) if update or not by_batch else (None, None)
    if by_batch and isinstance(norm, nn.SyncBatchNorm) and dist.is_available() and dist.is_initialized():
        group = norm.process_group or dist.group.WORLD
        size = dist.get_world_size(group)
        if size > 1:
            x = _sync_batch_norm.apply(x, weight, bias, *passed, norm.eps, momentum, group, size)
            return _write_back(norm, outputs, stored, passed, x)
    x = F.batch_norm(x, *passed, weight, bias, by_batch, momentum, norm.eps)
    return _write_back(norm, outputs, stored, passed, x) if update else x


def _write_back(
    norm: BatchNorm, outputs: ChannelSlice, stored: tuple, passed: tuple[Tensor | None, ...], x: Tensor
) -> Tensor:
    with torch.no_grad():
        for stat, part in zip(stored, passed, strict=True):
            if stat is not None and part is not None:
                outputs.put(stat, part)
    return x


def copy_batch_norm(
    norm: BatchNorm, width: int, take: Callable[[Tensor], Tensor], keep_type: bool = False
) -> BatchNorm:
    """A plain batch norm of ``width`` channels whose tensors are copies of ``take(tensor)``.

    A synchronised norm becomes an ordinary one, which runs on any device, unless ``keep_type``.
    """
    cls = nn.BatchNorm1d if isinstance(norm, nn.BatchNorm1d) else nn.BatchNorm2d
    options = {}
    if keep_type and isinstance(norm, nn.SyncBatchNorm):
        cls, options = nn.SyncBatchNorm, {"process_group": norm.process_group}
    new = cls(width, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta", **options)
    if norm.affine:
        new.weight = own_copy(norm.weight, take(norm.weight))
        new.bias = own_copy(norm.bias, take(norm.bias))
    if norm.running_mean is not None:
        new.running_mean = take(norm.running_mean).detach().clone()
        new.running_var = take(norm.running_var).detach().clone()
        new.num_batches_tracked = norm.num_batches_tracked.detach().clone()
    return like(new, norm)


def _static_batch_norm(norm: BatchNorm) -> BatchNorm:
    """The active part as a plain layer with storage of its own."""
    return copy_batch_norm(norm, norm.outputs.width, norm.outputs.take)


class DynamicBatchNorm1d(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` on the active channels."""

    inputs: ChannelSlice
    outputs: ChannelSlice

    def forward(self, x: Tensor) -> Tensor:
        """(N, active C[, L]) -> the same shape."""
        if self.outputs.full:
            return super().forward(x)
        return _sliced_batch_norm(self, x)

    static = _static_batch_norm


class DynamicBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` on the active channels."""

    inputs: ChannelSlice
    outputs: ChannelSlice

    def forward(self, x: Tensor) -> Tensor:
        """(N, active C, H, W) -> the same shape."""
        if self.outputs.full:
            return super().forward(x)
        return _sliced_batch_norm(self, x)

    static = _static_batch_norm


class DynamicSyncBatchNorm(nn.SyncBatchNorm):
    """``nn.SyncBatchNorm`` on the active channels; exported as a plain batch norm."""

    inputs: ChannelSlice
    outputs: ChannelSlice

    def forward(self, x: Tensor) -> Tensor:
        """(N, active C, ...) -> the same shape."""
        if self.outputs.full:
            return super().forward(x)
        return _sliced_batch_norm(self, x)

    static = _static_batch_norm


class DynamicLayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` over the last dimension, its statistics over the active channels only."""

    inputs: ChannelSlice
    outputs: ChannelSlice

    def forward(self, x: Tensor) -> Tensor:
        """(..., active C) -> the same shape."""
        if self.outputs.full:
            return super().forward(x)
        return F.layer_norm(x, (self.outputs.width,), *self._active(), self.eps)

    def _active(self) -> tuple[Tensor | None, Tensor | None]:
        return tuple(None if p is None else self.outputs.take(p) for p in (self.weight, self.bias))

    def static(self) -> nn.LayerNorm:
        """The active part as a plain layer with storage of its own."""
        weight, bias = self._active()
        new = nn.LayerNorm(self.outputs.width, self.eps, self.elementwise_affine, bias is not None, device="meta")
        if self.elementwise_affine:
            new.weight, new.bias = own_copy(self.weight, weight), own_copy(self.bias, bias)
        return like(new, self)


class DynamicGroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` on the active channels: the width of a group stays, their number varies."""

    inputs: ChannelSlice
    outputs: ChannelSlice

    def forward(self, x: Tensor) -> Tensor:
        """(N, active C, ...) -> the same shape."""
        if self.outputs.full:
            return super().forward(x)
        return F.group_norm(x, self._active_groups(), *self._active(), self.eps)

    def _active(self) -> tuple[Tensor | None, Tensor | None]:
        return tuple(None if p is None else self.outputs.take(p) for p in (self.weight, self.bias))

    def _active_groups(self) -> int:
        return self.outputs.width * self.num_groups // self.num_channels

    def static(self) -> nn.GroupNorm:
        """The active part as a plain layer with storage of its own."""
        new = nn.GroupNorm(self._active_groups(), self.outputs.width, self.eps, self.affine, device="meta")
        if self.affine:
            weight, bias = self._active()
            new.weight, new.bias = own_copy(self.weight, weight), own_copy(self.bias, bias)
        return like(new, self)
