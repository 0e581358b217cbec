"""The blocks of the SPOS space (arXiv:1904.00420), in the conventions of its authors and of MMRazor.

Both split their output between a branch that keeps what came in (``branch1``, or nothing at all) and one that works
(``branch2``); they differ in who gets how many channels and in where the channels are shuffled.

=============  =========================================  ==============================================
convention     ``mmrazor``                                ``official``
=============  =========================================  ==============================================
stride 1       halves pass and work, then the shuffle     the shuffle, then halves pass and work
otherwise      both branches make half of the output,     ``branch1`` keeps the width of the input,
               then the shuffle                           ``branch2`` makes the rest
=============  =========================================  ==============================================

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import MODELS

STYLES = ("mmrazor", "official")


class ShuffleUnit(BaseModule):
    """What the blocks share: (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    A subclass says in ``_work`` what ``branch2`` is.

    Args:
        in_channels, out_channels: Both even; equal where the stride is 1.
        stride: 1 or 2.
        kernel_size: Of the depthwise convolutions.
        mid_channels: Width inside ``branch2``; half of the output where it is not given.
        style: One of :data:`STYLES`.
        conv_cfg, norm_cfg, act_cfg: Layers, as in mmcv.
        init_cfg: mmengine's initialisation.

    Raises:
        UserError: Channels, stride, kernel or style that no such block has.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        kernel_size: int = 3,
        mid_channels: int | None = None,
        style: str = "mmrazor",
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        name = type(self).__name__
        if style not in STYLES:
            raise UserError(f"{name}: style {style!r} is unknown (allowed: {', '.join(STYLES)})")
        if stride not in (1, 2):
            raise UserError(f"{name}: stride must be 1 or 2, got {stride!r}")
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"{name}: kernel_size must be odd, got {kernel_size!r}")
        if in_channels % 2 or out_channels % 2 or (stride == 1 and in_channels != out_channels):
            raise UserError(
                f"{name}: {in_channels} to {out_channels} channels with stride {stride}; both must be even, and equal "
                "where the stride is 1"
            )
        if style == "official" and stride > 1 and out_channels <= in_channels:
            raise UserError(
                f"{name}: official blocks with stride {stride} need more channels out than in, got {in_channels} to "
                f"{out_channels}"
            )
        self.style, self.stride = style, stride
        self.layers = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg or {"type": "BN"}}
        self.act_cfg = act_cfg or {"type": "ReLU"}
        self.mid_channels = mid_channels or out_channels // 2
        self.work_in = in_channels if stride > 1 else in_channels // 2
        kept = in_channels if style == "official" and stride > 1 else out_channels // 2
        self.work_out = out_channels - kept
        if stride > 1:
            self.branch1 = nn.Sequential(
                self._depthwise(in_channels, kernel_size, stride), self._pointwise(in_channels, kept)
            )
        self.branch2 = self._work(kernel_size)

    def _work(self, kernel_size: int) -> nn.Sequential:
        """``branch2``: from ``work_in`` to ``work_out`` channels over ``mid_channels``."""
        raise NotImplementedError

    def _depthwise(self, channels: int, kernel_size: int, stride: int = 1) -> ConvModule:
        options = {"padding": kernel_size // 2, "groups": channels, "act_cfg": None, **self.layers}
        return ConvModule(channels, channels, kernel_size, stride, **options)

    def _pointwise(self, in_channels: int, out_channels: int) -> ConvModule:
        return ConvModule(in_channels, out_channels, 1, act_cfg=self.act_cfg, **self.layers)

    def _group(self, producers: Sequence[str], reader: str) -> dict[str, list[str]]:
        """Convolutions of one width with their norms, and the convolution that reads them."""
        names = []
        for part in producers:
            module = self.get_submodule(part)
            names += [f"{part}.conv"] + ([f"{part}.{module.norm_name}"] if module.with_norm else [])
        return {"out": names, "into": [f"{reader}.conv"]}

    def forward(self, x: Tensor) -> Tensor:
        """Run both branches and join them."""
        official = self.style == "official"
        if self.stride > 1:
            kept, work = self.branch1(x), x
        else:
            kept, work = (shuffle(x, x.shape[1] // 2) if official else x).chunk(2, dim=1)
        out = torch.cat((kept, self.branch2(work)), dim=1)
        return out if official else shuffle(out, 2)


@MODELS.register_module()
class ShuffleBlock(ShuffleUnit):
    """1x1, depthwise k x k, 1x1: the block ``shuffle_kxk``; arguments as :class:`ShuffleUnit`."""

    def _work(self, kernel_size: int) -> nn.Sequential:
        return nn.Sequential(
            self._pointwise(self.work_in, self.mid_channels),
            self._depthwise(self.mid_channels, kernel_size, self.stride),
            self._pointwise(self.mid_channels, self.work_out),
        )

    @property
    def inner_groups(self) -> tuple[dict[str, list[str]], ...]:
        """The layers of ``mid_channels`` outputs, and the one that reads them."""
        return (self._group(("branch2.0", "branch2.1"), "branch2.2"),)


@MODELS.register_module()
class ShuffleXception(ShuffleUnit):
    """Three times depthwise (3x3 in the paper) and 1x1: ``shuffle_xception``; arguments as :class:`ShuffleUnit`."""

    def _work(self, kernel_size: int) -> nn.Sequential:
        options = {"padding": kernel_size // 2, "dw_act_cfg": None, "act_cfg": self.act_cfg, **self.layers}
        mid = self.mid_channels
        return nn.Sequential(
            DepthwiseSeparableConvModule(self.work_in, mid, kernel_size, self.stride, **options),
            DepthwiseSeparableConvModule(mid, mid, kernel_size, **options),
            DepthwiseSeparableConvModule(mid, self.work_out, kernel_size, **options),
        )

    @property
    def inner_groups(self) -> tuple[dict[str, list[str]], ...]:
        """As of :class:`ShuffleBlock`: the outputs of the first 1x1, and those of the second."""
        return tuple(
            self._group(
                (f"branch2.{i}.pointwise_conv", f"branch2.{i + 1}.depthwise_conv"),
                f"branch2.{i + 1}.pointwise_conv",
            )
            for i in (0, 1)
        )


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel i of every group in turn: (N, C, H, W) to the same shape."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)
