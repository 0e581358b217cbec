"""Write one subnet of a trained supernet as a file of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import check_outputs

from . import arguments, environment, purpose

_OF_NO_SUBNET = (
    "its batch norms keep the statistics of the supernet, which are of all its subnets: retrain it (model.init_cfg of "
    "its config), or let tools/search.py or tools/specialize.py write it with statistics of its own"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="trained supernet")
    parser.add_argument("subnet", help="subnet file, in any format")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="(default: beside CHECKPOINT, with the name of the subnet file)"
    )
    parser.add_argument("--launcher", choices=("none",), help="of MMRazor's command: one process does it")


def run(args: argparse.Namespace) -> Path:
    """Write the file, and return its path.

    Raises:
        UserError: The config is of no supernet, or the checkpoint or the subnet does not fit; nothing is written.
    """
    files = (args.checkpoint, "checkpoint"), (args.subnet, "subnet file")
    checkpoint, subnet = arguments.require_files(args.config, *files)
    target = Path(args.output) if args.output else checkpoint.with_name(f"{subnet.stem}.pth")
    check_outputs([target], [checkpoint, subnet])
    cfg = load_config(args.config, args.cfg_options)
    purpose.require(cfg, args.config, "a subnet of it")
    if "supernet" not in purpose.kinds(cfg) or cfg["model"].get("channel_cfg") is not None:
        raise UserError(
            f"'{args.config}' is not of a supernet; of jointly trained subnets, "
            "tools/model_converters/split_checkpoint.py writes the files"
        )
    algorithm = build_model(cfg)

    from mmengine.logging import print_log

    from mmrazor_lite.export import read_checkpoint
    from mmrazor_lite.export.best_subnet import write_best_checkpoint
    from mmrazor_lite.models.algorithms.loading import load_checked, log_loaded
    from mmrazor_lite.models.said import check_found
    from mmrazor_lite.subnet import read_subnet

    found = read_subnet(subnet, algorithm.search_space)
    check_found(found, algorithm.mutator, str(subnet))
    environment.log_file("read", subnet)
    load_checked(algorithm, read_checkpoint(checkpoint), str(checkpoint))
    log_loaded(algorithm, str(checkpoint))
    write_best_checkpoint(algorithm, found.subnet, target)
    print_log(f"{target}: {_OF_NO_SUBNET}", logger="current")
    return target
