"""From a joint model of several subnets to one plain checkpoint for each."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmrazor_lite.checkpoints import (
    checkpoint_hash,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)
from mmrazor_lite.errors import UserError
from mmrazor_lite.export.extraction import Extract, compare, extract, read_back
from mmrazor_lite.export.portable import export_pt2, read_pt2
from mmrazor_lite.fileio import FileSet, check_outputs
from mmrazor_lite.models.algorithms.loading import check_space
from mmrazor_lite.models.algorithms.widths import subnet_of
from mmrazor_lite.models.said import check_computation, said_by
from mmrazor_lite.subnet import Subnet, parse_document, write_subnet


def split(
    algorithm: nn.Module,
    checkpoint: str | os.PathLike,
    channel_cfgs: Sequence[str | os.PathLike | float],
    output_dir: str | os.PathLike | None = None,
) -> list[Path]:
    """Write ``checkpoint_{i}.pth`` and ``checkpoint_{i}.pt2`` for the i-th of ``channel_cfgs``, from 1.

    A subnet finds its batch norms by what it is, not by its place in a list. Each file holds the subnet's own weights
    under the plain model's names, and says which subnet of which architecture it is and what it costs. Each is
    read back and its logits are compared with those of the subnet inside the joint model; when all are whole on the
    disk, they get their names.

    Args:
        algorithm: A joint model of the architecture; when it lists other subnets than the checkpoint, or the same in
            another order, it is built anew with those of the checkpoint.
        checkpoint: Checkpoint of the joint model.
        channel_cfgs: Subnet files, or uniform widths.
        output_dir: By default the folder of the checkpoint.

    Returns:
        The ``.pth`` files, in the order of ``channel_cfgs``.

    Raises:
        UserError: The checkpoint is not a joint model's or does not fit; a subnet it was not trained for, or one that
            is asked for twice; a written file whose logits differ.
    """
    folder = Path(output_dir) if output_dir else Path(checkpoint).parent
    targets = [folder / f"checkpoint_{index}.pth" for index, _ in enumerate(channel_cfgs, start=1)]
    named = [entry for entry in channel_cfgs if not isinstance(entry, float | int)]
    check_outputs(
        [path for weights in targets for path in (weights, weights.with_suffix(".pt2"))], [checkpoint, *named]
    )
    content = read_checkpoint(checkpoint)
    print_log(f"split: loaded {checkpoint} (sha256 {checkpoint_hash(checkpoint)})", logger="current")
    space = algorithm.search_space
    check_space(algorithm, content, str(checkpoint), "joint", space.fingerprint)
    algorithm = _with_subnets(algorithm, _trained(content, space, str(checkpoint)), str(checkpoint))
    check_computation(said_by(content).get("computation"), algorithm.computation, str(checkpoint))
    load_weights(algorithm, content, checkpoint)
    algorithm.data = said_by(content).get("data")
    algorithm.eval()
    wanted = [subnet_of(entry, algorithm.mutator) for entry in channel_cfgs]
    _check_wanted(wanted, channel_cfgs, algorithm, str(checkpoint))
    costs = []
    with FileSet() as files:
        for subnet, weights in zip(wanted, targets, strict=True):
            costs.append(_write(algorithm, subnet, weights, files))
    for weights, cost in zip(targets, costs, strict=True):
        for path in filter(Path.is_file, (weights, weights.with_suffix(".pt2"))):
            print_log(f"split: wrote {path} (sha256 {checkpoint_hash(path)})", logger="current")
        resources = ", ".join(f"{value:,} {key}" for key, value in cost.items())
        print_log(f"split: {weights.name} costs {resources}", logger="current")
    return targets


def _write(algorithm: nn.Module, subnet: Subnet, weights: Path, files: FileSet) -> Mapping[str, int]:
    """Write the pair of one subnet into ``files``; return what it costs."""
    found = extract(algorithm, subnet)
    programme = weights.with_suffix(".pt2")
    # The old .pth goes first, the new one comes last: where it stands, its .pt2 is of the same subnet.
    files.replace(weights)
    draft = files.new(programme)
    temporary = files.new(weights)
    save_checkpoint(found.content, temporary)
    compare(lambda: read_back(algorithm, temporary, found.module), found, weights)
    if not _write_pt2(found, draft, programme):
        files.without(programme)
    return found.costs


def _write_pt2(found: Extract, draft: Path, path: Path) -> bool:
    """Write the program; tell whether there is one. A model with a batch size in its code still gets its ``.pth``."""
    try:
        export_pt2(found.module, draft, found.images.shape[1:])
    except UserError as error:
        print_log(f"split: no {path.name} ({error})", logger="current", level=logging.WARNING)
        return False

    compare(partial(read_pt2, draft), found, path)
    return True


def _trained(content: Mapping[str, Any], space: Any, where: str) -> list[Subnet] | None:
    """Return the subnets the checkpoint was trained for, in the order of their batch norms; ``None`` if unsaid."""
    meta = said_by(content)
    if not meta:
        return None
    kind = meta.get("kind")
    if kind != "joint":
        raise UserError(f"{where}: holds a {kind} model, nothing to split; expected a joint model of subnets")
    return [parse_document(document, space, where).subnet for document in meta.get("subnets", ())]


def _with_subnets(algorithm: nn.Module, subnets: list[Subnet] | None, where: str) -> nn.Module:
    if subnets is None or subnets == list(algorithm.subnets):
        if not algorithm.subnets:
            raise UserError(f"{where}: does not say its subnets; list them in algorithm.channel_cfg, as trained")
        return algorithm
    if algorithm.config["architecture"] is None:
        raise UserError(f"{where}: was trained for other subnets than algorithm.channel_cfg lists, or in another order")
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{index}.yaml") for index in range(len(subnets))]
        for path, subnet in zip(paths, subnets, strict=True):
            write_subnet(path, subnet, algorithm.search_space)
        return type(algorithm)(**algorithm.config, channel_cfg=paths)


def _check_wanted(
    wanted: Sequence[Subnet], paths: Sequence[str | os.PathLike | float], algorithm: nn.Module, where: str
) -> None:
    for position, (subnet, path) in enumerate(zip(wanted, paths, strict=True)):
        if subnet not in algorithm.subnets:
            costs = [algorithm.mutator.cost_model.of(trained) for trained in algorithm.subnets]
            fitting = "; ".join(f"{cost['macs']:,} macs, {cost['params']:,} params" for cost in costs)
            mine = algorithm.mutator.cost_model.of(subnet)
            raise UserError(
                f"{path}: {where} was not trained for this subnet ({mine['macs']:,} macs, {mine['params']:,} params); "
                f"it holds subnets of {fitting}"
            )
        if subnet in wanted[:position]:
            raise UserError(f"{path}: the same subnet as {paths[list(wanted).index(subnet)]}; give each once")
