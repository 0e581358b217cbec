"""The networks of AutoSlim's CIFAR-10 tables for 32x32 images: ResNet-56, WRN-40-4, MobileNetV2.

Each is (N, 3, H, W) -> tuple of one tensor (N, ``out_channel``, H / s, W / s), with s = 4 but for MobileNetV2 (8), and
holds layers and blocks of mmpretrain wherever it has them.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, build_conv_layer, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS

from .inverted_residual import inverted_residual_net

MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 1), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


@MODELS.register_module(name="CifarResNet")
def cifar_resnet(depth: int = 56, widen_factor: float = 1.0, norm_cfg: dict | None = None) -> BaseModule:
    """The residual network of 6n+2 layers for 32x32 images: three stages of n blocks with 16, 32 and 64 channels.

    It is mmpretrain's ``ResNet_CIFAR`` with other stages; a block that changes the shape has a 1x1 convolution and a
    norm beside it (option B of arXiv:1512.03385, section 4.2).

    Args:
        depth: 20, 32, 44, 56, 110 ...
        widen_factor: times as many channels everywhere.
        norm_cfg: normalisation, as in mmcv.

    Raises:
        UserError: a depth that is not 6n+2, or a widen_factor that leaves no channel.
    """
    from mmpretrain.models.backbones import ResNet_CIFAR  # slow to import
    from mmpretrain.models.backbones.resnet import BasicBlock, ResLayer

    blocks = _blocks("CifarResNet", depth, 6, 2)
    widths = _scaled("CifarResNet", (16, 32, 64), widen_factor)
    norm_cfg = norm_cfg or {"type": "BN"}
    shape = {"num_stages": 3, "strides": (1, 2, 2), "dilations": (1, 1, 1), "out_indices": (2,)}
    net = ResNet_CIFAR(18, stem_channels=widths[0], base_channels=widths[0], norm_cfg=norm_cfg, **shape)
    before = widths[0]
    for name, width, stride in zip(net.res_layers, widths, shape["strides"], strict=True):
        setattr(net, name, ResLayer(BasicBlock, blocks, before, width, stride=stride, norm_cfg=norm_cfg))
        before = width
    net.stage_blocks, net.feat_dim, net.out_channel = (blocks,) * 3, before, before
    return net


@MODELS.register_module(name="CifarMobileNetV2")
def cifar_mobilenet_v2(
    widen_factor: float = 1.0,
    settings: Sequence[Sequence[int]] = MOBILENET_V2,
    stem_channels: int = 32,
    last_channels: int = 1280,
    norm_cfg: dict | None = None,
) -> BaseModule:
    """MobileNetV2 for 32x32 images as AutoSlim_TF2 has it: three strides, and an expansion in the first block too.

    Args:
        widen_factor: times as many channels everywhere.
        settings: ``(expansion, channels, blocks, stride)`` per stage.
        stem_channels, last_channels: of the first and of the last convolution.
        norm_cfg: normalisation, as in mmcv.

    Raises:
        UserError: stages that are not four positive integers, or a widen_factor that leaves no channel.
    """
    if any(len(stage) != 4 for stage in settings):
        raise UserError(f"CifarMobileNetV2: settings={settings}: each stage is (expansion, channels, blocks, stride)")
    full = (stem_channels, last_channels, *(stage[1] for stage in settings))
    stem, last, *widths = _scaled("CifarMobileNetV2", full, widen_factor)
    stages = [(t, width, n, s) for (t, _, n, s), width in zip(settings, widths, strict=True)]
    net = inverted_residual_net(stages, stem, 1, last, norm_cfg)
    for name in net.layers[:-1]:
        for block in getattr(net, name):
            depthwise = block.conv[0]
            if depthwise.conv.groups > 1:  # mmpretrain's block leaves out an expansion of 1
                width = depthwise.conv.in_channels
                block.conv.insert(0, ConvModule(width, width, 1, norm_cfg=net.norm_cfg, act_cfg=net.act_cfg))
    return net


class PreActivationBlock(BaseModule):
    """Norm, ReLU, 3x3 convolution, twice; (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride).

    Args:
        in_channels, out_channels, stride: shape of the block; where it changes one, a 1x1 convolution without norm
            carries the input to the sum.
        norm_cfg: normalisation, as in mmcv.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm_cfg: dict) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.conv1 = build_conv_layer(None, in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, out_channels)[1]
        self.conv2 = build_conv_layer(None, out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = build_conv_layer(None, in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        out = self.conv1(functional.relu(self.norm1(x)))
        out = self.conv2(functional.relu(self.norm2(out)))
        return out + (x if self.shortcut is None else self.shortcut(x))


@MODELS.register_module(name="CifarWideResNet")
class CifarWideResNet(BaseModule):
    """The wide residual network of 6n+4 layers (arXiv:1605.07146): three stages of n blocks, norms before convolutions.

    Args:
        depth: 16, 22, 28, 40 ...
        widen: the k of WRN-depth-k; the stages have 16k, 32k and 64k channels behind a stem of 16.
        widen_factor: times as many channels everywhere, the stem too.
        norm_cfg: normalisation, as in mmcv.
        init_cfg: mmengine's initialisation; that of the paper by default.

    Raises:
        UserError: a depth that is not 6n+4, or factors that leave no channel.
    """

    def __init__(
        self,
        depth: int = 40,
        widen: float = 4,
        widen_factor: float = 1.0,
        norm_cfg: dict | None = None,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        default = [{"type": "Kaiming", "layer": "Conv2d"}, {"type": "Constant", "val": 1, "layer": "_BatchNorm"}]
        super().__init__(default if init_cfg is None else init_cfg)
        blocks = _blocks("CifarWideResNet", depth, 6, 4)
        full = (16, *(width * widen for width in (16, 32, 64)))
        stem, *widths = _scaled("CifarWideResNet", full, widen_factor)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.conv1 = build_conv_layer(None, 3, stem, 3, padding=1, bias=False)
        before = stem
        for number, (width, stride) in enumerate(zip(widths, (1, 2, 2), strict=True), start=1):
            stage = []
            for index in range(blocks):
                stage.append(PreActivationBlock(before, width, stride if index == 0 else 1, norm_cfg))
                before = width
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.norm = build_norm_layer(norm_cfg, before)[1]
        self.out_channel = before

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Run the network."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return (functional.relu(self.norm(x)),)


def _blocks(name: str, depth: int, per_block: int, rest: int) -> int:
    """Blocks of a stage."""
    if type(depth) is not int or depth <= rest or (depth - rest) % per_block:
        allowed = ", ".join(str(per_block * n + rest) for n in range(1, 10))
        raise UserError(f"{name}: depth={depth!r}, it must be {per_block}n+{rest}: {allowed} ...")
    return (depth - rest) // per_block


def _scaled(name: str, widths: Sequence[float], factor: float) -> list[int]:
    scaled = [round(width * factor) if isinstance(factor, int | float) else 0 for width in widths]
    if min(scaled) < 1:
        raise UserError(f"{name}: factor {factor!r} makes {list(widths)} {scaled}; every width needs a channel")
    return scaled
