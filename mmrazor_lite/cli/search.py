"""Search a trained supernet for its best subnet under each budget."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mmrazor_lite.config import load_config
from mmrazor_lite.errors import building
from mmrazor_lite.fileio import require_file

from . import arguments, data_sources, environment, purpose
from .data_check import check_data

FOR_TRAINING = (
    *(f"{part}_{key}" for part in ("train", "val", "test") for key in ("dataloader", "cfg", "evaluator")),
    *("optim_wrapper", "param_scheduler", "auto_scale_lr"),
)
_WALK = ("sampler", "batch_sampler", "drop_last", "num_batch_per_epoch")  # how a training goes through its images
WITHOUT_DATA = {**dict.fromkeys((*FOR_TRAINING, "custom_hooks", "load_from")), "resume": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="trained supernet")
    arguments.add_run(parser)
    parser.add_argument("--resume", action="store_true", help="continue the search in the work dir")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Search and return the result of each budget, see ``SearchLoop.run``."""
    arguments.require_files(args.config, (args.checkpoint, "checkpoint"))
    cfg = load_config(args.config, args.cfg_options)
    environment.require_one_checkpoint(cfg, args.checkpoint)
    return search(cfg, args, args.checkpoint, args.resume)


def search(cfg: Any, args: argparse.Namespace, checkpoint: str, resume: bool) -> list[dict[str, Any]]:
    """Search the supernet of ``checkpoint`` as a search config says; ``args`` are the flags of a run."""
    require_file(checkpoint, "checkpoint")
    runner, settings = load_supernet(cfg, args, checkpoint)

    from mmrazor_lite.engine.search_build import build_search_loop

    with building("search_cfg"):
        loop = build_search_loop(
            settings,
            algorithm=runner.algorithm,
            work_dir=cfg.work_dir,
            checkpoint=checkpoint,
            config=args.config,
            command=arguments.typed(args),
            seed=cfg.randomness.seed,
        )
    results = loop.run(resume=resume, began=runner.write_config)
    for result in results:
        environment.log_file("wrote", result["file"])
    return results


def load_supernet(cfg: Any, args: argparse.Namespace, checkpoint: str) -> tuple[Any, dict[str, Any]]:
    """Return a runner with the supernet whose subnets are to be scored, and the settings of the search.

    Raises:
        UserError: ``cfg`` is of no search, or one of its sections is wrong; the supernet does not fit, or the search
            offers subnets that were never trained.
    """
    from mmrazor_lite.models.said import said_by

    environment.apply_run_flags(cfg, args, without=WITHOUT_DATA)
    settings = search_settings(cfg, args.config)
    check_data({**cfg, "search_cfg": settings}, "search_cfg", checkpoint=checkpoint)
    unused, images = _left_out(cfg, settings), data_sources.read(cfg, settings)
    cfg.update(WITHOUT_DATA)
    runner = environment.build_runner(cfg, unused)
    runner.algorithm.check_trained(said_by(runner.load_checkpoint(checkpoint)), checkpoint)
    images.say(runner)
    return runner, settings


def _left_out(cfg: Any, settings: Mapping[str, Any]) -> str | None:
    """Return the line that names what a config says for training alone, such as what it inherits; None for nothing."""
    images = settings.get("calibrate_dataloader")
    unused = [key for key in FOR_TRAINING if cfg.get(key) and not (key == "train_dataloader" and cfg[key] == images)]
    hooks = cfg.get("custom_hooks") or ()
    names = [str(hook["type"] if isinstance(hook, Mapping) else type(hook).__name__) for hook in hooks]
    unused += [name for name in names if not name.endswith("ResourceHook")]
    loaders = [(key, settings.get(key) or {}) for key in ("dataloader", "calibrate_dataloader")]
    unused += [f"search_cfg.{name}.{key}" for name, loader in loaders for key in _WALK if loader.get(key)]
    return f"for training and tests, and not used by a search: {', '.join(unused)}" if unused else None


def is_search(cfg: Mapping) -> bool:
    """Whether a config is one of a search, see :func:`search_settings`."""
    return bool(cfg.get("search_cfg")) or _loop_section(cfg) is not None


def search_settings(cfg: Mapping, path: str) -> dict[str, Any]:
    """Return the loop's config: ``search_cfg``, or ``test_cfg`` / ``train_cfg`` where MMRazor's configs have it.

    MMRazor's name no images to recalibrate on: those of the training are taken.
    """
    if cfg.get("search_cfg"):
        purpose.require(cfg, path, "a search")
        return dict(cfg["search_cfg"])
    section = _loop_section(cfg)
    if section is None:
        raise purpose.no_search(cfg, path)
    images = cfg.get("train_dataloader")
    if images and section.get("calibrate_sample_num") != 0:
        section.setdefault("calibrate_dataloader", images)
    return section


def searches_in(section: Any) -> bool:
    """Whether a loop's config, such as ``test_cfg``, is that of a search."""
    from mmrazor_lite.engine.search_build import is_search_loop
    from mmrazor_lite.registry import LOOPS

    kind = (section or {}).get("type")
    return kind is not None and is_search_loop(LOOPS.get(kind) if isinstance(kind, str) else kind)


def _loop_section(cfg: Mapping) -> dict[str, Any] | None:
    return next((dict(cfg[key]) for key in ("test_cfg", "train_cfg") if searches_in(cfg.get(key))), None)
