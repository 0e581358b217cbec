"""Checkpoints of Once-for-All's authors to ours, and back; their names are in ``mmrazor_lite.checkpoints.ofa_names``.

Their files are also read as they are wherever weights are; a converted one says what it holds, as ours do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from mmrazor_lite.checkpoints import (
    checkpoint_hash,
    fitting_weights,
    ofa_names,
    read_checkpoint,
    save_checkpoint,
)
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.said import said_by
from mmrazor_lite.registry import SCOPE
from mmrazor_lite.subnet.space import listed

_ROOT = "architecture."


def official_names(algorithm: nn.Module) -> dict[str, str]:
    """Map the names of an OFA algorithm's weights to those of the authors' network.

    Args:
        algorithm: With an ``OFAMobileNetV3`` or ``OFAProxylessNAS`` and a linear head.

    Raises:
        UserError: The network is none of these.
    """
    ours = {name.removeprefix(_ROOT): name for name in algorithm.state_dict() if name.startswith(_ROOT)}
    names = {ours[short]: official for short, official in ofa_names.official_names(ours).items()}
    strange = [name for name, official in names.items() if official is None]
    if strange or not ofa_names.are_official(filter(None, names.values())):
        raise UserError(
            "the config does not build a network of Once-for-All (OFAMobileNetV3 or OFAProxylessNAS with a linear head)"
            + (f"; it has {listed(strange)}" if strange else "")
        )
    return names


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
        UserError: The file cannot be read, or does not fit; ``algorithm`` is of another network.
    """
    official_names(algorithm)
    weights = fitting_weights(algorithm, read_checkpoint(source), source)
    print_log(f"read {source} (sha256 {checkpoint_hash(source)})", logger="current")
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


def _write(content: dict, target: str | os.PathLike) -> Path:
    target = Path(target)
    save_checkpoint(content, target)
    print_log(f"wrote {target} (sha256 {checkpoint_hash(target)})", logger="current")
    return target
