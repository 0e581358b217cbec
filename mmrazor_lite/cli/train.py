"""Train a supernet, the subnets of a search together, or one subnet alone; or search, where the config is of one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmrazor_lite.config import load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import require_file
from mmrazor_lite.note import note
from mmrazor_lite.walk import kind_of

from . import arguments, environment, purpose, search, subnets
from .data_check import check_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    arguments.add_run(parser)
    arguments.add_amp(parser)
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size")
    parser.add_argument("--reset-head", action="store_true", help="leave out the classifier of load_from")
    arguments.add_resume(parser)


def run(args: argparse.Namespace) -> Path | list | None:
    """Train and return the path of the last checkpoint; None where there was nothing left to train, or to keep.

    A search config with ``load_from`` searches, as MMRazor's do, and returns what :func:`search.run` does.
    """
    cfg = load_config(args.config, args.cfg_options, amp=args.amp)
    if search.is_search(cfg):
        return _search(cfg, args)
    purpose.require(cfg, args.config, "training", purpose.TRAINING)
    environment.apply_run_flags(cfg, args)
    apply_train_flags(cfg, args)
    check_data(cfg, "train_dataloader", "train_cfg", "val_dataloader")
    settled = subnets.settle(cfg, args.cfg_options)
    runner = environment.build_runner(cfg, settled)
    runner.reset_head = args.reset_head
    runner.train()
    pointer = Path(runner.work_dir, "last_checkpoint")
    if not pointer.is_file():
        runner.logger.warning("no checkpoint was written: nothing was left to train, or the config keeps none")
        return None
    return Path(pointer.read_text(encoding="utf-8").strip())


def _search(cfg: Any, args: argparse.Namespace) -> list:
    for flag in ("amp", "auto_scale_lr", "reset_head"):
        if getattr(args, flag):
            raise UserError(f"--{flag.replace('_', '-')}: '{args.config}' is a search config, nothing is trained")
    if args.resume not in (None, "auto"):
        raise UserError("--resume FILE: a search goes on from the state in its work dir; give --resume alone")
    checkpoint = cfg.get("load_from")
    if not checkpoint:
        raise UserError(
            f"'{args.config}' is a search config: give the trained supernet with --cfg-options load_from=CKPT, or as "
            "tools/search.py CONFIG CKPT"
        )
    return search.search(cfg, args, checkpoint, resume=args.resume is not None)


def apply_train_flags(cfg: Any, args: argparse.Namespace) -> None:
    """Write ``--auto-scale-lr`` and ``--resume`` into the config, and refuse an ``--amp`` that reached nothing."""
    kind = kind_of(cfg.get("optim_wrapper")) or "OptimWrapper"
    if args.amp and kind not in ("AmpOptimWrapper", "SubnetAmpOptimWrapper"):
        raise UserError(f"--amp: optim_wrapper.type is '{kind}', mixed precision is for SubnetOptimWrapper")
    if args.auto_scale_lr:
        if not (cfg.get("auto_scale_lr") or {}).get("base_batch_size"):
            raise UserError(f"--auto-scale-lr: '{args.config}' has no auto_scale_lr=dict(base_batch_size=...)")
        cfg.auto_scale_lr.enable = True
    if args.resume:
        _resume(cfg, args.resume)
    if args.reset_head and (args.resume or cfg.get("resume") or not cfg.get("load_from")):
        raise UserError(
            "--reset-head: leaves out the classifier of the file that a training starts from; give it as --cfg-options "
            "load_from=FILE, without --resume (for init_cfg: reset_head=True in it)"
        )


def _resume(cfg: Any, file: str) -> None:
    """Go on from a file, or with what is in the work dir; where that is nothing yet, begin as without ``--resume``.

    So the command of a run that may be killed at any time is always the same, also where it starts from a checkpoint.
    """
    from mmrazor_lite.engine.run_checkpoint import latest_checkpoint

    start = cfg.get("load_from")
    if file == "auto" and start and latest_checkpoint(cfg.work_dir) is None:
        note(f"nothing to resume in {cfg.work_dir}: starting from load_from={start}")
        cfg.resume = False
        return
    cfg.resume = True
    cfg.load_from = None if file == "auto" else str(require_file(file, "checkpoint"))
