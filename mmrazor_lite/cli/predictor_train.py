"""Train an accuracy predictor on subnets that were evaluated."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import require_file

from . import arguments

FEW = 30  # subnets held out; of fewer, the correlation is mostly chance


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
    require_file(args.scores, "scores")

    import numpy as np

    from mmrazor_lite.engine.collection import Collection
    from mmrazor_lite.search.fit import fit_predictor

    cfg = load_config(args.config, args.cfg_options)
    model = build_model(cfg)
    space = model.search_space
    collection = Collection(args.scores, space, cost=model.cost_model)
    network = model.cost_model.fingerprint
    if collection.header.get("network", network) != network:
        raise UserError(
            f"{args.scores}: collected of a network of other widths or image sizes, with the same choices; give the "
            "config it was collected with"
        )
    rows = np.array(collection.rows).reshape(-1, len(space))
    options = {"held_out": args.held_out, "hidden": args.hidden, "epochs": args.epochs}
    predictor = fit_predictor(space, rows, collection.scores, **options, weight_decay=args.weight_decay, seed=args.seed)
    known = ("supernet", "network", "evaluator")
    predictor.facts |= {key: collection.header[key] for key in known if key in collection.header}
    predictor.write(args.out)
    facts = predictor.facts
    tau, rho = (_shown(facts[key]) for key in ("kendall_tau", "spearman_rho"))
    print(
        f"fitted to {facts['train']} subnets; on {facts['held_out']} held out: Kendall tau {tau}, Spearman rho {rho}, "
        f"error {facts['rmse']:.3g} (predicting the mean: {facts['rmse_of_the_mean']:.3g}); wrote {args.out}"
    )
    if facts["held_out"] < FEW:
        print(f"note: a rank correlation of {facts['held_out']} subnets says little; collect more, better 500")
    return Path(args.out)


def _shown(correlation: float | None) -> str:
    return "none (all predictions are the same)" if correlation is None else f"{correlation:.3f}"
