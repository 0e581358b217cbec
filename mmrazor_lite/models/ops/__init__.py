"""Layers whose width is a choice; each is a subclass of the layer it replaces."""

from __future__ import annotations

from torch import nn

from .conv import DynamicConv2d
from .linear import DynamicLinear
from .norm import DynamicBatchNorm1d, DynamicBatchNorm2d, DynamicGroupNorm, DynamicLayerNorm, DynamicSyncBatchNorm
from .switchable import SwitchableBatchNorm

DYNAMIC: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: DynamicConv2d,
    nn.Linear: DynamicLinear,
    nn.BatchNorm1d: DynamicBatchNorm1d,
    nn.BatchNorm2d: DynamicBatchNorm2d,
    nn.SyncBatchNorm: DynamicSyncBatchNorm,
    nn.LayerNorm: DynamicLayerNorm,
    nn.GroupNorm: DynamicGroupNorm,
}
KIND: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm",
    nn.SyncBatchNorm: "batch_norm",
    nn.LayerNorm: "layer_norm",
    nn.GroupNorm: "group_norm",
}

__all__ = [
    "DYNAMIC",
    "KIND",
    "DynamicBatchNorm1d",
    "DynamicBatchNorm2d",
    "DynamicConv2d",
    "DynamicGroupNorm",
    "DynamicLayerNorm",
    "DynamicLinear",
    "DynamicSyncBatchNorm",
    "SwitchableBatchNorm",
]
