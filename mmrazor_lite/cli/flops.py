"""Count macs, flops, params and memory of a model, or of one subnet of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import require_file
from mmrazor_lite.shapes import image_shape, resized_shape

from . import arguments, purpose, subnets

MEGA = 1e6
SUB_MODEL = "mmrazor_lite.sub_model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("--subnet", metavar="FILE", help="count this subnet instead of the whole model")
    parser.add_argument("--input-shape", "--shape", nargs="+", type=int, metavar="SIZE", help=arguments.INPUT_SHAPE)
    parser.add_argument("--json", action="store_true", help="print JSON, counts unscaled")


def run(args: argparse.Namespace) -> dict[str, int]:
    """Print and return the counts for one image."""

    if args.subnet:
        require_file(args.subnet, "subnet file")
    cfg = load_config(args.config, args.cfg_options)
    purpose.require(cfg, args.config, "counting")
    fixed = subnets.is_sub_model(cfg.model)
    searchable = "architecture" in cfg.model
    if fixed:  # what is counted needs no weights, which may be an address
        cfg.model.init_cfg, cfg.model.init_weight_from_supernet = None, False
    if args.subnet:
        if not (searchable or fixed):
            raise UserError(f"--subnet: '{args.config}' builds a {cfg.model.type}, which has no subnets")
        _take_subnet(cfg, args.subnet, args.input_shape, fixed)
    own = image_shape(_input_shape(cfg.model), "model.input_shape")
    shape = resized_shape(own, args.input_shape)
    if searchable or fixed:
        # The largest resolution is that of input_shape.
        cfg.model.input_shape = own if _mutator(cfg.model).get("resolutions") else shape

    from mmrazor_lite.estimators import ResourceEstimator

    model = build_model(cfg)
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


def _take_subnet(cfg: Any, path: str, shape: Sequence[int] | None, fixed: bool) -> None:
    """Make ``cfg.model`` the subnet of a file.

    A file of Once-for-All says one image size of its own, or none: that one, or ``--input-shape``, is then the only
    resolution. Published networks have sizes that no config here offers.
    """
    from mmrazor_lite.subnet.subnet_file import image_size  # numpy is slow to import

    outer = cfg.model if fixed else {"type": SUB_MODEL, "cfg": cfg.model}
    cfg.model = {**outer, "fix_subnet": path}
    size = image_size(path) or (shape[0] if shape and len(set(shape)) == 1 else None)
    offered = _mutator(cfg.model)
    if size and offered.get("resolutions"):
        offered["resolutions"] = [size]
        cfg.model.input_shape = (3, size, size)


def _mutator(model: Any) -> Any:
    return model.get("mutator") or (model.get("cfg") or {}).get("mutator") or {}


def _input_shape(model: Any) -> Sequence[int]:
    """The config's: a subnet's may say it in the supernet's config it is made from."""
    inner = model.get("cfg") or {}
    return model.get("input_shape") or inner.get("input_shape") or (3, 224, 224)
