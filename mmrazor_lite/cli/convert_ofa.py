"""Convert an official Once-for-All checkpoint into one of a supernet here, or back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmrazor_lite import shipped
from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import require_file

from . import arguments

CONFIGS = shipped.CONFIGS / "nas" / "mmcls" / "onceforall"
DEFAULT = {
    "OFAMobileNetV3": CONFIGS / "ofa_mobilenet_supernet_32xb64_in1k.py",
    "OFAProxylessNAS": CONFIGS / "ofa_proxyless_supernet_32xb64_in1k.py",
}
WIDTH = "model.width_mult"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("checkpoint", help="official checkpoint, such as ofa_mbv3_d234_e346_k357_w1.0")
    parser.add_argument("--config", metavar="FILE", help="of a supernet (default: the one that fits, of configs/)")
    arguments.add_cfg_options(parser, "the width is that of the weights")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("-o", "--output", metavar="FILE", help="(default: NAME_latest.pth beside CHECKPOINT)")
    output.add_argument("--inplace", action="store_true", help="replace CHECKPOINT")
    parser.add_argument("--depth", nargs="+", type=int, metavar="BLOCKS", help="compare with those of every stage")
    parser.add_argument("--to-official", action="store_true", help="the other way; needs --config")


def run(args: argparse.Namespace) -> Path:
    """Convert and return the file written.

    Raises:
        UserError: The file is none of Once-for-All, or does not fit the config; nothing is written.
    """
    source = require_file(args.checkpoint, "checkpoint")
    if args.to_official and args.config is None:
        raise UserError("--to-official needs --config FILE: the config of the supernet that the checkpoint is of")
    target = source if args.inplace else Path(args.output or _beside(source))

    from mmrazor_lite.export.ofa_checkpoint import check_depths, convert_official, convert_to_official

    cfg = _config(args, source)
    algorithm = build_model(cfg)
    if getattr(algorithm, "kind", None) != "supernet" or not hasattr(algorithm.architecture, "backbone"):
        raise UserError(f"--config {args.config}: must be of an OFA supernet, such as {DEFAULT['OFAMobileNetV3'].name}")
    if args.depth:
        check_depths(algorithm, args.depth, "the network")
    convert = convert_to_official if args.to_official else convert_official
    return convert(algorithm, source, target)


def _beside(source: Path) -> Path:
    """``NAME_latest.pth``; official names end in the width, such as ``w1.0``, which is no ending of a file."""
    name = source.stem if source.suffix in (".pth", ".pt") else source.name
    return source.with_name(f"{name}_latest.pth")


def _config(args: argparse.Namespace, source: Path) -> Any:
    """The config given, or the one that fits, at the width of the weights unless an option says another."""

    options = list(args.cfg_options)
    if args.to_official:
        return load_config(args.config, options)

    from mmrazor_lite.checkpoints import read_checkpoint, state_dict_of
    from mmrazor_lite.checkpoints.ofa_names import network_of

    backbone, width = network_of(state_dict_of(read_checkpoint(source), source), str(source))
    path = args.config or str(DEFAULT[backbone])
    require_file(path, "config")
    if not any(option.split("=")[0].replace("algorithm.", "model.") == WIDTH for option in options):
        options.append(f"{WIDTH}={width}")
    return load_config(path, options)
