"""The ShuffleNetV2 space of SPOS (arXiv:1904.00420): 20 blocks of four kinds, and their inner widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import ModuleList, Sequential
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS

from .searchable import SearchableBackbone, operator_choice, settings_of
from .shuffle_blocks import STYLES

STAGES = ((64, 4), (160, 4), (320, 8), (640, 4))  # channels, blocks
CHANNEL_SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)  # of half the output of a block
STEM_CHANNELS = 16


@MODELS.register_module()
class SearchableShuffleNetV2(SearchableBackbone):
    """Blocks of the ShuffleNetV2 family, one of several at each place; the first of a stage halves the resolution.

    (N, 3, H, W) to a tuple of (N, C, H', W'). Modules have MMRazor 1.x's names, each choice MMRazor 0.x's as alias
    (``stage_0_block_0``). Without ``init_cfg`` weights begin as in the paper's code.

    Args:
        arch_setting: ``[channels, blocks, mutable_cfg]`` per stage; ``mutable_cfg`` is
            ``dict(type='OneShotMutableOP', candidates=dict(NAME=dict(type='ShuffleBlock', kernel_size=3), ...))``. A
            row without it has the four blocks of the paper. Default: the stages of the paper.
        stem_multiplier: The stem has 16 times as many channels.
        widen_factor: Of the channels of every stage.
        out_indices: Stages whose outputs to give, the last convolution counts as one; default: the last.
        frozen_stages: Nothing is frozen with -1, the stem with 0, the first k stages too with k.
        with_last_layer: Whether a 1x1 convolution follows the stages.
        last_channels: Its width.
        block_style: ``mmrazor`` or ``official``, see ``shuffle_blocks``.
        search_channels: Whether the width inside each block is a choice, of 0.2 to 1.6 times the usual one.
        stem_stride: 2, or 1 for small images.
        conv_cfg, norm_cfg, act_cfg: Layers outside of the blocks, and those of the paper's four blocks; candidates
            that ``arch_setting`` names have their own.
        norm_eval: Whether batch norm keeps its statistics in training.
        init_cfg: mmengine's initialisation.

    Raises:
        UserError: An option that makes no such network.
    """

    def __init__(
        self,
        arch_setting: Sequence[Sequence] | None = None,
        stem_multiplier: int = 1,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        with_last_layer: bool = True,
        last_channels: int = 1024,
        block_style: str = "mmrazor",
        search_channels: bool = False,
        stem_stride: int = 2,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        if block_style not in STYLES:
            raise UserError(
                f"SearchableShuffleNetV2: block_style {block_style!r} is unknown (allowed: {', '.join(STYLES)})"
            )
        layers = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg or {"type": "BN"}, "act_cfg": act_cfg or {"type": "ReLU"}}
        default = {"candidates": candidates(layers)}
        rows = settings_of(arch_setting or STAGES, ("channels", "blocks"), "SearchableShuffleNetV2", default)
        width = STEM_CHANNELS * stem_multiplier
        self.conv1 = ConvModule(3, width, 3, stem_stride, 1, **layers)
        self.layers = ModuleList()
        for stage, (channels, blocks, config) in enumerate(rows):
            out = round(channels * widen_factor)
            widths = inner_widths(out) if search_channels else None
            made = []
            for block in range(blocks):
                options = {"in_channels": width, "out_channels": out, "stride": 1 if block else 2}
                # Blocks of a user's own need not know what is not asked for.
                if block_style != STYLES[0]:
                    options["style"] = block_style
                if widths:
                    options["mid_channels"] = widths[-1]
                alias = f"stage_{stage}_block_{block}"
                made.append(operator_choice(config, alias, options, inner_widths=widths))
                width = out
            self.layers.append(Sequential(*made))
        if with_last_layer:
            self.layers.append(ConvModule(width, last_channels, 1, **layers))
        self.check_stages()

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """See :class:`SearchableBackbone`."""
        return tuple(self.layers)

    def init_weights(self) -> None:
        """Normal weights of 1 / fan-in (0.01 in the stem), where ``init_cfg`` says nothing else."""
        fresh = not self.is_init and self.init_cfg is None
        super().init_weights()
        if not fresh:
            return
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.01 if name.startswith("conv1.") else 1 / module.weight.shape[1])
            elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                nn.init.constant_(module.weight, 1)
                nn.init.constant_(module.bias, 1e-4)


def candidates(layers: dict) -> dict[str, dict]:
    """The paper's four blocks, in its order."""
    blocks = {f"shuffle_{k}x{k}": {"type": "ShuffleBlock", "kernel_size": k, **layers} for k in (3, 5, 7)}
    return {**blocks, "shuffle_xception": {"type": "ShuffleXception", **layers}}


def inner_widths(out_channels: int) -> tuple[int, ...]:
    """The widths that the inside of a block may have, ascending; fractions are cut off, as in the paper's code."""
    return tuple(sorted({max(1, int(out_channels // 2 * scale)) for scale in CHANNEL_SCALES}))
