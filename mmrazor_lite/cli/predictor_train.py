"""Train an accuracy predictor on subnets that were evaluated."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import arguments, environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("scores", help="file of tools/predictor/collect.py")
    parser.add_argument("-o", "--out", default="predictor.safetensors", help="file (default: %(default)s)")
    parser.add_argument("--held-out", type=float, default=0.2, help="share to test on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=200, help="through the subnets (default: %(default)s)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[400, 400, 400], help="widths of the hidden layers")
    parser.add_argument("--weight-decay", type=float, default=1e-2, help="of the weights (default: %(default)s)")
    parser.add_argument("--seed", type=arguments.seed, default=0, help="of everything random (default: %(default)s)")


def run(args: argparse.Namespace) -> Path:
    """Train, print the rank correlation on held-out subnets, write the file and return its path."""
    environment.require_file(args.scores, "scores")

    import numpy as np

    from mmrazor_lite.engine.collection import Collection
    from mmrazor_lite.search.fit import fit_predictor

    from .config import load_config

    cfg = load_config(args.config, args.cfg_options)
    space = environment.build_model(cfg).search_space
    collection = Collection(args.scores, space)
    rows = np.array(collection.rows).reshape(-1, len(space))
    options = {"held_out": args.held_out, "hidden": args.hidden, "epochs": args.epochs}
    predictor = fit_predictor(space, rows, collection.scores, **options, weight_decay=args.weight_decay, seed=args.seed)
    known = ("supernet", "network", "evaluator")
    predictor.facts |= {key: collection.header[key] for key in known if key in collection.header}
    predictor.write(args.out)
    facts = predictor.facts
    print(
        f"fitted to {facts['train']} subnets; on {facts['held_out']} held out: Kendall tau {facts['kendall_tau']:.3f}, "
        f"Spearman rho {facts['spearman_rho']:.3f}, error {facts['rmse']:.3g} (predicting the mean: "
        f"{facts['rmse_of_the_mean']:.3g}); wrote {args.out}"
    )
    return Path(args.out)
