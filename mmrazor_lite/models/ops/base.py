"""What every dynamic layer shares, as functions: taking the place of a static layer, and slicing its tensors out."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from mmrazor_lite.models.mutables import ChannelSlice

Layer = TypeVar("Layer", bound=nn.Module)


def replace_layer(cls: type[Layer], static: nn.Module, inputs: ChannelSlice, outputs: ChannelSlice) -> Layer:
    """A ``cls`` with the state of ``static``: the same parameters and buffers, hooks, mode and plain attributes."""
    layer = cls.__new__(cls)
    vars(layer).update({k: copy.copy(v) if isinstance(v, dict) else v for k, v in vars(static).items()})
    vars(layer).update(inputs=inputs, outputs=outputs)
    return layer


def own_copy(parameter: nn.Parameter | None, tensor: torch.Tensor | None) -> nn.Parameter | None:
    """``tensor`` (a slice of ``parameter``) as a parameter with storage of its own."""
    if parameter is None or tensor is None:
        return None
    return nn.Parameter(tensor.detach().clone(memory_format=torch.preserve_format), parameter.requires_grad)


def like(static: nn.Module, layer: nn.Module) -> nn.Module:
    """Give a fresh static layer the mode of the dynamic one it comes from."""
    return static.train(layer.training)
