"""The kinds of layers that are known: one entry each. A new kind is one more, here or in a package of its own.

from mmrazor_lite.graph import LAYER_KINDS, LayerKind
LAYER_KINDS.register(LayerKind(...))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from . import flow, rows
from .record import LAYER_KINDS, LayerKind


def inputs(full: Mapping[str, Any], inputs: int, outputs: int) -> int:
    """Number of active input channels."""
    return inputs


def outputs(full: Mapping[str, Any], inputs: int, outputs: int) -> int:
    """Number of active output channels."""
    return outputs


def _groups(full: Mapping[str, Any], inputs: int, outputs: int) -> int:
    """A group conv keeps the width of a group and varies how many there are."""
    return 1 if full["groups"] == 1 else inputs * full["groups"] // full["in_channels"]


def _norm_groups(full: Mapping[str, Any], inputs: int, outputs: int) -> int:
    """A norm over all channels stays one; else the width of a group stays and their number varies."""
    return 1 if full["num_groups"] == 1 else outputs * full["num_groups"] // full["num_channels"]


def _fan_in_scale(full: Mapping[str, Any], inputs: int, outputs: int) -> float:
    """gamma / sqrt(fan in), of the inputs that an output reads."""
    return full["scale"] if full["groups"] > 1 else full["scale"] * (full["in_channels"] / inputs) ** 0.5


AFFINE = {"weight": ("outputs",), "bias": ("outputs",)}
STATISTICS = {**AFFINE, "running_mean": ("outputs",), "running_var": ("outputs",)}

CONV = LAYER_KINDS.register(
    LayerKind(
        "conv",
        types=(nn.Conv1d, nn.Conv2d, nn.Conv3d),
        ops=("conv1d", "conv2d", "conv3d"),
        follow=flow.conv,
        rows=rows.conv,
        tensors={"weight": ("outputs", "inputs/groups"), "bias": ("outputs",)},
        numbers={"in_channels": inputs, "out_channels": outputs, "groups": _groups},
        mask="zero",
    )
)
TRANSPOSED = LAYER_KINDS.register(
    replace(
        CONV,
        name="transposed conv",
        types=(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        ops=("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        rows=rows.transposed,
        tensors={"weight": ("inputs", "outputs/groups"), "bias": ("outputs",)},
    )
)
STANDARDISED = LAYER_KINDS.register(  # of each output's weights, those of the active inputs
    replace(
        CONV,
        name="weight-standardised conv",
        types=(
            "timm.layers.std_conv.StdConv2d",
            "timm.layers.std_conv.StdConv2dSame",
            "mmcv.cnn.bricks.conv_ws.ConvWS2d",
        ),
        mask=None,
        own_forward=True,
    )
)
SCALED = LAYER_KINDS.register(
    replace(
        STANDARDISED,
        name="scaled weight-standardised conv",
        types=("timm.layers.std_conv.ScaledStdConv2d", "timm.layers.std_conv.ScaledStdConv2dSame"),
        tensors={**CONV.tensors, "gain": ("outputs",)},
        numbers={**CONV.numbers, "scale": _fan_in_scale},
    )
)
LINEAR = LAYER_KINDS.register(
    LayerKind(
        "linear",
        types=(nn.Linear,),
        ops=("linear",),
        follow=flow.linear,
        rows=rows.linear,
        tensors={"weight": ("outputs", "inputs"), "bias": ("outputs",)},
        numbers={"in_features": inputs, "out_features": outputs},
        mask="zero",
        dim=-1,
    )
)
BATCH_NORM = LAYER_KINDS.register(
    LayerKind(
        "batch_norm",
        types=(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        ops=("batch_norm",),
        follow=flow.batch_norm,
        rows=rows.norm,
        tensors=STATISTICS,
        numbers={"num_features": outputs},
        has_statistics=True,
        exports_as={nn.SyncBatchNorm: nn.BatchNorm2d},  # it runs on any device
    )
)
INSTANCE_NORM = LAYER_KINDS.register(
    LayerKind(
        "instance_norm",
        types=(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        ops=("instance_norm",),
        follow=flow.batch_norm,
        rows=rows.norm,
        tensors=STATISTICS,
        numbers={"num_features": outputs},
        has_statistics=True,
    )
)
LAYER_NORM = LAYER_KINDS.register(
    LayerKind(
        "layer_norm",
        types=(nn.LayerNorm,),
        ops=("layer_norm",),
        follow=flow.layer_norm,
        rows=rows.norm,
        tensors=AFFINE,
        numbers={"normalized_shape": lambda full, inputs, outputs: (outputs,)},
        mask="leave out",
        dim=-1,
    )
)
RMS_NORM = LAYER_KINDS.register(
    LayerKind(
        "rms_norm",
        types=(nn.RMSNorm,),
        ops=("rms_norm",),
        follow=flow.layer_norm,
        tensors={"weight": ("outputs",)},
        numbers={"normalized_shape": lambda full, inputs, outputs: (outputs,)},
        own_forward=True,
    )
)
GROUP_NORM = LAYER_KINDS.register(
    LayerKind(
        "group_norm",
        types=(nn.GroupNorm,),
        ops=("group_norm",),
        follow=flow.group_norm,
        rows=rows.norm,
        tensors=AFFINE,
        numbers={"num_channels": outputs, "num_groups": _norm_groups},
        mask="leave out",
    )
)
RESPONSE_NORM = LAYER_KINDS.register(  # of ConvNeXt V2: the mean is that of the active channels
    LayerKind(
        "response_norm",
        types=("timm.layers.grn.GlobalResponseNorm", "mmpretrain.models.utils.norm.GRN"),
        ops=("mean",),
        follow=flow.statistic,
        own_forward=True,  # its own parameters meet the channels, and follow them as any do
    )
)
