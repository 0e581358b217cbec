"""A published net.config against the network that is built for it: what its choices do not say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.models.backbones.ofa_blocks import OFABlock
from mmrazor_lite.models.backbones.ofa_networks import OFABackbone

_ACTIVATIONS = {"relu": "ReLU", "relu6": "ReLU6", "h_swish": "HSwish"}  # of the authors, and in our configs
_MODULES = {"relu": "ReLU", "relu6": "ReLU6", "h_swish": "Hardswish"}


def check_net_config(document: Any, network: nn.Module, where: str) -> None:
    """Compare strides, activations, squeeze-and-excitation and widths of every block, and the layers around them.

    Args:
        document: The plain data of a subnet file; nothing is done where it is no net.config with blocks.
        network: The static network of that subnet.
        where: Names the file.

    Raises:
        UserError: Says the first field that differs, and both values.
    """
    backbone = next((module for module in network.modules() if isinstance(module, OFABackbone)), None)
    blocks = document.get("blocks") if isinstance(document, Mapping) else None
    if backbone is None or not isinstance(blocks, list):
        return
    for place, said, built in _pairs(document, blocks, backbone):
        for key, value in built.items():
            there = said.get(key)
            if there is not None and there != value:
                raise UserError(
                    f"{where}: {place}: {key} {short(there)}, but the model has {value!r}; it is a network of another "
                    "space, use the config it was made with"
                )


def _pairs(document: Mapping, blocks: list, backbone: nn.Module) -> Iterator[tuple[str, Mapping, dict[str, Any]]]:
    first = backbone.first_conv
    layers = [("first_conv", first)]
    layers += [(name, getattr(backbone, name)) for name in ("final_expand_layer", "feature_mix_layer")
               if hasattr(backbone, name)]  # fmt: skip
    for name, layer in layers:
        if isinstance(document.get(name), Mapping):
            yield name, _told(document[name], _MODULES), _of_layer(layer)
    built = [module for module in backbone.modules() if isinstance(module, OFABlock)]
    for number, (said, block) in enumerate(zip(blocks, built, strict=False)):
        inner = said.get("mobile_inverted_conv") or said.get("conv") if isinstance(said, Mapping) else None
        if isinstance(inner, Mapping):
            yield f"block {number}", _told(inner, _ACTIVATIONS), _of_block(block)


def _told(said: Mapping, names: Mapping[str, str]) -> dict[str, Any]:
    act = said.get("act_func")
    return {**said, "act_func": names.get(act, act) if isinstance(act, str) else act}


def _of_layer(layer: nn.Module) -> dict[str, Any]:
    conv, act = layer.conv, getattr(layer, "act", None)
    numbers = {"stride": conv.stride[0], "kernel_size": conv.kernel_size[0], "in_channels": conv.in_channels}
    return {**numbers, "out_channels": conv.out_channels, **({} if act is None else {"act_func": _name(act)})}


def _name(act: nn.Module) -> str:
    return {"HSwish": "Hardswish"}.get(type(act).__name__, type(act).__name__)


def _of_block(block: OFABlock) -> dict[str, Any]:
    return {
        "in_channels": block.in_channels,
        "out_channels": block.out_channels,
        "stride": block.stride,
        "act_func": block.act,
        "use_se": block.use_se,
    }
