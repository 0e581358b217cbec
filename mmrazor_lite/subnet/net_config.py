"""Subnets of Once-for-All as its authors write them: net.config, and lists of kernels, ratios and depths.

The lists (``ks``, ``e``) hold one number per block of the space, whether it runs or not. Source: the files published
with the specialised networks, and ``set_active_subnet`` of mit-han-lab/once-for-all (arXiv:1908.09791).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.subnet.elastic_stages import (
    SIZES,
    check_widths,
    choices_of,
    depth_of,
    plain_size,
    size_of,
    stages_of,
)
from mmrazor_lite.subnet.space import SearchSpace

_CONFIGS = {
    name: f"configs/nas/mmcls/onceforall/ofa_{kind}_supernet_32xb64_in1k.py"
    for name, kind in (("MobileNetV3", "mobilenet"), ("ProxylessNASNets", "proxyless"))
}
_FEATURES = 1280  # that the classifier of a published network reads, at width 1.0
_MOST_BYTES = 1 << 20
_KERNELS, _RATIOS, _DEPTHS = ("ks", "ks_padded"), ("e", "e_padded"), ("d", "depth")


def is_net_config(document: Mapping[str, Any]) -> bool:
    """Tell whether :func:`read_net_config` reads the plain data of a file."""
    return _has_blocks(document) or _has_lists(document)


def read_net_config(
    document: Mapping[str, Any], space: SearchSpace, where: str, path: Path | None = None
) -> dict[str, Any]:
    """Turn the plain data of a file into the choices of ``space`` that matter.

    Args:
        document: A net.config, or ``{ks, e, d, r}`` (or ``ks_padded``, ``e_padded``, ``depth``, ``resolution``).
        space: The space that the subnet must be one of.
        where: The beginning of error messages.
        path: Of the file. A net.config does not say its image size: it is in ``image_size``, if that is added, or in
            the ``run.config`` beside the file, as published.

    Raises:
        UserError: Another number of stages or blocks, a kernel, ratio, depth, width or resolution that the space does
            not have, or no resolution where the space has several.
    """
    if not _has_blocks(document):
        return _read_lists(document, space, where)
    chosen = _read_blocks(document, space, where)
    if path is not None and not any(key in document for key in SIZES):
        document = {**document, **_run_config(path.with_name("run.config"))}
    return chosen | size_of(document, space, where)


def said_size(document: Mapping[str, Any], path: Path) -> int | None:
    """The image size that a net.config, or a list, or the ``run.config`` beside it says; None where none does.

    Raises:
        UserError: The file beside it cannot be read.
    """
    key = next((key for key in SIZES if key in document), None)
    if key is None and _has_blocks(document):
        return plain_size(_run_config(path.with_name("run.config")).get("image_size"))
    return plain_size(document.get(key))


def _has_blocks(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("blocks"), list)


def _has_lists(document: Mapping[str, Any]) -> bool:
    return all(any(key in document for key in keys) for keys in (_KERNELS, _RATIOS, _DEPTHS))


def _read_lists(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, Any]:
    odd = [key for key in document if key not in (*_KERNELS, *_RATIOS, *_DEPTHS, *SIZES, "wid")]
    if odd:
        raise UserError(f"{where}: unknown key '{odd[0]}' beside 'ks', 'e' and 'd' (allowed: r)")
    if document.get("wid") is not None:
        raise UserError(f"{where}: 'wid' {short(document['wid'])}: the width is model.width_mult's; remove it")
    stages = stages_of(space, where)
    total, free = sum(len(stage.blocks) for stage in stages), [stage for stage in stages if stage.depth is not None]
    kernels = _list(document, _KERNELS, (total,), "one per block", where)
    ratios = _list(document, _RATIOS, (total,), "one per block", where)
    depths = _list(document, _DEPTHS, (len(free), len(stages)), "one per elastic stage", where)
    pairs, taken = zip(kernels, ratios, strict=True), iter(depths)
    blocks = []
    for stage in stages:
        every = [next(pairs) for _ in stage.blocks]
        said = next(taken) if stage.depth is not None or len(depths) == len(stages) else len(every)
        blocks.append(every[: depth_of(stage, said, space, where)])
    return choices_of(stages, blocks, space, where) | size_of(document, space, where)


def _list(document: Mapping[str, Any], keys: Sequence[str], lengths: tuple, what: str, where: str) -> list:
    given = [key for key in keys if key in document]
    if len(given) > 1:
        raise UserError(f"{where}: both '{given[0]}' and '{given[1]}' are given; keep one")
    value = document[given[0]]
    if not isinstance(value, list) or len(value) not in lengths:
        found = f"{len(value)} numbers" if isinstance(value, list) else short(value)
        raise UserError(f"{where}: '{given[0]}' has {found}, the space needs {lengths[0]}, {what}")
    return value


def _read_blocks(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, Any]:
    flat = list(_layers(document["blocks"], where))
    for number, (before, layer) in enumerate(itertools.pairwise(flat), start=1):
        if layer["in_channels"] != before["out_channels"]:
            given = f"{layer['in_channels']} channels, block {number - 1} gives {before['out_channels']}"
            raise UserError(f"{where}: block {number} reads {given}")
    found: list[list[dict]] = []
    for number, layer in enumerate(flat):
        if number == 0:
            if (layer["kernel_size"], layer["expand_ratio"]) != (3, 1):
                pair = f"kernel {layer['kernel_size']} and ratio {layer['expand_ratio']}"
                raise UserError(f"{where}: block 0 has {pair}, in this model always 3 and 1")
            continue
        _check_inside(layer, f"{where}: block {number}")
        if not found or layer["stride"] != 1 or layer["in_channels"] != layer["out_channels"]:
            found.append([])
        found[-1].append(layer)
    stages = stages_of(space, where)
    if len(found) != len(stages):
        config = _CONFIGS.get(document.get("name"))  # type: ignore[arg-type]
        fix = f"; it is a {document['name']}, use {config}" if config else ""
        raise UserError(f"{where}: has {len(found)} stages behind the first block, the model has {len(stages)}{fix}")
    for stage, layers in zip(stages, found, strict=True):
        depth_of(stage, len(layers), space, where)
    widths = {stage.name: layers[0]["out_channels"] for stage, layers in zip(stages, found, strict=True)}
    check_widths(widths, space, where, _width_of(document))
    pairs = [[(layer["kernel_size"], layer["expand_ratio"]) for layer in layers] for layers in found]
    return choices_of(stages, pairs, space, where)


def _layers(blocks: list, where: str) -> Iterator[dict[str, Any]]:
    """The inverted residuals of a net.config; the skip connections say nothing more."""
    keys = ("in_channels", "out_channels", "kernel_size", "stride", "expand_ratio")
    for number, block in enumerate(blocks):
        block = block if isinstance(block, dict) else {}
        layer = block.get("mobile_inverted_conv") or block.get("conv")
        if not isinstance(layer, dict) or any(type(layer.get(key)) not in (int, float) for key in keys):
            raise UserError(f"{where}: block {number} is no inverted residual with {', '.join(keys)}: {short(layer)}")
        yield layer


def _check_inside(layer: Mapping[str, Any], place: str) -> None:
    """``mid_channels``, where it is said, must be what the ratio makes: a multiple of 8, of at least 90 %."""
    exact = round(layer["in_channels"] * layer["expand_ratio"])
    width = max(8, int(exact + 4) // 8 * 8)
    width += 8 if width < 0.9 * exact else 0
    if layer.get("mid_channels") not in (None, width):
        raise UserError(
            f"{place}: mid_channels {short(layer['mid_channels'])}, but {layer['in_channels']} channels at ratio "
            f"{layer['expand_ratio']} are {width}"
        )


def _width_of(document: Mapping[str, Any]) -> float | None:
    """The width of a published network, by the features that its classifier reads."""
    layer = document.get("classifier")
    features = layer.get("in_features") if isinstance(layer, Mapping) else None
    return round(features / _FEATURES, 2) if jsonio.is_number(features) and 0 < features < 1e6 else None


def _run_config(path: Path) -> dict[str, Any]:
    """The image size of the file beside a net.config; nothing where there is no such file, or it says none."""
    if not os.path.lexists(path):
        return {}
    try:
        data = jsonio.parse(jsonio.read_bytes(path, _MOST_BYTES, "the run.config of Once-for-All"), numbers=False)
    except jsonio.BadJSON as error:
        raise UserError(f"{path}: not the run.config of Once-for-All ({error}); mend it, or take it away") from None
    return {"image_size": data["image_size"]} if isinstance(data, dict) and "image_size" in data else {}
