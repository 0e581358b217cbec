"""Split a checkpoint of jointly trained subnets into one plain checkpoint per subnet."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmrazor_lite.config import build_model, load_config

from . import arguments, environment, purpose

OF_THE_SUPERNET = ("distiller", "num_random_samples", "width_range", "val_widths", "retraining")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="jointly trained model")
    parser.add_argument(
        "--channel-cfgs", nargs="+", required=True, metavar="FILE", help="files, or uniform widths such as 0.5"
    )
    parser.add_argument("--output-dir", metavar="DIR", help="for checkpoint_1.pth ... (default: beside CHECKPOINT)")


def run(args: argparse.Namespace) -> list[Path]:
    """Split and return the files written, in the order of ``--channel-cfgs``."""
    from mmrazor_lite.models.algorithms.widths import parse_entry

    subnets = [parse_entry(entry) for entry in args.channel_cfgs]
    files = [entry for entry in subnets if isinstance(entry, str)]
    checkpoint, *_ = arguments.require_files(
        args.config, (args.checkpoint, "checkpoint"), *((path, "subnet file") for path in files)
    )
    cfg = load_config(args.config, args.cfg_options)

    from mmrazor_lite.export import split

    if error := purpose.no_split(cfg, args.config):
        raise error
    cfg.model.channel_cfg = subnets
    for key in OF_THE_SUPERNET:  # its config describes the same network
        cfg.model.pop(key, None)
    algorithm = build_model(cfg)
    for path in files:
        environment.log_file("read", path)
    return split(algorithm, checkpoint, subnets, args.output_dir or checkpoint.parent)
