"""Evaluate random subnets of a trained supernet, into a data set for an accuracy predictor."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from mmrazor_lite.config import load_config
from mmrazor_lite.errors import UserError, building
from mmrazor_lite.fileio import require_file

from . import arguments, environment
from .arguments import RESOURCES
from .limits import refuse_given
from .search import load_supernet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="trained supernet")
    parser.add_argument("-n", "--number", type=int, default=500, help="subnets in the end (default: 500)")
    parser.add_argument("-o", "--out", help="file (default: scores.jsonl in the work dir); what is there is kept")
    arguments.add_run(parser)


def run(args: argparse.Namespace) -> Path:
    """Collect and return the file. The config is one of a search: it says the images and the metric."""
    if args.number < 1:
        raise UserError(f"--number {args.number} must be 1 or more")
    require_file(args.checkpoint, "checkpoint")
    unused = [f"search_cfg.{key}" for key in ("constraints_range", "searcher", "latency_table", "predictor")]
    unused += [f"search_cfg.target_{resource}" for resource in RESOURCES]
    refuse_given(args.cfg_options or [], unused, "subnets are drawn from the whole space, without limits or a searcher")
    cfg = load_config(args.config, args.cfg_options)
    runner, settings = load_supernet(cfg, args, args.checkpoint)

    from mmrazor_lite.engine.collection import Collection, collect
    from mmrazor_lite.engine.evaluator import SubnetEvaluator
    from mmrazor_lite.engine.search_build import read_settings
    from mmrazor_lite.export import checkpoint_hash

    algorithm, seed = runner.algorithm, cfg.randomness.seed
    path = Path(args.out or Path(cfg.work_dir) / "scores.jsonl")
    environment.hold_file(path, args)
    with building("search_cfg"):
        evaluator = SubnetEvaluator(algorithm, replace(read_settings(settings, algorithm), seed=seed))
    about = {
        "supernet": f"sha256:{checkpoint_hash(args.checkpoint)}",
        "network": algorithm.cost_model.fingerprint,
        "evaluator": evaluator.settings,
    }
    collection = Collection(path, algorithm.search_space, about, algorithm.cost_model, args.checkpoint)
    runner.write_config()
    collect(evaluator, collection, algorithm.cost_model, args.number, seed)
    environment.log_file("wrote", path)
    return path
