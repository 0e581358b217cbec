"""A subnet's file back to a plain module."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from mmrazor_lite.checkpoints import load_weights, read_checkpoint, state_dict_of
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.export.rebuild import put_around, rebuild, rebuild_mutator
from mmrazor_lite.models.classifiers import plain_module
from mmrazor_lite.models.said import check_computation, check_resources, said_by
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.subnet import parse_document

MAX_IMAGE = 1 << 23  # values of one image: 3 x 1672 x 1672
_ADVICE = {
    "supernet": "search it and retrain a subnet first",
    "joint": "split it first (tools/model_converters/split_checkpoint.py)",
}


def load_subnet(path: str | os.PathLike, architecture: nn.Module | None = None) -> nn.Module:
    """Load one subnet as a plain module in eval mode, without choices, masks or dynamic layers.

    Its classes are those of the architecture: of a backbone that declares choices, such as ``SearchableShuffleNetV2``,
    the backbone and its blocks are this project's. The ``.pt2`` of a split needs torch alone.

    A network of torchvision, timm or the user's own comes back as itself. Where a head of mmpretrain was put around it,
    the ``PlainClassifier`` with ``net``, ``neck`` and ``head`` comes back.

    Args:
        path: A file that split wrote, or a checkpoint of a subnet that was trained alone.
        architecture: A fresh module of full size, as the config built it. Needed where the network is code of the
            user's own, which a file may not import. It is changed: its layers become searchable ones.

    Returns:
        The model of the config the file carries, at the widths of its subnet, with its weights; on the CPU.

    Raises:
        UserError: The file is missing or damaged, holds something else, is of another network than ``architecture``, or
            carries a config that names anything but registered classes and models of torchvision and timm (nothing else
            is imported or executed).
    """
    checkpoint = read_checkpoint(path)
    meta = subnet_meta(checkpoint, str(path))
    shape = image_shape(meta.get("input_shape"), f"{path}: input_shape")
    if math.prod(shape) > MAX_IMAGE:
        raise UserError(f"{path}: input_shape {short(shape)} is no size of an image that a network of a file may have")
    if architecture is not None:
        model = put_around(architecture, meta.get("architecture"), str(path))
    elif meta.get("architecture") is None:
        raise UserError(
            f"{path}: carries no config to rebuild the model from (it was given as a module); give a fresh one, "
            "load_subnet(path, architecture=MyNet(...)), or use the .pt2 beside it"
        )
    else:
        weights = state_dict_of(checkpoint, path)
        model = rebuild(meta["architecture"], meta.get("data_preprocessor"), str(path), weights)
    mutator = rebuild_mutator(meta.get("mutator"), str(path))
    mutator.prepare(model, shape, any_width=True)
    check_computation(meta.get("computation"), getattr(mutator, "computation", None), str(path))
    subnet = parse_document(meta["subnet"], mutator.search_space, str(path)).subnet
    exported = mutator.export(subnet).cpu()
    module = plain_module(exported)
    of_training = exported.state_dict().keys() - module.state_dict().keys()  # what a loss keeps
    weights = state_dict_of(checkpoint, path)
    load_weights(module, {key: weights[key] for key in weights if _bare(key) not in of_training}, path)
    check_resources(meta.get("resources"), mutator.cost_model.of(subnet), str(path), shape, shape)
    module.eval()  # some backbones return None from it
    return module


def _bare(key: str) -> str:
    return key.removeprefix("module.").removeprefix("architecture.")


def subnet_meta(checkpoint: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what a subnet's checkpoint says about itself.

    Raises:
        UserError: It says nothing, or is of another kind.
    """
    meta = dict(said_by(checkpoint))
    if not meta:
        raise UserError(f"{where}: says nothing about its subnet; expected a file written by split or by training here")
    kind = meta.get("kind")
    if kind != "subnet" or "subnet" not in meta:
        advice = _ADVICE.get(str(kind), "expected a file written by split or by training one subnet")
        raise UserError(f"{where}: holds a {kind} model, not one subnet; {advice}")
    return meta
