"""Search a trained supernet for its best subnet under each budget."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import UserError, building

from . import arguments, environment

WITHOUT_DATA = dict.fromkeys(
    f"{part}_{key}" for part in ("train", "val", "test") for key in ("dataloader", "cfg", "evaluator")
) | {"optim_wrapper": None, "param_scheduler": None, "auto_scale_lr": None, "load_from": None, "resume": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="trained supernet")
    arguments.add_run(parser)
    parser.add_argument("--resume", action="store_true", help="continue the search in the work dir")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Search and return the result of each budget, see ``SearchLoop.run``."""
    from .config import load_config

    environment.require_file(args.checkpoint, "checkpoint")
    cfg = load_config(args.config, args.cfg_options)
    return search(cfg, args, args.checkpoint, args.resume)


def search(cfg: Any, args: argparse.Namespace, checkpoint: str, resume: bool) -> list[dict[str, Any]]:
    """Search the supernet of ``checkpoint`` as a search config says; ``args`` are the flags of a run."""
    from .data_check import check_data

    environment.require_file(checkpoint, "checkpoint")
    environment.apply_run_flags(cfg, args)
    settings = search_settings(cfg, args.config)
    check_data({"search_cfg": settings, "model": cfg.model}, "search_cfg")

    from mmrazor_lite.engine.search_build import build_search_loop

    cfg.update(WITHOUT_DATA)
    runner = environment.build_runner(cfg)
    runner.load_checkpoint(checkpoint)
    with building("search_cfg"):
        loop = build_search_loop(
            settings,
            algorithm=runner.algorithm,
            work_dir=cfg.work_dir,
            checkpoint=checkpoint,
            config=args.config,
            seed=cfg.randomness.seed,
        )
    results = loop.run(resume=resume, began=runner.write_config)
    for result in results:
        environment.log_file("wrote", result["file"])
    return results


def is_search(cfg: Mapping) -> bool:
    """Whether a config is one of a search, see :func:`search_settings`."""
    return bool(cfg.get("search_cfg")) or _loop_section(cfg) is not None


def search_settings(cfg: Mapping, path: str) -> dict[str, Any]:
    """Return the loop's config: ``search_cfg``, or ``test_cfg`` / ``train_cfg`` where MMRazor's configs have it.

    MMRazor's name no images to recalibrate on: those of the training are taken.
    """
    if cfg.get("search_cfg"):
        return dict(cfg["search_cfg"])
    section = _loop_section(cfg)
    if section is None:
        raise UserError(
            f"'{path}' has no search_cfg: it is not a search config, see configs/pruning/autoslim/*search*.py"
        )
    images = cfg.get("train_dataloader")
    if images and section.get("calibrate_sample_num") != 0:
        section.setdefault("calibrate_dataloader", images)
    return section


def _loop_section(cfg: Mapping) -> dict[str, Any] | None:
    from mmrazor_lite.engine.search_build import is_search_loop
    from mmrazor_lite.registry import LOOPS

    for key in ("test_cfg", "train_cfg"):
        section = cfg.get(key) or {}
        kind = section.get("type")
        if kind is not None and is_search_loop(LOOPS.get(kind) if isinstance(kind, str) else kind):
            return dict(section)
    return None
