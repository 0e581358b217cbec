"""A subnet's file back to a plain module."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from mmrazor_lite import mm_packages
from mmrazor_lite.checkpoints import MisfitError, load_weights, read_checkpoint, state_dict_of
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.export.own_network import (
    ALONE,
    around,
    check_names,
    for_the_network,
    has_losses,
    held_by,
    needs_a_head,
    own_mutator,
)
from mmrazor_lite.fileio import as_path
from mmrazor_lite.graph.computation import inside
from mmrazor_lite.models.said import check_computation, check_resources, said_by
from mmrazor_lite.shapes import image_shape
from mmrazor_lite.subnet import NET, parse_document

MAX_IMAGE = 1 << 23  # values of one image: 3 x 1672 x 1672
_ADVICE = {
    "supernet": "search it and retrain a subnet first",
    "joint": "split it first (tools/model_converters/split_checkpoint.py)",
}

_MISFIT = {
    True: "the file is not as it was written; write it again",
    False: "give a fresh module of the network that the subnet was made of, at full size and with as many classes",
}


def load_subnet(
    path: str | os.PathLike, architecture: nn.Module | None = None, *, model: nn.Module | None = None
) -> nn.Module:
    """Load one subnet as a plain module in eval mode, without choices, masks or dynamic layers.

    Its classes are those of the architecture: of a backbone that declares choices, such as ``SearchableShuffleNetV2``,
    the backbone and its blocks are this project's. The ``.pt2`` of a split needs torch alone.

    A network of torchvision, timm or the user's own comes back as itself. Where a head of mmpretrain was put around it,
    the ``PlainClassifier`` with ``net``, ``neck`` and ``head`` comes back.

    Args:
        path: A file that split, a search or a slimming wrote, or a checkpoint of a subnet that was trained alone.
        architecture: A fresh module of full size, as the config built it. Needed where the network is code of the
            user's own, which a file may not import. It is changed: its layers become searchable ones. Where only
            widths were chosen, neither mmengine nor a config is needed.
        model: The same, by its other name.

    Returns:
        The model of the config the file carries, at the widths of its subnet, with its weights; on the CPU.

    Raises:
        UserError: The file is missing or damaged, holds something else, is of another network than ``architecture``, or
            carries a config that names anything but registered classes and models of torchvision and timm (nothing else
            is imported or executed).
    """
    if architecture is not None and model is not None:
        raise UserError("load_subnet: architecture and model are two names of one argument; give one")
    given = architecture if model is None else model
    if given is not None and not isinstance(given, nn.Module):
        raise UserError(f"load_subnet: model={short(given)}: give a module of torch, such as MyNet()")
    path = as_path(path, "load_subnet: path")
    checkpoint = read_checkpoint(path)
    meta = subnet_meta(checkpoint, str(path))
    shape = image_shape(meta.get("input_shape"), f"{path}: input_shape")
    if math.prod(shape) > MAX_IMAGE:
        raise UserError(f"{path}: input_shape {short(shape)} is no size of an image that a network of a file may have")
    weights = state_dict_of(checkpoint, path)
    whole, mutator, take_out = _network(given, meta, weights, str(path))
    alone = bool(meta.get(ALONE))
    mutator.prepare(take_out(whole) if alone else whole, shape, any_width=True)
    subnet = parse_document(meta["subnet"], mutator.search_space, str(path)).subnet
    computation = getattr(mutator, "computation", None)
    computation = inside(computation, NET.rstrip(".")) if alone and computation else computation
    check_computation(meta.get("computation"), computation, str(path))
    exported = mutator.export(subnet).cpu()
    module = exported if alone else take_out(exported)
    of_training = exported.state_dict().keys() - module.state_dict().keys()  # what a loss keeps
    weights = {key: weights[key] for key in weights if _bare(key) not in of_training}
    try:
        load_weights(_in_precision(module, weights), weights, path)
    except MisfitError as error:
        raise UserError(f"{error.problem}; {_MISFIT[given is None]}") from None
    _load_constants(module, meta.get("constants"), str(path))
    check_resources(meta.get("resources"), mutator.cost_model.of(subnet), str(path), shape, shape)
    module.eval()  # some backbones return None from it
    return module


def full_network(path: str | os.PathLike) -> nn.Module | None:
    """The network of full size that the subnet of a file was cut out of, with weights that are not its own.

    Args:
        path: See :func:`load_subnet`.

    Returns:
        None where only code builds it, or where more than widths was chosen.
    """
    checkpoint = read_checkpoint(path)
    meta = subnet_meta(checkpoint, str(path))
    if meta.get("architecture") is None or own_mutator(for_the_network(meta.get("mutator")), str(path)) is None:
        return None
    whole, _, take_out = _network(None, meta, state_dict_of(checkpoint, path), str(path))
    network = take_out(whole)
    network.eval()  # some backbones return None from it
    return network


def _network(
    given: nn.Module | None, meta: Mapping[str, Any], weights: Mapping[str, Tensor], where: str
) -> tuple[nn.Module, Any, Callable[[nn.Module], nn.Module]]:
    """The network of full size with what is around it, the mutator that finds its choices, and what takes it out."""
    architecture, data_preprocessor = meta.get("architecture"), meta.get("data_preprocessor")
    config = for_the_network(meta.get("mutator")) if meta.get(ALONE) else meta.get("mutator")
    mutator = own_mutator(config, where)
    if given is not None and mutator is not None and not needs_a_head(architecture):
        if not has_losses(given):
            check_names({_bare(key): tensor for key, tensor in weights.items()}, given, where)
        return around(given), mutator, held_by
    if given is None and architecture is None:
        raise UserError(
            f"{where}: carries no config to rebuild the model from (it was given as a module); give a fresh one, "
            "load_subnet(path, model=MyNet(...)), of a command --model, or use the .pt2 beside it"
        )
    mm_packages.require(f"{where}: the network of its config")
    from mmrazor_lite.export.rebuild import put_around, rebuild, rebuild_mutator
    from mmrazor_lite.models.classifiers import plain_module

    if given is not None:
        whole = put_around(given, architecture, where)
    else:
        whole = rebuild(architecture, data_preprocessor, where, weights)
    return whole, rebuild_mutator(config, where), plain_module


def _in_precision(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """``module`` in the precision of the weights, where all of them have one."""
    kinds = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    return module.to(kinds.pop()) if len(kinds) == 1 else module


def _load_constants(module: nn.Module, constants: Any, where: str) -> None:
    """Fill the buffers that a network does not save itself, but that follow the order of its channels."""
    buffers = dict(module.named_buffers())
    for name, tensor in (constants or {}).items():
        own = buffers.get(name)
        if own is None or not isinstance(tensor, Tensor) or own.shape != tensor.shape:
            raise UserError(f"{where}: holds a constant {short(name)} that the network has not, or of another shape")
        own.copy_(tensor)


def _bare(key: str) -> str:
    return key.removeprefix("module.").removeprefix("architecture.")


def subnet_meta(checkpoint: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what a subnet's checkpoint says about itself.

    Raises:
        UserError: It says nothing, or is of another kind.
    """
    meta = dict(said_by(checkpoint))
    if not meta:
        raise UserError(f"{where}: says nothing about its subnet; give a file that slim, search, split or train wrote")
    kind = meta.get("kind")
    if kind != "subnet" or "subnet" not in meta:
        advice = _ADVICE.get(str(kind), "expected a file written by split or by training one subnet")
        raise UserError(f"{where}: holds a {kind} model, not one subnet; {advice}")
    return meta
