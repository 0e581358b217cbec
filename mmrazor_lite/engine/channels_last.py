"""Memory layouts that a device cannot be trusted with."""

from __future__ import annotations

from mmengine.device import get_device
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.calibration import activated

FEWEST = 8  # input channels, below which the weight gradient of a strided 1x1 convolution is written out of bounds


def check_channels_last(model: nn.Module) -> None:
    """Refuse ``channels_last`` where training on the CPU would write beyond its memory.

    Seen with torch 2.15 (oneDNN, AVX2): 1x1 convolutions of stride 2 with 3 to 7 input channels end in a crash, or go
    on with damaged memory.

    Raises:
        UserError: A subnet of ``model`` can have such a layer; names it.
    """
    if get_device() != "cpu":
        return
    mutator = getattr(model, "mutator", None)
    if getattr(mutator, "active", None) is None:
        _check_layers(model)
        return
    with activated(mutator):
        for subnet in model.subnets or [model.search_space.min()]:  # a joint model has its own subnets only
            mutator.activate(subnet)
            _check_layers(model)


def _check_layers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        strided = isinstance(module, nn.Conv2d) and module.groups == 1 and max(module.stride) > 1
        if strided and tuple(module.kernel_size) == (1, 1) and 1 < module.in_channels < FEWEST:
            raise UserError(
                f"channels_last=True: torch's backward pass of '{name}', a strided 1x1 convolution with "
                f"{module.in_channels} input channels in the smallest subnet, damages memory on the CPU in that "
                "layout: set channels_last=False, or train on a GPU"
            )
