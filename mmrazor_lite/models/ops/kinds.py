"""Which tensors of a layer follow which of its sides, and which of its numbers say so; one entry per kind of layer.

A subclass with a forward of its own is of the kind of its nearest base class here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmrazor_lite.models.mutables import ChannelSlice

Number = Callable[[Mapping[str, Any], ChannelSlice, ChannelSlice], Any]  # (full values, inputs, outputs) -> active one


@dataclass(frozen=True)
class LayerKind:
    """A kind of layer.

    ``tensors`` maps an attribute to the sides that its dimensions follow, in order; ``numbers`` an attribute to what it
    is now.
    """

    name: str
    tensors: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, Number]
    has_statistics: bool = False


def _groups(full: Mapping[str, Any], inputs: ChannelSlice, outputs: ChannelSlice) -> int:
    """A group conv keeps the width of a group and varies how many there are."""
    return 1 if full["groups"] == 1 else inputs.width * full["groups"] // full["in_channels"]


def _norm_groups(full: Mapping[str, Any], inputs: ChannelSlice, outputs: ChannelSlice) -> int:
    """A norm over all channels stays one; else the width of a group stays and their number varies."""
    return 1 if full["num_groups"] == 1 else outputs.width * full["num_groups"] // full["num_channels"]


def _inputs(full: Mapping[str, Any], inputs: ChannelSlice, outputs: ChannelSlice) -> int:
    return inputs.width


def width(full: Mapping[str, Any], inputs: ChannelSlice | None, outputs: ChannelSlice) -> int:
    """Number of active output channels."""
    return outputs.width


def widths(full: Mapping[str, Any], inputs: None, outputs: tuple[ChannelSlice, ...]) -> list[int]:
    """Numbers of active channels of several parts."""
    return [part.width for part in outputs]


WEIGHTED = {"weight": ("outputs", "inputs"), "bias": ("outputs",)}
AFFINE = {"weight": ("outputs",), "bias": ("outputs",)}
STATISTICS = {**AFFINE, "running_mean": ("outputs",), "running_var": ("outputs",)}

CONV = LayerKind("conv", WEIGHTED, {"in_channels": _inputs, "out_channels": width, "groups": _groups})
LINEAR = LayerKind("linear", WEIGHTED, {"in_features": _inputs, "out_features": width})
BATCH_NORM = LayerKind("batch_norm", STATISTICS, {"num_features": width}, has_statistics=True)
INSTANCE_NORM = LayerKind("instance_norm", STATISTICS, {"num_features": width}, has_statistics=True)
LAYER_NORM = LayerKind("layer_norm", AFFINE, {"normalized_shape": lambda full, inputs, outputs: (outputs.width,)})
GROUP_NORM = LayerKind("group_norm", AFFINE, {"num_channels": width, "num_groups": _norm_groups})

KINDS: dict[type[nn.Module], LayerKind] = {
    nn.Conv2d: CONV,
    nn.Linear: LINEAR,
    nn.BatchNorm1d: BATCH_NORM,
    nn.BatchNorm2d: BATCH_NORM,
    nn.SyncBatchNorm: BATCH_NORM,
    nn.InstanceNorm2d: INSTANCE_NORM,
    nn.LayerNorm: LAYER_NORM,
    nn.GroupNorm: GROUP_NORM,
}
KIND: dict[type[nn.Module], str] = {base: kind.name for base, kind in KINDS.items()}


def kind_of(module: nn.Module) -> LayerKind | None:
    """The kind of a layer, None for any other module."""
    return next((KINDS[base] for base in type(module).__mro__ if base in KINDS), None)
