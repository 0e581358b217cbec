"""The MobileNet space of ProxylessNAS as SPOS, AngleNAS and FairNAS search it: kernel, expansion, or no block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import Sequential
from torch import nn

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.registry import MODELS, SCOPE

from .searchable import SearchableBackbone, operator_choice, settings_of

# MMRazor 0.x's arch_setting_type (the last one is FairNAS's) -> channels, blocks, stride of each stage.
ARCH_SETTINGS = {
    "original": ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)),
    "proxyless_gpu": ((24, 1, 1), (32, 4, 2), (56, 4, 2), (112, 4, 2), (128, 4, 1), (256, 4, 2), (432, 1, 1)),
    "fairnas_cpu": ((16, 1, 1), (32, 2, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1)),
}
IDENTITY = ("conv", "skip")


@MODELS.register_module(name=["SearchableMobileNet", "SearchableMobileNetV2"])
class SearchableMobileNet(SearchableBackbone):
    """Inverted residuals of several kernels and expansions, or none, at each place.

    (N, 3, H, W) to a tuple of (N, C, H', W'). Modules have MMRazor 1.x's names (``layer1.0``), each choice MMRazor
    0.x's as alias (``stage_0_block_0``).

    Args:
        arch_setting: ``[channels, blocks, stride, mutable_cfg]`` per stage; ``mutable_cfg`` is
            ``dict(type='OneShotMutableOP', candidates=dict(NAME=dict(type='MBBlock', kernel_size=3, expand_ratio=6),
            ...))``. A row without it has mb_k{3,5,7}e{3,6} and identity, the first row mb_k3e1 alone.
        arch_setting_type: Instead of ``arch_setting``: a key of :data:`ARCH_SETTINGS`; ``fairnas_cpu`` has no identity.
        first_channels: Width of the stem.
        last_channels: Width of the 1x1 convolution at the end.
        widen_factor: Of all widths, made multiples of 8; of the last one only above 1.
        out_indices: Stages whose outputs to give, the last convolution counts as one; default: the last.
        frozen_stages: Nothing is frozen with -1, the stem with 0, the first k stages too with k.
        identity: What ``Identity`` is where a block changes the shape: ``conv`` for MMRazor's 1x1 convolution, ``skip``
            for AngleNAS's rule, which does not have it there.
        stem_stride: 2, or 1 for small images.
        conv_cfg, norm_cfg, act_cfg: Layers outside of the blocks, and those of the default blocks; candidates that
            ``arch_setting`` names have their own.
        norm_eval: Whether batch norm keeps its statistics in training.
        init_cfg: mmengine's initialisation; default: Kaiming.

    Raises:
        UserError: An option that makes no such network.
    """

    def __init__(
        self,
        arch_setting: Sequence[Sequence] | None = None,
        arch_setting_type: str | None = None,
        first_channels: int = 32,
        last_channels: int = 1280,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        identity: str = "conv",
        stem_stride: int = 2,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: Any = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [{"type": "Kaiming", "layer": ["Conv2d"]}, {"type": "Constant", "val": 1, "layer": "_BatchNorm"}]
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        if identity not in IDENTITY:
            raise UserError(f"SearchableMobileNet: identity {identity!r} is unknown (allowed: {', '.join(IDENTITY)})")
        layers = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg or {"type": "BN"}, "act_cfg": act_cfg or {"type": "ReLU6"}}
        width = _rounded(first_channels, widen_factor)
        self.conv1 = ConvModule(3, width, 3, stem_stride, 1, **layers)
        self.layers: list[str] = []
        for stage, (channels, blocks, stride, config) in enumerate(_rows(arch_setting, arch_setting_type, layers)):
            out = _rounded(channels, widen_factor)
            made = []
            for block in range(blocks):
                options = {"in_channels": width, "out_channels": out, "stride": 1 if block else stride}
                kept = options["stride"] == 1 and width == out
                chosen = config if kept or identity == "conv" else _without_identity(config)
                made.append(operator_choice(chosen, f"stage_{stage}_block_{block}", options))
                width = out
            self._add(f"layer{stage + 1}", Sequential(*made))
        self._add("conv2", ConvModule(width, int(last_channels * max(1.0, widen_factor)), 1, **layers))
        self.check_stages()

    def _add(self, name: str, module: nn.Module) -> None:
        self.add_module(name, module)
        self.layers.append(name)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """See :class:`SearchableBackbone`."""
        return tuple(getattr(self, name) for name in self.layers)


def candidates(layers: dict, identity: bool = True) -> dict[str, dict]:
    """The blocks to choose from, in MMRazor's order."""
    found = {
        f"mb_k{k}e{e}": {"type": "MBBlock", "kernel_size": k, "expand_ratio": e, **layers}
        for e in (3, 6)
        for k in (3, 5, 7)
    }
    if identity:
        found["identity"] = {"type": "Identity", **layers, "act_cfg": None}
    return found


def _rows(rows: Sequence[Sequence] | None, name: str | None, layers: dict) -> list[tuple]:
    where, numbers = "SearchableMobileNet", ("channels", "blocks", "stride")
    if rows is not None and name is not None:
        raise UserError(f"{where}: give arch_setting or arch_setting_type, not both")
    if rows is None:
        name = name or "original"
        if name not in ARCH_SETTINGS:
            raise UserError(
                f"{where}: arch_setting_type {name!r} is unknown{nearest(name, ARCH_SETTINGS)} (allowed: "
                f"{', '.join(ARCH_SETTINGS)})"
            )
        rows = ARCH_SETTINGS[name]
    first = {"candidates": {"mb_k3e1": {"type": "MBBlock", "kernel_size": 3, "expand_ratio": 1, **layers}}}
    others = {"candidates": candidates(layers, identity=name != "fairnas_cpu")}
    return settings_of(rows, numbers, where, others, first)


def _without_identity(config: Mapping) -> dict:
    kept = {
        name: candidate
        for name, candidate in config["candidates"].items()
        if not isinstance(candidate, Mapping) or str(candidate.get("type")).removeprefix(f"{SCOPE}.") != "Identity"
    }
    return {**config, "candidates": kept}


def _rounded(channels: int, factor: float) -> int:
    """The nearest multiple of 8, of at least 90 % (MobileNetV2's rule)."""
    exact = channels * factor
    value = max(8, int(exact + 4) // 8 * 8)
    return value if value >= 0.9 * exact else value + 8
