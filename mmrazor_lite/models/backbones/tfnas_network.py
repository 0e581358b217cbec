"""The search space of TF-NAS: eight inverted residuals for every block, any depth, and a width for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.mutables import MutableDepth, MutableOP
from mmrazor_lite.registry import MODELS

from .ofa_blocks import conv_norm_act
from .tfnas_block import TFNASBlock

# Channels, blocks, stride and activation of each stage; models/model_search.py of the authors.
STAGES = (
    (24, 2, 2, "ReLU"),
    (40, 3, 2, "SiLU"),
    (80, 4, 2, "SiLU"),
    (112, 4, 1, "SiLU"),
    (192, 4, 2, "SiLU"),
    (320, 1, 1, "SiLU"),
)
MOST = {3: 4, 6: 8}  # expansion in the name of an operator -> most inner channels, as a multiple of those that come in
SE = {3: 1, 6: 2}  # channels inside its squeeze-and-excitation, likewise


@MODELS.register_module()
class TFNASNet(BaseModule):
    """Stem, stages of operator choices, 1x1 convolution and pooling; (N, 3, H, W) to a tuple of one (N, C).

    An operator ``MBI_kK_eE`` or ``MBI_kK_eE_se`` has a depthwise kernel K and half to all of ``MOST[E]`` times as many
    channels inside as come in.

    Source: TF-NAS, arXiv:2008.05314, sections 3.1 to 3.3.

    Args:
        arch_setting: One (channels, blocks, stride, activation) per stage.
        stem_channels: Of the first convolution, and of the block behind it.
        stem_stride: Of the first convolution.
        stem_se: Channels inside the squeeze-and-excitation of the block behind it.
        last_channels: Of the 1x1 convolution behind the stages: the features.
        dropout: Probability, on the features.
        drop_connect: Probability that the last block is left out of its residual sum in training; it falls linearly to
            the first one. For retraining: blocks are counted in the network as it is.
        norm_cfg: Normalisation, as in mmcv; a search runs without statistics and affine parameters.
        init_cfg: mmengine's initialisation.

    Raises:
        UserError: A stage that is none, or a probability that is none.
    """

    def __init__(
        self,
        arch_setting: Sequence[Sequence] = STAGES,
        stem_channels: Sequence[int] = (32, 16),
        stem_stride: int = 2,
        stem_se: int = 8,
        last_channels: int = 1280,
        dropout: float = 0.0,
        drop_connect: float = 0.0,
        norm_cfg: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value in (("dropout", dropout), ("drop_connect", drop_connect)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise UserError(f"TFNASNet: {name}={value!r} must be a probability from 0 to below 1")
        norm_cfg = norm_cfg or {"type": "BN"}
        self.drop_connect, self.out_channels = float(drop_connect), last_channels
        first, width = stem_channels
        relu, swish = {"type": "ReLU"}, {"type": "SiLU"}
        self.first_stem = conv_norm_act(nn.Conv2d(3, first, 3, stem_stride, 1, bias=False), norm_cfg, relu)
        self.second_stem = TFNASBlock(first, width, first, se_channels=stem_se, norm_cfg=norm_cfg, act_cfg=relu)
        stages = []
        for channels, blocks, stride, act in _checked(arch_setting):
            made = []
            for index in range(blocks):
                step = 1 if index else stride
                made.append(MutableOP(candidates(width, channels, step, norm_cfg, {"type": act})))
                width = channels
            stages.append(MutableDepth(*made, depths=range(1, blocks + 1)))
        self.layers = nn.Sequential(*stages)
        self.last_conv = conv_norm_act(nn.Conv2d(width, last_channels, 1, bias=False), norm_cfg, swish)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Give the features of ``x``."""
        x = self.layers(self.second_stem(self.first_stem(x)))
        return (self.dropout(self.pool(self.last_conv(x)).flatten(1)),)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode; in training, each block drops its connection as its place in this network asks for."""
        super().train(mode)
        blocks = [self.second_stem, *(block for stage in self.layers for block in stage)]
        for number, block in enumerate(blocks, start=1):
            for module in block.modules():
                if isinstance(module, DropPath):
                    module.drop_prob = self.drop_connect * number / len(blocks)
        return self


def candidates(in_channels: int, out_channels: int, stride: int, norm_cfg: dict, act_cfg: dict) -> dict[str, dict]:
    """The operators of one block, in the order of the authors."""
    found = {}
    for use_se in (False, True):
        for kernel in (3, 5):
            for expansion in (3, 6):
                most = MOST[expansion] * in_channels
                found[f"MBI_k{kernel}_e{expansion}{'_se' if use_se else ''}"] = {
                    "type": "TFNASBlock",
                    "_scope_": "mmrazor_lite",
                    "in_channels": in_channels,
                    "out_channels": out_channels,
                    "mid_channels": most,
                    "kernel_size": kernel,
                    "stride": stride,
                    "se_channels": SE[expansion] * in_channels if use_se else 0,
                    "mid_widths": range(most // 2, most + 1),
                    "norm_cfg": norm_cfg,
                    "act_cfg": act_cfg,
                }
    return found


def _checked(rows: Sequence[Sequence]) -> list[tuple]:
    what = "[channels, blocks, stride, activation], such as [40, 3, 2, 'SiLU']"
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise UserError(f"TFNASNet: arch_setting must list at least one stage, {what}; got {rows!r}")
    for row in rows:
        good = isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 4
        if not good or not all(type(value) is int and value > 0 for value in row[:3]) or not isinstance(row[3], str):
            raise UserError(f"TFNASNet: arch_setting has the row {str(row)[:80]}; each is {what}")
    return [tuple(row) for row in rows]
