"""The supernets of Once-for-All: MobileNetV3 and ProxylessNAS with elastic depth, kernel and expansion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, check_flag
from mmrazor_lite.models.mutables import MutableDepth
from mmrazor_lite.registry import MODELS

from .ofa_blocks import OFABlock, conv_norm_act, divisible

# [channels, blocks, stride, activation, squeeze-and-excitation] of each elastic stage, at width 1.0.
MOBILENET_V3 = (
    (24, 4, 2, "ReLU", False),
    (40, 4, 2, "ReLU", True),
    (80, 4, 2, "HSwish", False),
    (112, 4, 1, "HSwish", True),
    (160, 4, 2, "HSwish", True),
)
PROXYLESS_NAS = (
    (24, 4, 2, "ReLU6", False),
    (40, 4, 2, "ReLU6", False),
    (80, 4, 2, "ReLU6", False),
    (96, 4, 1, "ReLU6", False),
    (192, 4, 2, "ReLU6", False),
    (320, 1, 1, "ReLU6", False),
)
ROW = "[channels, blocks, stride, 'ReLU', 'ReLU6' or 'HSwish', True or False]"


class OFABackbone(BaseModule):
    """A stem, a first block, elastic stages and a tail that gives features: (N, 3, H, W) to ((N, out_channels),).

    Module ``layers.S.B`` is block B of stage S; stage 0 is the first block, which is not elastic.

    Where ``arch_setting``, ``width_mult``, ``stem_channels``, ``tail_channels`` or ``norm_cfg`` is not given, it is the
    published one, which a subclass has as an attribute.

    Args:
        arch_setting: ``[channels, blocks, stride, activation, squeeze-and-excitation]`` of each elastic stage at width
            1.0.
        width_mult: Times all channels, made multiples of 8.
        kernel_sizes, expand_ratios: Of every elastic block, ascending; or a list of them for each stage.
        depths: Blocks of a stage that may run, ascending; a stage has those up to its own number of blocks. Or a list
            of them for each stage.
        stem_channels, first_channels, tail_channels: Of the stem, of the first block, and of the layers of the tail.
        stem_stride: 2, or 1 for small images.
        dropout: Probability, on the features.
        norm_cfg: Norm layers, as in mmcv.
        zero_init_residual: Begin with residual blocks that add nothing: the last norm of each gives zeros.
        init_cfg: mmengine's initialisation; default: Kaiming by fan-out.

    Raises:
        UserError: An option that makes no such network.
    """

    ARCH_SETTING: Sequence[Sequence]
    WIDTH_MULT: float
    STEM_CHANNELS: int
    TAIL_CHANNELS: Sequence[int]
    NORM_CFG: Mapping[str, Any] = {"type": "BN"}
    STEM_ACT: str  # of the tail too
    FIRST_ACT: str  # of the first block

    def __init__(
        self,
        arch_setting: Sequence[Sequence] | None = None,
        width_mult: float | None = None,
        kernel_sizes: Sequence[int] | Sequence[Sequence[int]] = (3, 5, 7),
        expand_ratios: Sequence[int | float] | Sequence[Sequence[int | float]] = (3, 4, 6),
        depths: Sequence[int] | Sequence[Sequence[int]] = (2, 3, 4),
        stem_channels: int | None = None,
        first_channels: int = 16,
        tail_channels: Sequence[int] | None = None,
        stem_stride: int = 2,
        dropout: float = 0.1,
        norm_cfg: dict | None = None,
        zero_init_residual: bool = False,
        init_cfg: Any = None,
    ) -> None:
        check_flag(f"{type(self).__name__}: zero_init_residual", zero_init_residual)
        if init_cfg is None:
            kaiming = {"type": "Kaiming", "layer": ["Conv2d"], "mode": "fan_out"}
            init_cfg = [kaiming, {"type": "Constant", "val": 1, "layer": "_BatchNorm"}]
        super().__init__(init_cfg)
        name, norm_cfg = type(self).__name__, norm_cfg or dict(self.NORM_CFG)
        width_mult = self.WIDTH_MULT if width_mult is None else width_mult
        tail = _tail_channels(self.TAIL_CHANNELS if tail_channels is None else tail_channels, self)
        if isinstance(width_mult, bool) or not isinstance(width_mult, int | float) or not 0.1 <= width_mult <= 10:
            raise UserError(f"{name}: width_mult={width_mult!r} must be a number of 0.1 to 10, such as 1.0 or 1.2")
        rows = _checked(self.ARCH_SETTING if arch_setting is None else arch_setting, name)
        self.width_mult, self.norm_cfg, self.zero_init_residual = width_mult, norm_cfg, zero_init_residual
        width = self._wide(self.STEM_CHANNELS if stem_channels is None else stem_channels)
        self.first_conv = conv_norm_act(
            nn.Conv2d(3, width, 3, stem_stride, 1, bias=False), norm_cfg, activation(self.STEM_ACT)
        )
        first = self._wide(first_channels)
        block = OFABlock(width, first, (3,), (1,), 1, False, norm_cfg, activation(self.FIRST_ACT))
        stages: list[nn.Module] = [nn.Sequential(block)]
        width = first
        choices = ("kernel_sizes", kernel_sizes), ("expand_ratios", expand_ratios), ("depths", depths)
        offered = zip(*(_of_stages(values, len(rows), f"{name}: {key}") for key, values in choices), strict=True)
        for (channels, blocks, stride, act, use_se), (kernels, ratios, numbers) in zip(rows, offered, strict=True):
            out, made = self._wide(channels), []
            for index in range(blocks):
                step = 1 if index else stride
                made.append(OFABlock(width, out, kernels, ratios, step, use_se, norm_cfg, activation(act)))
                width = out
            stages.append(MutableDepth(*made, depths=_depths(numbers, blocks, name)))
        self.layers = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.out_channels = self._add_tail(width, [self._wide(channels) for channels in tail], self.STEM_ACT)
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def features_at(cls, width_mult: float, tail_channels: Sequence[int] | None = None, **options: Any) -> int:
        """The number of features of a network with these options."""
        return divisible((tail_channels or cls.TAIL_CHANNELS)[-1] * width_mult)

    def _wide(self, channels: int) -> int:
        return divisible(channels * self.width_mult)

    def _add_tail(self, width: int, channels: Sequence[int], act: str) -> int:
        """Add the layers behind the stages; return the number of features."""
        raise NotImplementedError

    def _tail(self, x: Tensor) -> Tensor:
        """(N, C, H, W) of the last stage to (N, out_channels, 1, 1)."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """Initialise the weights; with ``zero_init_residual``, the last norm of every residual block with zeros."""
        fresh = not self.is_init
        super().init_weights()
        for block in self.modules() if fresh and self.zero_init_residual else ():
            if isinstance(block, OFABlock) and block.residual:
                nn.init.zeros_(block.point_linear.bn.weight)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Give the features of ``x``."""
        return (self.dropout(self._tail(self.layers(self.first_conv(x))).flatten(1)),)


@MODELS.register_module()
class OFAMobileNetV3(OFABackbone):
    """MobileNetV3 of Once-for-All (arXiv:1908.09791; its authors' ``OFAMobileNetV3``), published at width 1.0 and 1.2.

    The arguments are those of :class:`OFABackbone`; ``tail_channels`` are of the 1x1 convolution before the pooling and
    of the one behind it.
    """

    ARCH_SETTING, WIDTH_MULT, STEM_CHANNELS, TAIL_CHANNELS = MOBILENET_V3, 1.0, 16, (960, 1280)
    STEM_ACT, FIRST_ACT = "HSwish", "ReLU"

    def _add_tail(self, width: int, channels: Sequence[int], act: str) -> int:
        final, features = channels
        self.final_expand_layer = conv_norm_act(nn.Conv2d(width, final, 1, bias=False), self.norm_cfg, activation(act))
        self.feature_mix_layer = conv_norm_act(nn.Conv2d(final, features, 1, bias=False), None, activation(act))
        return features

    def _tail(self, x: Tensor) -> Tensor:
        return self.feature_mix_layer(self.pool(self.final_expand_layer(x)))


@MODELS.register_module()
class OFAProxylessNAS(OFABackbone):
    """ProxylessNAS of Once-for-All (arXiv:1908.09791; ``OFAProxylessNASNets`` of its authors), published at width 1.3.

    The arguments are those of :class:`OFABackbone`; ``tail_channels`` has the one of the 1x1 convolution before the
    pooling.
    """

    ARCH_SETTING, WIDTH_MULT, STEM_CHANNELS, TAIL_CHANNELS = PROXYLESS_NAS, 1.3, 32, (1280,)
    STEM_ACT = FIRST_ACT = "ReLU6"
    NORM_CFG = {"type": "BN", "eps": 1e-3}

    def _add_tail(self, width: int, channels: Sequence[int], act: str) -> int:
        self.feature_mix_layer = conv_norm_act(
            nn.Conv2d(width, channels[0], 1, bias=False), self.norm_cfg, activation(act)
        )
        return channels[0]

    def _tail(self, x: Tensor) -> Tensor:
        return self.pool(self.feature_mix_layer(x))


def activation(name: str) -> dict:
    """Config of an activation by its short name."""
    return {"type": name, "inplace": True}


def _checked(rows: Any, where: str) -> list[tuple]:
    checked = []
    for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
        row = tuple(row) if isinstance(row, Sequence) else (row,)
        good = len(row) == 5 and all(type(value) is int and value > 0 for value in row[:3]) and row[2] in (1, 2)
        if not good or row[3] not in ("ReLU", "ReLU6", "HSwish") or not isinstance(row[4], bool):
            raise UserError(f"{where}: arch_setting has the row {str(list(row))[:80]}; each is {ROW}")
        checked.append(row)
    if not checked:
        raise UserError(f"{where}: arch_setting must list at least one stage, {ROW}")
    return checked


def _of_stages(values: Any, stages: int, where: str) -> list:
    """What each stage offers: ``values`` themselves, or an own list of each."""
    several = isinstance(values, Sequence) and not isinstance(values, str)
    if not several or not any(isinstance(part, Sequence) for part in values):
        return [values] * stages
    if len(values) != stages or not all(isinstance(part, Sequence) for part in values):
        raise UserError(f"{where} {list(values)} must be one list for all stages, or a list for each of the {stages}")
    return list(values)


def _depths(depths: Sequence[int], blocks: int, where: str) -> tuple[int, ...]:
    """The depths that a stage of so many blocks can have: all of them is always one."""
    given = list(depths) if isinstance(depths, Sequence) and not isinstance(depths, str) else [depths]
    whole = given and all(type(depth) is int and depth > 0 for depth in given)
    if not whole or given != sorted(set(given)):
        raise UserError(f"{where}: depths {given} must be ascending whole numbers of 1 or more, such as [2, 3, 4]")
    return (*(depth for depth in given if depth < blocks), blocks)


def _tail_channels(channels: Sequence[int], network: OFABackbone) -> list[int]:
    channels, number = list(channels) if isinstance(channels, Sequence) else [channels], len(network.TAIL_CHANNELS)
    if len(channels) != number or any(type(value) is not int or value < 1 for value in channels):
        raise UserError(f"{type(network).__name__}: tail_channels {channels} must be {number} positive whole number(s)")
    return channels
