"""Write a network of TF-NAS as the ``model.config`` of its authors; see ``subnet/tfnas_config.py`` for the layout."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmrazor_lite.models.backbones import TFNASBlock, TFNASNet

_ACTIVATIONS = {"ReLU": "relu", "SiLU": "swish"}


def model_config(network: nn.Module, num_classes: int) -> dict[str, Any]:
    """The layers of a static network with a ``TFNASNet`` inside, as plain data.

    Raises:
        ValueError: There is none, or it is a supernet.
    """
    backbone = next((module for module in network.modules() if isinstance(module, TFNASNet)), None)
    if backbone is None or not all(isinstance(block, TFNASBlock) for stage in backbone.layers for block in stage):
        raise ValueError("a model.config is of one network of TFNASNet blocks")
    stages = {f"stage{number}": [_block(b) for b in stage] for number, stage in enumerate(backbone.layers, start=1)}
    return {
        "first_stem": _conv(backbone.first_stem.conv, "relu"),
        "second_stem": _block(backbone.second_stem),
        **stages,
        "feature_mix_layer": _conv(backbone.last_conv.conv, "swish"),
        "classifier": {
            "name": "LinearLayer",
            "in_features": backbone.out_channels,
            "out_features": num_classes,
            "bias": True,
            "use_bn": False,
            "affine": False,
            "act_func": None,
            "ops_order": "weight_bn_act",
        },
    }


def _conv(conv: nn.Conv2d, act: str) -> dict[str, Any]:
    return {
        "name": "ConvLayer",
        "kernel_size": conv.kernel_size[0],
        "stride": conv.stride[0],
        "groups": 1,
        "has_shuffle": False,
        "bias": False,
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "use_bn": True,
        "affine": True,
        "act_func": act,
        "ops_order": "weight_bn_act",
    }


def _block(block: TFNASBlock) -> dict[str, Any]:
    return {
        "name": "MBInvertedResBlock",
        "in_channels": block.in_channels,
        "mid_channels": block.depth_conv.conv.out_channels,  # the block itself says the most there may be
        "se_channels": block.se_channels,
        "out_channels": block.out_channels,
        "kernel_size": block.kernel_size,
        "stride": block.stride,
        "groups": 1,
        "has_shuffle": False,
        "bias": False,
        "use_bn": True,
        "affine": True,
        "act_func": _ACTIVATIONS.get(block.act, block.act.lower()),
    }
