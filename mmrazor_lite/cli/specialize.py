"""Find the best subnet of a trained supernet for each budget, and write it as a plain checkpoint."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.fileio import require_file
from mmrazor_lite.visualization.page_file import page_path, read_page, write_page
from mmrazor_lite.visualization.side_by_side import side_by_side

from . import arguments, environment, ranks
from .arguments import RESOURCES
from .limits import limited
from .search import search, search_settings


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
    parser.add_argument("--front", action="store_true", help="one search for all limits: the front of score and cost")
    arguments.add_run(parser)
    parser.add_argument("--resume", action="store_true", help="continue in the work dir")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Search once per budget, or once for all of them; return the results, see ``SearchLoop.run``.

    Each search has a folder of its own in the work dir, such as ``macs_300M`` or ``macs_front``, with its files; the
    page of the work dir has all of them side by side.

    Raises:
        UserError: No budget, one that no subnet meets, or what a search refuses; of all budgets before any search.
    """
    resource, limits = _budgets(args)
    require_file(args.checkpoint, "checkpoint")
    for flag, path in (("--table", args.table), ("--predictor", args.predictor)):
        if path is not None:
            require_file(path, flag)
    cfg = load_config(args.config, args.cfg_options)
    settings = search_settings(cfg, args.config)  # refuses a config of something else
    for flag, key in (("table", "latency_table"), ("predictor", "predictor")):
        if getattr(args, flag):
            settings[key] = getattr(args, flag)
    if resource == "latency" and not settings.get("latency_table"):
        raise UserError("--latency needs --table: a latency table, such as tools/latency/build_table.py writes")
    groups = [limits] if args.front else [[limit] for limit in limits]
    searches = [limited(settings, resource, group, args) for group in groups]  # all are refused before one begins
    _check_limits(build_model(cfg), resource, limits, settings.get("latency_table"))
    top = Path(args.work_dir or f"work_dirs/{Path(args.config).stem}_specialized")
    environment.hold_folder(top, args)
    if ranks.is_first(args):
        for name, value in dict(searches[0].get("constraints_range") or {}).items():
            if name != resource and value is not None:
                print(f"within the config's constraints_range.{name}={short(value)} too")
    results: list[dict[str, Any]] = []
    folders: list[Path] = []
    for group, own in zip(groups, searches, strict=True):
        cfg = load_config(args.config, args.cfg_options)
        cfg.search_cfg = copy.deepcopy(own)
        flags = argparse.Namespace(**vars(args))
        flags.work_dir = str(top / f"{resource}_{'front' if args.front else str(group[0]).replace('%', 'pct')}")
        results += search(cfg, flags, args.checkpoint, args.resume)
        folders.append(Path(flags.work_dir))
    if ranks.is_first(args):
        _write_page(top, folders, resource, args)
    return results


def _write_page(top: Path, folders: list[Path], resource: str, args: argparse.Namespace) -> None:
    """The page of all searches, by those that are there: one that could not be written was told."""
    written = [folder for folder in folders if page_path(folder).with_suffix(".json").is_file()]
    pages = {folder.name: read_page(page_path(folder).with_suffix(".json")) for folder in written}
    names = {folder.name: folder.name for folder in written}
    title = Path(args.config).stem
    page = side_by_side(pages, names, resource, "specialize", title, arguments.typed(args))
    for path in write_page(page_path(top), page)[:1]:
        environment.log_file("wrote", path)


def _budgets(args: argparse.Namespace) -> tuple[str, list[str]]:
    given = {resource: getattr(args, resource) for resource in RESOURCES if getattr(args, resource)}
    if len(given) != 1:
        names = ", ".join(f"--{resource}" for resource in RESOURCES)
        what = "no budget" if not given else f"{len(given)} resources"
        raise UserError(f"{what} given; give one of {names} with one limit or several, such as --macs 300M 200M")
    ((resource, limits),) = given.items()
    twice = next((limit for limit in limits if limits.count(limit) > 1), None)
    if twice is not None:
        raise UserError(f"--{resource} {twice}: given twice; give each limit once")
    return resource, [_number(limit) for limit in limits]


def _check_limits(algorithm: Any, resource: str, limits: list[Any], table: str | None) -> None:
    from mmrazor_lite.estimators.latency_reading import read_table
    from mmrazor_lite.estimators.latency_table import CostWithLatency
    from mmrazor_lite.subnet import parse_budget

    cost = algorithm.mutator.cost_model
    if table is not None:
        cost = CostWithLatency(cost, read_table(table, algorithm.mutator))
    ends, full = [cost.extreme(resource, largest) for largest in (False, True)], cost.max()[resource]
    reach = "the subnets of the search space have from {:,.12g} to {:,.12g}".format(*ends)
    for limit in limits:
        value = parse_budget(limit, resource, full)
        if value < ends[0]:
            raise UserError(f"--{resource} {limit}: no subnet has {value:,.12g} {resource} or less; {reach}")
        if value > ends[1]:
            print(f"--{resource} {limit}: every subnet is within this limit; {reach}")


def _number(text: str) -> Any:
    """A bare number as a number; everything else stays text, with its unit."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text
