"""Checkpoints of Once-for-All's authors: their names of the weights to ours, and back.

The networks are ``OFAMobileNetV3`` and ``OFAProxylessNASNets`` of mit-han-lab/once-for-all (arXiv:1908.09791). Their
block i is block B of stage S of ours, counted through; a kernel matrix ``7to5_matrix`` is our ``transform_7to5``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmrazor_lite.checkpoints import (
    checkpoint_hash,
    fitting_weights,
    read_checkpoint,
    save_checkpoint,
    state_dict_of,
)
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.identity import said_by
from mmrazor_lite.registry import SCOPE
from mmrazor_lite.subnet.space import listed

_ROOT = "architecture."
_BLOCK = re.compile(r"backbone\.layers\.(\d+)\.(\d+)\.(.+)")
_MATRIX = re.compile(r"transform_(\d+)to(\d+)$")
# Names of older files: where the first is found in a name, the second stands in its place. The first that applies.
_OLDER = (
    (".bn.bn.", ".bn."),
    (".conv.conv.weight", ".conv.weight"),
    (".linear.linear.", ".linear."),
    (".linear.", ".linear.linear."),
    ("bn.", "bn.bn."),
    ("conv.weight", "conv.conv.weight"),
)
_COUNTER = "num_batches_tracked"  # which files of old torch releases lack, and nothing reads
_FEATURES = 1280  # at width 1.0, of both networks


def official_names(algorithm: nn.Module) -> dict[str, str]:
    """Map the names of an OFA algorithm's weights to those of the authors' network.

    Args:
        algorithm: With an ``OFAMobileNetV3`` or ``OFAProxylessNAS`` and a linear head.

    Raises:
        UserError: The network is none of these.
    """
    ours = [name for name in algorithm.state_dict() if name.startswith(_ROOT)]
    places = sorted({tuple(map(int, match.groups()[:2])) for match in map(_block, ours) if match})
    number = {place: index for index, place in enumerate(places)}
    elastic = {(match[1], match[2]) for match in map(_block, ours) if match and _MATRIX.search(match[3])}
    names = {name: _official(name.removeprefix(_ROOT), number, elastic) for name in ours}
    strange = [name for name, official in names.items() if official is None]
    if strange or not places:
        raise UserError(
            "the config does not build a network of Once-for-All (OFAMobileNetV3 or OFAProxylessNAS with a linear head)"
            + (f"; it has {listed(strange)}" if strange else "")
        )
    return names


def from_official(algorithm: nn.Module, state: Mapping[str, Tensor], where: str | os.PathLike) -> dict[str, Tensor]:
    """Return the weights of an official checkpoint under the names of ``algorithm``; nothing is loaded.

    Args:
        algorithm: See :func:`official_names`.
        state: Name to tensor; names of older files and the prefix ``module.`` are understood.
        where: Names the file in errors.

    Raises:
        UserError: Missing or unexpected names (the first five), a weight under two names, other shapes.
    """
    names = official_names(algorithm)
    wanted = {official: name for name, official in names.items()}
    given, unexpected = _read_names(state, wanted, str(where))
    missing = [name for name in wanted if name not in given and not name.endswith(_COUNTER)]
    if missing or unexpected:
        parts = [
            f"{len(items)} {label}: {listed(items)}"
            for label, items in (("missing", missing), ("unexpected", unexpected))
            if items
        ]
        raise UserError(
            f"{where}: not the official supernet of {type(algorithm.architecture.backbone).__name__} (width_mult="
            f"{algorithm.architecture.backbone.width_mult}); {'; '.join(parts)}"
        )
    own = algorithm.state_dict()
    found = {name: own[name] for name in own}
    for official, name in wanted.items():
        if official in given:
            found[name] = state[given[official]]
        elif official.endswith(_COUNTER):
            found[name] = torch.zeros_like(own[name])
    return dict(fitting_weights(algorithm, found, where))


def to_official(algorithm: nn.Module, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Return the weights of ``algorithm``, or ``state`` of one like it, under the official names."""
    state = algorithm.state_dict() if state is None else state
    return {official: state[name] for name, official in official_names(algorithm).items()}


def convert_official(algorithm: nn.Module, source: str | os.PathLike, target: str | os.PathLike) -> Path:
    """Write an official checkpoint as one of the supernet ``algorithm``, like those that its training writes.

    Args:
        algorithm: Built from the config of a supernet; it is not changed.
        source: Official file: a state dict, alone or under ``state_dict``; read without executing anything.
        target: Appears whole or not at all; it may be ``source``.

    Raises:
        UserError: As :func:`from_official`, or the file cannot be read.
    """
    state = state_dict_of(read_checkpoint(source), source)
    print_log(f"read {source} (sha256 {checkpoint_hash(source)})", logger="current")
    weights = from_official(algorithm, state, source)
    return _write({"meta": {SCOPE: algorithm.checkpoint_meta()}, "state_dict": weights}, target)


def convert_to_official(algorithm: nn.Module, source: str | os.PathLike, target: str | os.PathLike) -> Path:
    """Write a checkpoint of the supernet ``algorithm`` under the official names, under the key ``state_dict``.

    Raises:
        UserError: The file cannot be read, holds something else, or does not fit.
    """
    content = read_checkpoint(source)
    said = said_by(content)
    algorithm.check_meta(said, str(source))
    weights = fitting_weights(algorithm, content, source)
    algorithm.check_network(said, str(source))
    return _write({"state_dict": to_official(algorithm, weights)}, target)


def network_of(state: Mapping[str, Tensor], where: str | os.PathLike) -> tuple[str, float]:
    """Tell the backbone class and the width of an official checkpoint by its names and shapes.

    Raises:
        UserError: It is no such checkpoint.
    """
    names = [name.removeprefix("module.") for name in state]
    features = next((tensor.shape[-1] for name, tensor in state.items() if _is_classifier(name)), None)
    if features is None or not any(name.startswith("blocks.1.") for name in names):
        raise UserError(
            f"{where}: not a checkpoint of Once-for-All: expected names such as 'blocks.1. ...' and "
            f"'classifier.linear.weight', found {listed(list(names))}"
        )
    if any(name.startswith(("input_stem.", "max_pooling.")) for name in names):
        raise UserError(f"{where}: a ResNet of Once-for-All; only its MobileNetV3 and ProxylessNAS networks are read")
    mobile = any(name.startswith("final_expand_layer.") for name in names)
    return "OFAMobileNetV3" if mobile else "OFAProxylessNAS", round(features / _FEATURES, 3)


def check_depths(algorithm: nn.Module, depths: Sequence[int], where: str) -> None:
    """Compare MMRazor's ``--depth`` with the blocks of every stage, the first block's among them.

    Raises:
        UserError: They differ.
    """
    found = [len(stage) for stage in algorithm.architecture.backbone.layers]
    if list(depths) != found:
        raise UserError(
            f"--depth {' '.join(map(str, depths))}: {where} has {' '.join(map(str, found))} blocks; leave --depth out"
        )


def _is_classifier(name: str) -> bool:
    return name.removeprefix("module.").startswith("classifier.") and name.endswith("linear.weight")


def _block(name: str) -> re.Match | None:
    return _BLOCK.fullmatch(name.removeprefix(_ROOT))


def _official(name: str, number: Mapping[tuple[int, int], int], elastic: Iterable[tuple[str, str]]) -> str | None:
    """The official name of ``backbone. ...`` or ``head.fc. ...``; None where there is none."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        if name.startswith("head.fc."):
            return name.replace("head.fc.", "classifier.linear.")
        tail = name.removeprefix("backbone.")
        return tail if tail.startswith(("first_conv.", "final_expand_layer.", "feature_mix_layer.")) else None
    stage, index, rest = match.groups()
    layer, _, part = rest.partition(".")
    if layer not in ("inverted_bottleneck", "depth_conv", "point_linear"):
        return None
    matrix = _MATRIX.search(part)
    if matrix:
        part = f"conv.{matrix[1]}to{matrix[2]}_matrix"
    elif part.startswith("se."):
        part = part.replace("se.", "se.fc.", 1)
    elif (stage, index) in elastic:  # a dynamic layer holds the plain one
        kind, _, tensor = part.partition(".")
        part = f"{kind}.{kind}.{tensor}"
    return f"blocks.{number[int(stage), int(index)]}.conv.{layer}.{part}"


def _read_names(state: Mapping[str, Tensor], wanted: Iterable[str], where: str) -> tuple[dict[str, str], list[str]]:
    """Return official name -> name in the file, and the names that stand for nothing."""
    given: dict[str, str] = {}
    unexpected = []
    for key in state:
        name = key.removeprefix("module.").replace(".mobile_inverted_conv.", ".conv.")
        if name not in wanted:
            old, new = next((pair for pair in _OLDER if pair[0] in name), ("", ""))
            name = name.replace(old, new) if old else name
        if name not in wanted:
            unexpected.append(key)
        elif name in given:
            raise UserError(f"{where}: both '{given[name]}' and '{key}' stand for the weight '{name}'")
        else:
            given[name] = key
    return given, unexpected


def _write(content: dict, target: str | os.PathLike) -> Path:
    target = Path(target)
    save_checkpoint(content, target)
    print_log(f"wrote {target} (sha256 {checkpoint_hash(target)})", logger="current")
    return target
