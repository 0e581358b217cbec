"""The elastic stages of a search space, and the choices of a subnet from what a file says of each stage.

Block B has the choices ``B.kernel_size`` and ``B.expand_ratio``; the image size may be ``resolution``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.subnet.choice import Stage, at
from mmrazor_lite.subnet.space import SearchSpace, listed

RESOLUTION = "resolution"
PER_BLOCK = ("kernel_size", "expand_ratio")
SIZES = ("r", "resolution", "image_size", "input_shape")  # keys that say the image size
_log = logging.getLogger("mmrazor_lite")


def stages_of(space: SearchSpace, where: str = "") -> list[Stage]:
    """The elastic stages of a space, in order.

    Raises:
        UserError: It is not the space of a network of Once-for-All.
    """
    stages = [s for s in space.stages if all(f"{block}.{what}" in space for block in s.blocks for what in PER_BLOCK)]
    if not stages:
        raise UserError(
            f"{at(where)}a subnet of Once-for-All, but the model has no elastic blocks; use a config such as "
            "configs/nas/mmcls/onceforall/ofa_mobilenet_supernet_32xb64_in1k.py"
        )
    return stages


def depth_of(stage: Stage, value: Any, space: SearchSpace, where: str) -> int:
    """``value``, if it is a depth of the stage; else a :class:`UserError`."""
    if stage.depth is not None:
        return space[stage.depth].candidates[space[stage.depth].index(value, where)]
    if value != len(stage.blocks):
        raise UserError(f"{where}: stage '{stage.name}' has depth {short(value)}, here always {len(stage.blocks)}")
    return len(stage.blocks)


def check_widths(widths: Mapping[str, Any], space: SearchSpace, where: str, width_mult: float | None = None) -> None:
    """Compare channels, by the name of their stage, with those of the model; log those that the space does not say.

    ``width_mult`` is the width of the file's network, where that is known.

    Raises:
        UserError: They differ.
    """
    unknown = [name for name in widths if name not in space.layers]
    for name, value in widths.items():
        if name not in unknown and value != space.layers[name].full:
            raise UserError(
                f"{where}: '{name}' has {short(value)} channels, this model has {space.layers[name].full}; choose the "
                f"width with model.width_mult{'' if width_mult is None else f'={width_mult:g}'}"
            )
    if unknown:
        _log.warning("%s: the widths of %s are the model's, they were not compared", where, listed(unknown))


def choices_of(
    stages: Sequence[Stage], blocks: Sequence[Sequence[tuple]], space: SearchSpace, where: str
) -> dict[str, Any]:
    """Choices from (kernel, ratio) of the blocks that run, stage by stage; a value not in the space is an error."""
    chosen: dict[str, Any] = {}
    for stage, pairs in zip(stages, blocks, strict=True):
        if stage.depth is not None:
            chosen[stage.depth] = len(pairs)
        for block, pair in zip(stage.blocks, pairs, strict=False):
            for what, value in zip(PER_BLOCK, pair, strict=True):
                name = f"{block}.{what}"
                space[name].index(value, where)
                chosen[name] = value
    return chosen


def plain_size(value: Any) -> int | None:
    """``value``, or the one side of a square that it is, if that is an image size; else None."""
    sides = value if isinstance(value, list) and value else [value]
    same = all(type(side) is int and side == sides[0] for side in sides)
    return sides[0] if same and 0 < sides[0] < 1 << 16 else None


def size_of(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, int]:
    """The choice of resolution: needed where there are several; without, the image size is the config's to decide."""
    key = next((key for key in SIZES if key in document), None)
    if RESOLUTION not in space:
        return {}
    if key is None and len(space[RESOLUTION].candidates) == 1:
        return {RESOLUTION: space[RESOLUTION].candidates[0]}
    if key is None:
        raise UserError(
            f"{where}: does not say its image size, and the space has several (allowed: {space[RESOLUTION].allowed}); "
            "add a key such as 'image_size: 224', or give get_flops.py --input-shape 224 224"
        )
    value = document[key]
    sides = value if isinstance(value, list) and value else [value]
    if any(side != sides[0] for side in sides):
        raise UserError(f"{where}: '{key}' must be one size of square images, got {short(value)}")
    space[RESOLUTION].index(sides[0], where)
    return {RESOLUTION: sides[0]}
