"""Find the best subnet of a trained supernet for each budget, and write it as a plain checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError

from . import arguments, environment

RESOURCES = ("macs", "flops", "params", "memory", "latency")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="trained supernet")
    units = {"memory": "250MB", "latency": "20ms"}
    for resource in RESOURCES:
        example = units.get(resource, "300M")
        parser.add_argument(f"--{resource}", nargs="+", metavar="LIMIT", help=f"at most, such as {example}; or several")
    parser.add_argument("--table", metavar="FILE", help="latency table, for --latency")
    parser.add_argument("--predictor", metavar="FILE", help="score subnets with this accuracy predictor")
    arguments.add_run(parser)
    parser.add_argument("--resume", action="store_true", help="continue in the work dir")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Search once per budget; return the results, see ``SearchLoop.run``.

    Each budget has a folder of its own in the work dir, such as ``macs_300M``, with the files of a search.

    Raises:
        UserError: No budget, or what a search refuses.
    """
    from .config import load_config
    from .search import search, search_settings

    resource, limits = _budgets(args)
    environment.require_file(args.checkpoint, "checkpoint")
    for flag, path in (("--table", args.table), ("--predictor", args.predictor)):
        if path is not None:
            environment.require_file(path, flag)
    results = []
    top = None
    for limit in limits:
        cfg = load_config(args.config, args.cfg_options)
        settings = search_settings(cfg, args.config)
        settings["constraints_range"] = {resource: (0, limit)}
        if args.table is not None:
            settings["latency_table"] = args.table
        if args.predictor is not None:
            settings["predictor"] = args.predictor
        cfg.search_cfg = settings
        flags = argparse.Namespace(**vars(args))
        top = top or Path(args.work_dir or _default_work_dir(args.config))
        flags.work_dir = str(top / f"{resource}_{str(limit).replace('%', 'pct')}")
        results += search(cfg, flags, args.checkpoint, args.resume)
    return results


def _budgets(args: argparse.Namespace) -> tuple[str, list[str]]:
    given = {resource: getattr(args, resource) for resource in RESOURCES if getattr(args, resource)}
    if len(given) != 1:
        names = ", ".join(f"--{resource}" for resource in RESOURCES)
        what = "no budget" if not given else f"{len(given)} resources"
        raise UserError(f"{what} given; give one of {names} with one limit or several, such as --macs 300M 200M")
    ((resource, limits),) = given.items()
    if resource == "latency" and args.table is None:
        raise UserError("--latency needs --table: a latency table, such as tools/latency/build_table.py writes")
    return resource, [_number(limit) for limit in limits]


def _number(text: str) -> Any:
    """A bare number as a number; everything else stays text, with its unit."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _default_work_dir(config: str) -> str:
    return f"work_dirs/{Path(config).stem}_specialized"
