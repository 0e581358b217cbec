"""Test a checkpoint: a supernet, jointly trained subnets, or the plain network of one subnet."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mmrazor_lite.config import load_config
from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.walk import kind_of, mappings

from . import arguments, environment, purpose, search, subnets
from .data_check import check_data

NOT_TESTED = (
    "train_dataloader train_cfg val_dataloader val_cfg val_evaluator optim_wrapper param_scheduler search_cfg".split()
)
METRICS = {
    "accuracy": {"type": "mmpretrain.Accuracy", "topk": (1, 5)},
    "precision": {"type": "mmpretrain.SingleLabelMetric", "items": ("precision",)},
    "recall": {"type": "mmpretrain.SingleLabelMetric", "items": ("recall",)},
    "f1-score": {"type": "mmpretrain.SingleLabelMetric", "items": ("f1-score",)},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="file to test; 'none' where the config's init_cfg names one")
    arguments.add_run(parser)
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help=f"of {', '.join(METRICS)} (default: the config's)")
    parser.add_argument("--out", metavar="FILE", help="write the metrics to this JSON file")


def run(args: argparse.Namespace) -> dict[str, float] | list[dict[str, Any]]:
    """Test and return the metrics; or search, where the config has no test, and return what ``search.run`` does."""
    arguments.require_files(args.config, *([(args.checkpoint, "checkpoint")] if args.checkpoint != "none" else []))
    cfg = load_config(args.config, args.cfg_options)
    if search.is_search(cfg) and not cfg.get("test_cfg"):
        return _search(cfg, args)
    purpose.require(cfg, args.config, "a test", purpose.TEST)
    if args.checkpoint == "none" and not has_pretrained(cfg.model):
        raise UserError(
            f"checkpoint is 'none' and '{args.config}' names none either: give a file, or "
            "model.init_cfg=dict(type='Pretrained', checkpoint=FILE)"
        )
    environment.require_one_checkpoint(cfg, args.checkpoint)
    environment.apply_run_flags(cfg, args, hold=False, without=NOT_TESTED)
    if args.metrics:
        cfg.test_evaluator = [metric(name, cfg.test_evaluator) for name in args.metrics]
    needs_training_images = "architecture" in cfg.model and not cfg.model.get("channel_cfg")  # BN of a supernet
    cfg.load_from = None if args.checkpoint == "none" else args.checkpoint
    sections = ["test_dataloader", *["train_dataloader"] * needs_training_images]
    check_data(cfg, *sections, checkpoint=cfg.load_from)
    cfg.resume = False
    settled = subnets.settle(cfg, args.cfg_options)
    runner = environment.build_runner(cfg, settled)
    metrics = {key: float(value) for key, value in runner.test().items() if isinstance(value, int | float)}
    if args.out:
        from mmrazor_lite.fileio import write_text_atomic

        write_text_atomic(args.out, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    return metrics


def _search(cfg: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Search as a config says that has nothing to test: MMRazor 1.x's greedy search stands in the place of a test."""
    for flag in ("metrics", "out"):
        if getattr(args, flag):
            raise UserError(f"--{flag}: '{args.config}' is a search config, nothing is tested; its results are files")
    if args.checkpoint == "none":
        raise UserError(f"checkpoint is 'none': '{args.config}' is a search config, give the trained supernet")
    environment.require_one_checkpoint(cfg, args.checkpoint)
    return search.search(cfg, args, args.checkpoint, resume=False)


def metric(name: str, configured: Any) -> dict[str, Any]:
    """Return the evaluator called ``name``: the config's own of that type where it has one."""
    if name not in METRICS:
        raise UserError(f"--metrics {name}: not a metric{nearest(name, METRICS)}; allowed: {', '.join(METRICS)}")
    wanted = METRICS[name]["type"].rpartition(".")[2]
    for own in configured if isinstance(configured, list | tuple) else [configured]:
        if name == "accuracy" and kind_of(own) == wanted:
            return dict(own)
    return dict(METRICS[name])


def has_pretrained(node: Any) -> bool:
    """Return whether any ``init_cfg`` below ``node`` names a checkpoint."""
    return any(part.get("checkpoint") and kind_of(part) == "Pretrained" for _, part in mappings(node, "model"))
