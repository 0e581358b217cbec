"""Write the network that a TF-NAS search has found so far, from a checkpoint of the search."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import require_file

from . import arguments, subnets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("checkpoint", help="of a search (epoch_N.pth); or a subnet file, or a model.config")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the subnet, YAML")
    parser.add_argument(
        "--config",
        default="mmrazor_lite::configs/nas/tfnas/tfnas_subnet_2xb512_in1k.py",
        help="of the network to be trained, whose costs are stated (default: %(default)s)",
    )
    parser.add_argument(
        "--latency-table", metavar="FILE", help="take the latency from this table, ours or an official one"
    )
    parser.add_argument("--model-config", metavar="FILE", help="write the authors' model.config too")
    arguments.add_cfg_options(parser, "that is --config's")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the subnet with its macs, params and latency, and return these."""
    from mmrazor_lite.fileio import FileSet, write_text_atomic
    from mmrazor_lite.subnet import parse_document, write_subnet
    from mmrazor_lite.subnet.yamlio import load_yaml

    path = require_file(args.checkpoint, "checkpoint")
    if path.name.endswith(".pth.tar"):
        raise UserError(f"{path}: checkpoints of the authors' code are not read; give the model.config beside it")
    for flag, file in (("-o", args.output), ("--model-config", args.model_config)):
        if file is not None and Path(file).is_dir():
            raise UserError(f"{flag} '{file}' is a folder: give the name of the file to write")
    cfg = load_config(args.config, args.cfg_options)
    if not subnets.is_sub_model(cfg.get("model")):
        raise UserError(f"--config {args.config}: expected is the config of one subnet (model.type='sub_model')")
    document = _searched(path) if path.suffix in (".pth", ".pt") else load_yaml(path)
    latency = (document.get("resources") or {}).get("latency") if isinstance(document, Mapping) else None
    cfg.model.fix_subnet, cfg.model.init_cfg = document, None
    try:
        model = build_model(cfg)
    except UserError as error:
        raise UserError(f"{path} with --config {args.config}: {error}") from error
    subnet = parse_document(document, model.search_space, str(path), path).subnet
    costs = {**model.cost_model.of(subnet)}
    if args.latency_table:
        latency = _latency(args.latency_table, cfg.model, subnet)
    if latency is not None:
        costs["latency"] = latency
    content = _model_config(model, args.config) if args.model_config else None
    made_by = {"tool": "parse_tfnas", "checkpoint": str(path)}
    with FileSet() as files:
        write_subnet(files.new(args.output), subnet, model.search_space, costs, made_by=made_by)
        if args.model_config:
            write_text_atomic(files.new(args.model_config), json.dumps(content, indent=4) + "\n")
    print(
        f"wrote {args.output}: "
        + ", ".join(f"{value:,.10g} {'ms' if k == 'latency' else k}" for k, value in costs.items())
    )
    if args.model_config:
        print(f"wrote {args.model_config}")
    return costs


def _searched(path: Path) -> dict[str, Any]:
    """The subnet document that a checkpoint holds."""
    from mmrazor_lite.export import read_checkpoint
    from mmrazor_lite.models.algorithms.tfnas import searched_in

    document = searched_in(read_checkpoint(path))
    if document is None:
        raise UserError(
            f"{path}: not a checkpoint of a TF-NAS search; of a split or retrained net, its subnet is inside"
        )
    return document


def _model_config(model: Any, config: str) -> dict[str, Any]:
    """The authors' file of a network."""
    from mmrazor_lite.export.tfnas_model_config import model_config

    try:
        return model_config(model.architecture, model.architecture.head.num_classes)
    except ValueError as error:
        raise UserError(f"--model-config with --config {config}: {error}") from error


def _latency(table: str, model: Mapping[str, Any], subnet: Mapping[str, Any]) -> float:
    """Milliseconds of a subnet by a table."""
    from mmrazor_lite.estimators.latency_reading import read_table
    from mmrazor_lite.models.algorithms.construct import build_architecture, build_part
    from mmrazor_lite.registry import MUTATORS

    require_file(table, "latency table")
    mutator = build_part(MUTATORS, model.get("mutator") or {"type": "NasMutator"}, "model.mutator")
    mutator.prepare(build_architecture(model["cfg"], None), model.get("input_shape") or (3, 224, 224))
    return read_table(table, mutator).of(subnet)
