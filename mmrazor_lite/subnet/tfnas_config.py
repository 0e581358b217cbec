"""Read subnets of TF-NAS's authors: the ``model.config`` that their parsing tool writes, layer by layer.

It is JSON: ``first_stem``, ``second_stem``, ``stage1`` to ``stage6`` (lists of blocks), ``feature_mix_layer`` and
``classifier``. A block says its channels (in, mid, se, out), kernel, stride and activation, not the operator's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.subnet.space import SearchSpace

_STAGE = re.compile(r"stage(\d+)$")
_KEYS = ("in_channels", "mid_channels", "se_channels", "out_channels", "kernel_size", "stride")


def is_tfnas_config(document: Mapping[str, Any]) -> bool:
    """Tell a ``model.config`` of TF-NAS by its content."""
    return "second_stem" in document and any(_STAGE.match(key) for key in document)


def read_tfnas_config(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, Any]:
    """The choices that a ``model.config`` makes.

    Raises:
        UserError: Another number of stages or blocks than the space has, or a block that it does not offer.
    """
    known = [stage for stage in space.stages if all(block in space for block in stage.blocks)]
    stages = sorted((int(found[1]), key) for key in document if (found := _STAGE.match(key)))
    if [number for number, _ in stages] != list(range(1, len(known) + 1)):
        raise UserError(f"{where}: has the stages {', '.join(key for _, key in stages)}, the space has {len(known)}")
    choices: dict[str, Any] = {}
    for (_, key), stage in zip(stages, known, strict=True):
        blocks, names = document[key], stage.blocks
        if not isinstance(blocks, list) or not 1 <= len(blocks) <= len(names):
            count = len(blocks) if isinstance(blocks, list) else short(blocks)
            raise UserError(f"{where}: {key} has {count} blocks, the space has 1 to {len(names)}")
        if stage.depth is not None:
            choices[stage.depth] = len(blocks)
        for index, (name, block) in enumerate(zip(names, blocks, strict=False)):
            place = f"{where}: {key} block {index + 1}"
            operator, width = _operator(block, place)
            space[name].index(operator, place)
            layer, given = space.layers.get(stage.name), block["out_channels"]
            if layer is not None and given != layer.full:
                raise UserError(f"{place} gives {given} channels, in this model {layer.full}")
            choices |= {name: operator, f"{name}.{operator}.mid_channels": width}
    return choices


def _operator(block: Any, where: str) -> tuple[str, int]:
    """The operator's name and the inner width of a block."""
    if not isinstance(block, dict) or any(type(block.get(key)) is not int for key in _KEYS):
        raise UserError(f"{where} is no block with {', '.join(_KEYS)}: {short(block)}")
    inputs, mid, se = block["in_channels"], block["mid_channels"], block["se_channels"]
    if se not in (0, inputs, 2 * inputs):
        raise UserError(f"{where}: se_channels {se}, allowed are 0, {inputs} and {2 * inputs}")
    # Without squeeze-and-excitation the expansion is the one that offers the width; 4 times both offer, alike.
    expansion = (3 if se == inputs else 6) if se else (3 if mid <= 4 * inputs else 6)
    return f"MBI_k{block['kernel_size']}_e{expansion}{'_se' if se else ''}", mid
