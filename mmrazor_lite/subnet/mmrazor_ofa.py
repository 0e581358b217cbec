"""Read the subnet yaml of MMRazor 1.x for Once-for-All: data in, choices of our space out."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.subnet.elastic_stages import PER_BLOCK, check_widths, choices_of, depth_of, size_of, stages_of
from mmrazor_lite.subnet.space import SearchSpace

_NAME = re.compile(r"(?:architecture\.)?backbone\.(?:layers\.(\d+)\.(?:(\d+)\.)?)?(\w+)")
_WIDTHS = ("first_channels", "last_channels", "out_channels")
_FIRST_BLOCK = {(None, "depth"): 1, (0, "kernel_size"): 3, (0, "expand_ratio"): 1}
_log = logging.getLogger("mmrazor_lite")


def is_mmrazor_ofa(document: Mapping[str, Any], space: SearchSpace) -> bool:
    """Tell whether this is MMRazor's file of an OFA subnet, with names that are not those of ``space``."""
    return any(
        key.rpartition(".")[2] in (*_WIDTHS, "expand_ratio_se") and key not in space and key not in space.aliases
        for key, entry in document.items()
        if isinstance(entry, dict) and "chosen" in entry
    )


def read_mmrazor_ofa(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, Any]:
    """Turn ``name: {chosen: value}`` into the choices of ``space`` that matter.

    MMRazor counts the stages from 1, with the first block as one of them, and lists the blocks that do not run too.
    Its squeeze-and-excitation has a width of its own, ``expand_ratio_se``; ours follows ``expand_ratio``, as that of
    the published networks, and a file that says otherwise is read with a warning.

    Raises:
        UserError: Another number of stages, a missing entry, or a value that the space does not have.
    """
    layers, rest = _by_layer(document, where)
    stages, numbers = stages_of(space, where), sorted(layers)
    if len(numbers) != len(stages) + 1:
        raise UserError(
            f"{where}: has {len(numbers)} stages, the model has {len(stages) + 1}, the first block among them"
        )
    first = layers[numbers[0]]
    for key, fixed in _FIRST_BLOCK.items():
        if first.get(key, fixed) != fixed:
            raise UserError(
                f"{where}: {key[1]} of the first block is {short(first[key])}, in this model always {fixed}"
            )
    widths = {key: value for key, value in rest.items() if key in _WIDTHS}
    blocks = []
    for number, stage in zip(numbers[1:], stages, strict=True):
        entries, name = layers[number], f"{where}: backbone.layers.{number}"
        depth = depth_of(stage, _entry(entries, None, "depth", name), space, where)
        if (None, "out_channels") in entries:
            widths[stage.name] = entries[None, "out_channels"]
        blocks.append([tuple(_entry(entries, i, what, name) for what in PER_BLOCK) for i in range(depth)])
        _warn_of_squeeze(entries, depth, name)
    check_widths(widths, space, where)
    return choices_of(stages, blocks, space, where) | size_of(rest, space, where)


def _by_layer(document: Mapping[str, Any], where: str) -> tuple[dict[int, dict], dict[str, Any]]:
    """Split into stage number -> (block or None, what) -> value, and what belongs to no stage."""
    layers: dict[int, dict[tuple[int | None, str], Any]] = {}
    rest: dict[str, Any] = {}
    for key, entry in document.items():
        match = _NAME.fullmatch(key)
        known = match or key in ("input_shape", "resolution")
        if not known or not isinstance(entry, dict) or "chosen" not in entry:
            raise UserError(f"{where}: '{short(key)}' is no entry 'NAME: {{chosen: value}}' of MMRazor's OFA network")
        value = entry["chosen"]
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if match and match[1] is not None:
            block = None if match[2] is None else int(match[2])
            layers.setdefault(int(match[1]), {})[block, match[3]] = value
        else:
            rest[match[3] if match else key] = value
    return layers, rest


def _warn_of_squeeze(entries: Mapping[tuple[int | None, str], Any], depth: int, name: str) -> None:
    for index in range(depth):
        ratio, inside = entries.get((index, "expand_ratio")), entries.get((index, "expand_ratio_se"))
        if inside not in (None, ratio):
            _log.warning(
                "%s.%d: expand_ratio_se %s is not its expand_ratio %s; squeeze-and-excitation follows expand_ratio",
                name, index, short(inside), short(ratio),
            )  # fmt: skip


def _entry(entries: Mapping[tuple[int | None, str], Any], block: int | None, what: str, name: str) -> Any:
    if (block, what) not in entries:
        raise UserError(f"{name}.{what if block is None else f'{block}.{what}'} is missing")
    return entries[block, what]
