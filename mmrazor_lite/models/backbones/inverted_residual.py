"""A MobileNetV2 whose stages are given in the config, for images smaller than ImageNet's."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS


@MODELS.register_module(name="InvertedResidualNet")
def inverted_residual_net(
    settings: Sequence[Sequence[int]],
    stem_channels: int = 32,
    stem_stride: int = 1,
    last_channels: int = 1280,
    norm_cfg: dict | None = None,
) -> BaseModule:
    """MobileNetV2 blocks in any number, width and stride, so that small images keep their resolution.

    The network is mmpretrain's ``MobileNetV2`` with other stages (table 2 of arXiv:1801.04381): a subnet of it holds
    no class of this project. (N, 3, H, W) -> tuple of one tensor (N, last_channels, H', W').

    Args:
        settings: one ``(expansion, channels, blocks, stride)`` per stage.
        stem_channels: width of the first convolution.
        stem_stride: its stride.
        last_channels: width of the 1x1 convolution before pooling.
        norm_cfg: normalisation, as in mmcv.

    Raises:
        UserError: a stage that is not four positive integers.
    """
    from mmpretrain.models.backbones import MobileNetV2  # slow to import

    for stage in settings:
        if len(stage) != 4 or any(not isinstance(value, int) or value < 1 for value in stage):
            raise UserError(
                f"InvertedResidualNet: settings has {stage}, each stage is four positive integers "
                "(expansion, channels, blocks, stride)"
            )
    net = MobileNetV2(widen_factor=0.1, norm_cfg=norm_cfg or {"type": "BN"})
    for name in net.layers:
        delattr(net, name)
    options = {"norm_cfg": net.norm_cfg, "act_cfg": net.act_cfg}
    net.conv1 = ConvModule(3, stem_channels, 3, stem_stride, 1, **options)
    net.in_channels = stem_channels
    net.layers = []
    for number, (expansion, channels, blocks, stride) in enumerate(settings, start=1):
        net.add_module(f"layer{number}", net.make_layer(channels, blocks, stride, expansion))
        net.layers.append(f"layer{number}")
    net.add_module("conv2", ConvModule(net.in_channels, last_channels, 1, **options))
    net.layers.append("conv2")
    net.out_channel = last_channels
    net.out_indices = (len(net.layers) - 1,)
    return net
