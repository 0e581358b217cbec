"""Show what of a model can be slimmed: width groups, what stays and why, cost per layer, smallest and largest costs."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmrazor_lite.config import load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.shapes import image_shape, resized_shape

from . import arguments
from .trained_network import by_name

if TYPE_CHECKING:
    from mmrazor_lite.estimators import Analysis

DEFAULT_MUTATOR = {"type": "OneShotChannelMutator"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("config", nargs="?", help="config file, or mmrazor_lite::configs/...; or give --model")
    parser.add_argument("--model", metavar="NAME", help="torchvision.NAME, timm.NAME or my_module.MyNet, of no config")
    arguments.add_cfg_options(parser, "with --model: arguments of the network, such as model.num_classes=10")
    parser.add_argument("--input-shape", "--shape", nargs="+", type=int, metavar="SIZE", help=arguments.INPUT_SHAPE)
    parser.add_argument("--sort", choices=("network", "macs"), default="network", help="order of the table of layers")
    parser.add_argument("--top", type=int, metavar="N", help="only the first N rows of the table of layers")
    parser.add_argument("--full", action="store_true", help="name every layer of a group and of a reason")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the macs of each layer")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else, counts unscaled")


def run(args: argparse.Namespace) -> Analysis:
    """Print and return the analysis."""
    if (args.config is None) == (args.model is None):
        raise UserError(
            f"analyze: give a config or --model NAME, {'one of them' if args.model is None else 'not both'}"
        )
    if args.top is not None and args.top < 1:
        raise UserError(f"--top {args.top}: give a number of rows, 1 or more")
    with contextlib.redirect_stdout(sys.stderr):  # whatever a model prints while it is built
        if args.model is not None:
            analysis = analyse_named(args.model, args.cfg_options, args.input_shape)
        else:
            analysis = analyse_config(load_config(args.config, args.cfg_options), args.input_shape)
    from mmrazor_lite.visualization import plot_layers, show_analysis

    if args.json:
        print(json.dumps({**analysis.as_dict(), "unscaled": True}))
    else:
        show_analysis(analysis, args.sort, args.top, args.full)
    if args.plot:
        title = f"{analysis.model}: {analysis.searchable_share:.1%} of the macs searchable"
        bars = [(layer.name, layer.macs.max, layer.macs.min, layer.searchable) for layer in analysis.layers]
        plot_layers(args.plot, bars, title)
        if not args.json:
            print(f"wrote {args.plot}")
    return analysis


def analyse_named(name: str, options: Sequence[str] = (), size: Sequence[int] | None = None) -> Analysis:
    """Analyse a network by its name, which needs no package of OpenMMLab; see :func:`trained_network.by_name`.

    Args:
        name: ``torchvision.NAME``, ``timm.NAME`` or an import path.
        options: ``model.KEY=VALUE``: arguments of what builds it.
        size: H, or H and W, or T, H and W of a clip; by default 224.
    """
    from mmrazor_lite.estimators import analyse
    from mmrazor_lite.models.mutators import OneShotChannelMutator

    model = by_name(name, None, options, seed=0).module
    shape, mutator = resized_shape((3, 224, 224), size), OneShotChannelMutator()
    mutator.prepare(model, shape)
    return analyse(mutator, model, shape, name)


def analyse_config(cfg: Any, size: Sequence[int] | None = None) -> Analysis:
    """Analyse the architecture of a config of ours, with its mutator, or the model of a plain one with ours.

    Args:
        size: H, or H and W, or T, H and W of a clip; by default of the config's ``input_shape``, 224 without one.

    Raises:
        UserError: the config has no model, or one that cannot be traced.
    """
    from mmengine.registry import init_default_scope

    from mmrazor_lite.estimators import analyse
    from mmrazor_lite.models.algorithms.construct import build_architecture, build_part
    from mmrazor_lite.registry import MUTATORS

    init_default_scope(cfg.get("default_scope", "mmpretrain"))
    if cfg.get("model") is None:
        raise UserError(f"'{cfg.filename}' has no model: give a config with model=dict(type=...)")
    section = cfg.model
    shape = resized_shape(image_shape(section.get("input_shape", (3, 224, 224)), "model.input_shape"), size)
    preprocessor = cfg.get("data_preprocessor")
    architecture = section.get("architecture", section)
    own = section.get("data_preprocessor") if "architecture" in section else None
    model = build_architecture(architecture, own or preprocessor)
    mutator = build_part(MUTATORS, section.get("mutator") or DEFAULT_MUTATOR, "algorithm.mutator")
    mutator.prepare(model, shape)
    return analyse(mutator, model, shape, _label(architecture))


def _label(architecture: Mapping) -> str:
    """The name of a model for people: its type, and that of its backbone."""
    backbone = architecture.get("backbone")
    types = [part.get("type") for part in (architecture, backbone) if isinstance(part, Mapping)]
    names = [kind if isinstance(kind, str) else getattr(kind, "__name__", "model") for kind in types]
    return " of ".join(name.removeprefix("mmpretrain.").removeprefix("mmrazor_lite.") for name in names)
