"""From a joint model of several subnets to one plain checkpoint for each."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmrazor_lite import __version__
from mmrazor_lite.errors import UserError
from mmrazor_lite.export.checkpoint import (
    check_space,
    checkpoint_hash,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)
from mmrazor_lite.export.loading import load_subnet
from mmrazor_lite.export.portable import export_pt2
from mmrazor_lite.export.rebuild import carried, is_rebuildable
from mmrazor_lite.fileio import atomic_write
from mmrazor_lite.models.algorithms.construct import build_architecture
from mmrazor_lite.models.classifiers import main_logits, offline, plain_module
from mmrazor_lite.subnet import Subnet, parse_document, read_subnet, subnet_document, write_subnet

TOLERANCE = 1e-5  # of float32 logits, relative to the largest of them or to 1


def split(
    algorithm: nn.Module,
    checkpoint: str | os.PathLike,
    channel_cfgs: Sequence[str | os.PathLike],
    output_dir: str | os.PathLike | None = None,
) -> list[Path]:
    """Write ``checkpoint_{i}.pth`` and ``checkpoint_{i}.pt2`` for the i-th of ``channel_cfgs``, from 1.

    A subnet finds its batch norms by what it is, not by its place in a list. Each file holds the subnet's own weights
    under the plain model's names, and says which subnet of which architecture it is and what it costs. Before a file
    gets its name, it is read back and its logits are compared with those of the subnet inside the joint model.

    Args:
        algorithm: A joint model of the architecture; when it lists other subnets than the checkpoint, or the same in
            another order, it is built anew with those of the checkpoint.
        checkpoint: Checkpoint of the joint model.
        channel_cfgs: Subnet files.
        output_dir: By default the folder of the checkpoint.

    Returns:
        The ``.pth`` files, in the order of ``channel_cfgs``.

    Raises:
        UserError: The checkpoint is not a joint model's or does not fit; a subnet it was not trained for, or one that
            is asked for twice; a written file whose logits differ.
    """
    content = read_checkpoint(checkpoint)
    print_log(f"split: loaded {checkpoint} (sha256 {checkpoint_hash(checkpoint)})", logger="current")
    space = algorithm.search_space
    check_space(algorithm, content, checkpoint, "joint", space.fingerprint)
    algorithm = _with_subnets(algorithm, _trained(content, space, str(checkpoint)), str(checkpoint))
    load_weights(algorithm, content, checkpoint)
    algorithm.eval()
    wanted = [read_subnet(path, space).subnet for path in channel_cfgs]
    _check_wanted(wanted, channel_cfgs, algorithm, str(checkpoint))
    folder = Path(output_dir) if output_dir else Path(checkpoint).parent
    return [_write(algorithm, subnet, folder / f"checkpoint_{index}") for index, subnet in enumerate(wanted, start=1)]


def _write(algorithm: nn.Module, subnet: Subnet, stem: Path) -> Path:
    module = plain_module(algorithm.mutator.export(subnet)).cpu()
    module.eval()
    images, expected = _probe(algorithm, subnet)
    costs = algorithm.mutator.cost_model.of(subnet)
    content = {"state_dict": module.state_dict(), "meta": {"mmrazor_lite": _meta(algorithm, subnet, costs)}}
    programme, weights = stem.with_suffix(".pt2"), stem.with_suffix(".pth")
    with tempfile.TemporaryDirectory() as folder, atomic_write(weights) as temporary:
        save_checkpoint(content, temporary)
        _compare(lambda: _read_back(algorithm, temporary, module), images, expected, weights)
        draft = Path(folder) / programme.name
        has_programme = _write_pt2(module, draft, images, expected)
        # All is well. The old pair goes, the .pth comes back last: where it stands, its .pt2 is of the same subnet.
        weights.unlink(missing_ok=True)
        programme.unlink(missing_ok=True)
        if has_programme:
            with atomic_write(programme) as target:
                shutil.copyfile(draft, target)
    for path in (weights, programme) if has_programme else (weights,):
        print_log(f"split: wrote {path} (sha256 {checkpoint_hash(path)})", logger="current")
    resources = ", ".join(f"{value:,} {key}" for key, value in costs.items())
    print_log(f"split: {weights.name} costs {resources}", logger="current")
    return weights


def _read_back(algorithm: nn.Module, path: Path, module: nn.Module) -> nn.Module:
    """Load a written file as a user will; where nothing tells how to build the network, return ``module`` itself."""
    architecture = algorithm.config["architecture"]
    if architecture is None or is_rebuildable(architecture):
        return module if architecture is None else load_subnet(path)
    return load_subnet(path, build_architecture(architecture, algorithm.config["data_preprocessor"]))


def _write_pt2(module: nn.Module, path: Path, images: Tensor, expected: Tensor) -> bool:
    """Write the program; tell whether there is one. A model with a batch size in its code still gets its ``.pth``."""
    try:
        export_pt2(module, path, images.shape[1:])
    except UserError as error:
        print_log(f"split: no {path.name} ({error})", logger="current", level=logging.WARNING)
        return False
    _compare(lambda: torch.export.load(str(path)).module(), images, expected, path)
    return True


def _meta(algorithm: nn.Module, subnet: Subnet, costs: Mapping[str, int]) -> dict[str, Any]:
    return {
        "version": __version__,
        "kind": "subnet",
        "space": algorithm.search_space.fingerprint,
        "subnet": subnet_document(subnet, algorithm.search_space, resources=costs),
        "resources": dict(costs),
        "architecture": carried(offline(algorithm.config["architecture"])),
        **{key: carried(algorithm.config[key]) for key in ("mutator", "data_preprocessor")},
        "input_shape": list(algorithm.input_shape),
    }


@torch.no_grad()
def _probe(algorithm: nn.Module, subnet: Subnet) -> tuple[Tensor, Tensor]:
    """Return seeded images (2, C, H, W) and their logits by ``subnet`` inside the joint model, on the CPU."""
    algorithm.mutator.activate(subnet)
    images = torch.randn((2, *algorithm.input_shape), generator=torch.Generator().manual_seed(0))
    parameter = next(algorithm.parameters())
    return images.to(parameter.dtype), algorithm(images.to(parameter), mode="tensor").cpu()


@torch.no_grad()
def _compare(load: Callable[[], nn.Module], images: Tensor, expected: Tensor, path: Path) -> None:
    difference = (main_logits(load()(images)) - expected).abs().max().item()
    allowed = TOLERANCE * max(1.0, expected.abs().max().item())
    if not difference <= allowed:
        raise UserError(
            f"{path}: not written, its logits differ from those of the joint model by {difference:.3g} "
            f"(allowed {allowed:.3g}); are the weights finite?"
        )


def _trained(content: Mapping[str, Any], space: Any, where: str) -> list[Subnet] | None:
    """Return the subnets the checkpoint was trained for, in the order of their batch norms; ``None`` if unsaid."""
    meta = content.get("meta")
    meta = meta.get("mmrazor_lite") if isinstance(meta, dict) else None
    if not isinstance(meta, dict):
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
    wanted: Sequence[Subnet], paths: Sequence[str | os.PathLike], algorithm: nn.Module, where: str
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
