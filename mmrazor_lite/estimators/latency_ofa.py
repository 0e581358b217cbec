"""The latency tables published with Once-for-All and ProxylessNAS, as tables of a search space of ours.

A table maps a layer in words, such as ``Conv_1-input:5x5x192-output:5x5x1152``, to milliseconds:

- Note10 (arXiv:1908.09791, section 4.2): ``OFAMobileNetV3`` at width 1.2, one table per resolution. A block is
  ``expanded_conv-input:HxWxC-output:HxWxC-expand:MID-kernel:K-stride:S-idskip:R-se:0|1-hs:0|1``, MID in channels.
- mobile (ProxylessNAS, arXiv:1812.00332, section 3.3): ``OFAProxylessNAS`` at width 1.0 and 224. A block is
  ``expanded_conv-input:HxWxC-output:HxWxC-expand:RATIO-kernel:K-stride:S-idskip:R``.
"""

from __future__ import annotations

import functools
import itertools
import operator
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.subnet.choice import show
from mmrazor_lite.subnet.space import listed
from mmrazor_lite.subnet.yamlio import load_yaml

from .cells import Cell
from .latency_table import NETWORK, LatencyTable

Layers = Mapping[str, float]  # layer in words -> milliseconds
_STEM = re.compile(r"Conv-input:(\d+)x\1x3-output:\d+x\d+x(\d+)")
RESOLUTION = "resolution"


def read_official(paths: Sequence[str | os.PathLike]) -> dict[int, Layers]:
    """Read published tables, recognised by content: JSON or YAML, of one resolution or of several.

    An entry is the mean, a list that starts with it, or a mapping that has it as ``mean``.

    Returns:
        Resolution -> layer in words -> milliseconds.

    Raises:
        UserError: A file that cannot be read or is no such table, a resolution given twice, an entry that is no time.
    """
    found: dict[int, Layers] = {}
    for path in paths:
        data = load(path)
        nested = data.get("tables") if isinstance(data, Mapping) else None
        tables = list(nested.values()) if isinstance(nested, Mapping) else [data]
        for table in tables:
            table = table.get("table", table) if isinstance(table, Mapping) else {}
            stem = next(filter(None, map(_STEM.fullmatch, map(str, table))), None) if table else None
            if stem is None:
                raise UserError(
                    f"{path}: not a published latency table: it must map layers such as "
                    "'Conv-input:224x224x3-output:112x112x24' to milliseconds"
                )
            resolution = int(stem[1])
            if resolution in found:
                raise UserError(f"{path}: the table of resolution {resolution} is given twice")
            found[resolution] = {
                str(layer): _mean(value, f"{path}: {short(str(layer))}") for layer, value in table.items()
            }
    return dict(sorted(found.items()))


def official_table(tables: Mapping[int, Layers], mutator: Any, where: str = "latency table") -> LatencyTable:
    """The table of a space from published ones.

    Args:
        tables: As :func:`read_official` gives them.
        mutator: A prepared ``NasMutator`` of an ``OFAMobileNetV3`` or ``OFAProxylessNAS``.
        where: The beginning of errors.

    Raises:
        UserError: Another network, resolutions that the tables lack, or entries that they lack; names those.
    """
    space, network = mutator.search_space, _Network(mutator.architecture, where)
    resolutions = list(mutator.resolutions or [mutator.input_shape[-1]])
    absent = [resolution for resolution in resolutions if resolution not in tables]
    if absent:
        known = "[" + ",".join(map(str, tables)) + "]"
        raise UserError(
            f"{where}: has no resolution {show(absent)}, which the space has (the table's: {known}); "
            f"set model.mutator.resolutions={known} and model.input_shape=[3,{max(tables)},{max(tables)}]"
        )
    by_ratio = not any("-hs:" in layer for layer in tables[resolutions[0]])
    if by_ratio != network.by_ratio:
        names = ["OFAMobileNetV3", "OFAProxylessNAS"]
        raise UserError(f"{where}: is a table of {names[by_ratio]}, the model is an {names[network.by_ratio]}")
    plan = network.layers(resolutions)
    _check(plan, tables, network, where)
    size = [] if mutator.resolutions is None else [RESOLUTION]
    cells = []
    for name, options in plan.items():
        choices = [*size, *(f"{name}.{key}" for key in ("kernel_size", "expand_ratio") if f"{name}.{key}" in space)]
        # Not by sum(), which rounds otherwise from Python 3.12 on.
        times = [[tables[resolution][layer] for layer in layers] for resolution, layers in options]
        values = [functools.reduce(operator.add, layers, 0.0) for layers in times]
        cells.append(Cell(name, tuple(choices), np.reshape(values, [len(space[c].candidates) for c in choices] + [1])))
    device = {"device": "published table", "file": Path(where).name, NETWORK: mutator.cost_model.fingerprint}
    return LatencyTable(space, cells[0], cells[1:], device, where=where)


class _Network:
    """What the tables' words need to know of a network; ``by_ratio`` tells ProxylessNAS from MobileNetV3."""

    def __init__(self, architecture: nn.Module, where: str) -> None:
        modules = dict(architecture.named_modules())
        prefix = next((name for name, module in modules.items() if _is_backbone(module)), None)
        linears = [module for module in modules.values() if isinstance(module, nn.Linear)]
        if prefix is None or not linears:
            raise UserError(f"{where}: published tables are of OFAMobileNetV3 and OFAProxylessNAS only")
        self.backbone, self.classes = modules[prefix], linears[-1].out_features
        self.by_ratio = not hasattr(self.backbone, "final_expand_layer")
        names = {module: name for name, module in modules.items()}
        self.blocks = {names[block]: block for stage in self.backbone.layers for block in stage}
        self.stem = self.backbone.first_conv.conv.out_channels

    def layers(self, resolutions: Sequence[int]) -> dict[str, list[tuple[int, list[str]]]]:
        """Part (``""`` is what is always there) -> (resolution, layers) at each resolution, kernel size and ratio."""
        found: dict[str, list[tuple[int, list[str]]]] = {"": []}
        for resolution in resolutions:
            size = -(-resolution // self.backbone.first_conv.conv.stride[0])
            always = [f"Conv-input:{_map(resolution, 3)}-output:{_map(size, self.stem)}"]
            for name, block in self.blocks.items():
                out = -(-size // block.stride)
                options = itertools.product(block.kernel_sizes, block.expand_ratios)
                words = [self._block(block, size, out, kernel, ratio) for kernel, ratio in options]
                if len(words) == 1:  # the first block is no choice
                    always += words
                else:
                    found.setdefault(name, []).extend((resolution, [word]) for word in words)
                size, width = out, block.out_channels
            found[""].append((resolution, always + self._tail(size, width)))
        return found

    def _block(self, block: Any, size: int, out: int, kernel: int, ratio: int | float) -> str:
        expand = ratio if self.by_ratio else block.inner_widths(ratio)[0]
        words = f"expanded_conv-input:{_map(size, block.in_channels)}-output:{_map(out, block.out_channels)}"
        words += f"-expand:{expand}-kernel:{kernel}-stride:{block.stride}-idskip:{int(block.residual)}"
        return words if self.by_ratio else f"{words}-se:{int(block.use_se)}-hs:{int(block.act == 'HSwish')}"

    def _tail(self, size: int, width: int) -> list[str]:
        features = self.backbone.feature_mix_layer.conv.out_channels
        if self.by_ratio:
            return [
                f"Conv_1-input:{_map(size, width)}-output:{_map(size, features)}",
                f"Logits-input:{_map(size, features)}-output:{self.classes}",
            ]
        final = self.backbone.final_expand_layer.conv.out_channels
        return [
            f"Conv_1-input:{_map(size, width)}-output:{_map(size, final)}",
            f"AvgPool2D-input:{_map(size, final)}-output:{_map(1, final)}",
            f"Conv_2-input:{_map(1, final)}-output:{_map(1, features)}",
            f"Logits-input:{_map(1, features)}-output:{self.classes}",
        ]


def _check(plan: Mapping, tables: Mapping[int, Layers], network: _Network, where: str) -> None:
    """Check that the tables have every layer."""
    pairs = ((resolution, layer) for options in plan.values() for resolution, layers in options for layer in layers)
    missing = list(dict.fromkeys(layer for resolution, layer in pairs if layer not in tables[resolution]))
    if not missing:
        return
    table = next(iter(tables.values()))
    stem = int(next(filter(None, map(_STEM.fullmatch, table)))[2])
    fix = "choose kernel sizes and ratios that the table has"
    if stem != network.stem:
        fix = f"its stem has {stem} channels, the model's {network.stem}: set the width of the table, model.width_mult"
    raise UserError(f"{where}: {len(missing)} entries are missing: {listed(missing)}; {fix}")


def load(path: str | os.PathLike) -> Any:
    """The data of a JSON or YAML file."""
    data = jsonio.read_bytes(path, what="the latency table")
    try:
        return jsonio.unsealed(data, needed=False, numbers=False)
    except jsonio.BadJSON as error:
        if data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")) or b"\0" in data:
            raise UserError(f"{path}: not a latency table ({error})") from None
        return load_yaml(Path(path), "the latency table")


def _is_backbone(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("first_conv", "layers", "feature_mix_layer"))


def _map(size: int, channels: int) -> str:
    return f"{size}x{size}x{channels}"


def _mean(value: Any, where: str) -> float:
    value = value.get("mean") if isinstance(value, Mapping) else value
    value = value[0] if isinstance(value, list) and value else value
    if not jsonio.is_number(value) or value < 0:
        raise UserError(f"{where} must be milliseconds: a number, a list or a mapping with 'mean', got {short(value)}")
    return float(value)
