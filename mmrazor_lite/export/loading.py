"""A subnet's file back to a plain module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.export.checkpoint import load_weights, read_checkpoint
from mmrazor_lite.export.rebuild import rebuild, rebuild_mutator
from mmrazor_lite.subnet import parse_document

_ADVICE = {
    "supernet": "search it and retrain a subnet first",
    "joint": "split it first (tools/model_converters/split_checkpoint.py)",
}


def load_subnet(path: str | os.PathLike) -> nn.Module:
    """Load one subnet as a plain module in eval mode, without any class of ours around or in it.

    Args:
        path: A file that split wrote, or a checkpoint of a subnet that was trained alone.

    Returns:
        The model of the config the file carries, at the widths of its subnet, with its weights; on the CPU.

    Raises:
        UserError: The file is missing or damaged, holds something else, or carries a config that names anything but
            registered classes (nothing of it is imported or executed).
    """
    checkpoint = read_checkpoint(path)
    meta = subnet_meta(checkpoint, str(path))
    shape = meta.get("input_shape")
    if not (isinstance(shape, (list, tuple)) and len(shape) == 3 and all(isinstance(size, int) for size in shape)):
        raise UserError(f"{path}: input_shape must be three whole numbers (C, H, W), got {shape!r}")
    if meta.get("architecture") is None:
        raise UserError(
            f"{path}: carries no config to rebuild the model from (it was given as a module); use the .pt2 beside it, "
            "or load the weights into your own model"
        )
    model = rebuild(meta["architecture"], meta.get("data_preprocessor"), str(path))
    mutator = rebuild_mutator(meta.get("mutator"), str(path))
    mutator.prepare(model, tuple(shape), any_width=True)
    subnet = parse_document(meta["subnet"], mutator.search_space, str(path)).subnet
    module = mutator.export(subnet)
    load_weights(module, checkpoint, path)
    module.eval()  # some backbones return None from it
    return module


def subnet_meta(checkpoint: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what a subnet's checkpoint says about itself.

    Raises:
        UserError: It says nothing, or is of another kind.
    """
    meta = checkpoint.get("meta")
    meta = meta.get("mmrazor_lite") if isinstance(meta, dict) else None
    if not isinstance(meta, dict):
        raise UserError(f"{where}: says nothing about its subnet; expected a file written by split or by training here")
    kind = meta.get("kind")
    if kind != "subnet" or "subnet" not in meta:
        advice = _ADVICE.get(str(kind), "expected a file written by split or by training one subnet")
        raise UserError(f"{where}: holds a {kind} model, not one subnet; {advice}")
    return meta
