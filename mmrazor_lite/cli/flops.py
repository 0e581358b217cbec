"""Count macs, flops, params and memory of a model, or of one subnet of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from mmrazor_lite.errors import UserError

from . import arguments, environment, subnets

MEGA = 1e6
SUB_MODEL = "mmrazor_lite.sub_model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("--subnet", metavar="FILE", help="count this subnet instead of the whole model")
    parser.add_argument(
        "--input-shape", "--shape", nargs="+", type=int, metavar="SIZE", help="H, or H W (default: the config's)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, counts unscaled")


def run(args: argparse.Namespace) -> dict[str, int]:
    """Print and return the counts for one image."""
    from .config import load_config

    if args.subnet:
        environment.require_file(args.subnet, "subnet file")
    if args.input_shape and (len(args.input_shape) > 2 or min(args.input_shape) < 1):
        raise UserError(f"--input-shape {args.input_shape}: give H, or H W, both positive")
    cfg = load_config(args.config, args.cfg_options)
    own = _input_shape(cfg.model)
    height, *width = args.input_shape or own[1:]
    shape = (3, height, *(width or [height]))
    fixed = subnets.is_sub_model(cfg.model)
    searchable = "architecture" in cfg.model
    mutator = cfg.model.get("mutator") or (cfg.model.get("cfg") or {}).get("mutator") or {}
    built = tuple(own) if mutator.get("resolutions") else shape  # the largest resolution is that of input_shape
    if searchable or fixed:
        cfg.model.input_shape = built
    if args.subnet:
        if not (searchable or fixed):
            raise UserError(f"--subnet: '{args.config}' builds a {cfg.model.type}, which has no subnets")
        inner = cfg.model.cfg if fixed else cfg.model
        cfg.model = {"type": SUB_MODEL, "cfg": inner, "fix_subnet": args.subnet, "input_shape": built}

    from mmrazor_lite.estimators import ResourceEstimator

    model = environment.build_model(cfg)
    if not args.input_shape:
        shape = tuple(getattr(model, "input_shape", shape))  # a subnet may have a resolution of its own
    counts = dict(ResourceEstimator(input_shape=(1, *shape)).estimate(model))
    if args.json:
        print(json.dumps({**counts, "unscaled": True}))
    else:
        print(f"input 1x{'x'.join(map(str, shape))}")
        for name, value in counts.items():
            unit = "MB" if name == "memory" else "M"
            print(f"{name:8}{value / MEGA:12.2f} {unit:3}({value:,})")
    return counts


def _input_shape(model: Any) -> Sequence[int]:
    """The config's: a subnet's may say it in the supernet's config it is made from."""
    inner = model.get("cfg") or {}
    return model.get("input_shape") or inner.get("input_shape") or (3, 224, 224)
