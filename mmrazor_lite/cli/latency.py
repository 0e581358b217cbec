"""Measure the latency of every part of a search space, or take it from a published table."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING, Any

from mmrazor_lite.config import build_mutator, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import check_outputs, require_file

from . import arguments

if TYPE_CHECKING:
    from mmrazor_lite.estimators.latency_build import Report
    from mmrazor_lite.estimators.latency_table import LatencyTable

BUSY = 0.1  # spread of repeats from which on the times are in doubt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the table, JSON; FILE.journal beside it")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what runs the parts (default: cpu)")
    parser.add_argument("--backend", choices=("torch", "onnxruntime"), default="torch", help="default: torch")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: torch's number here)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="images per run (default: 1)")
    parser.add_argument("--resolutions", nargs="+", type=int, metavar="R", help="only these of the space's")
    parser.add_argument("--repeats", type=int, default=11, metavar="N", help="of each measurement (default: 11)")
    parser.add_argument("--checks", type=int, default=20, metavar="N", help="whole subnets to check on (default: 20)")
    parser.add_argument("--seed", type=arguments.seed, default=0, help="of those subnets and of the order (default: 0)")
    parser.add_argument(
        "--apply-correction", action="store_true", help="let the table apply the linear correction of the check"
    )
    parser.add_argument("--official", nargs="+", metavar="FILE", help="take the times from these published tables")


def run(args: argparse.Namespace) -> LatencyTable:
    """Write the table, say how good it is, and return it."""

    for path in args.official or ():
        require_file(path, "published table")
    check_outputs([f"{args.output}.journal"])
    cfg = load_config(args.config, args.cfg_options)
    if args.resolutions:
        _keep_resolutions(cfg, args.resolutions, args.config)

    from mmrazor_lite.estimators.latency_ofa import official_table, read_official

    if args.official:
        table = official_table(read_official(args.official), _mutator(cfg, args.config), ", ".join(args.official))
    else:
        report = _measure(cfg, args)
        table = report.table
        _print(report)
    table.write(args.output)
    print(f"wrote {args.output}, of the search space {table.space.fingerprint}")
    return table


def _measure(cfg: Any, args: argparse.Namespace) -> Report:
    from mmrazor_lite.estimators.latency_build import build_table
    from mmrazor_lite.estimators.measure import Bench

    def progress(done: int, total: int) -> None:
        print(f"measured {done} of {total}", file=sys.stderr, flush=True)

    bench = Bench(args.device, args.backend, args.threads, args.batch_size)  # says what is missing before the building
    return build_table(
        _mutator(cfg, args.config),
        bench,
        f"{args.output}.journal",
        checks=args.checks,
        repeats=args.repeats,
        seed=args.seed,
        apply_correction=args.apply_correction,
        progress=progress,
    )


def _mutator(cfg: Any, path: str) -> Any:
    return build_mutator(cfg, f"'{path}' has no search space to measure; take the config of a supernet")


def _keep_resolutions(cfg: Any, resolutions: list[int], path: str) -> None:
    """Leave only these resolutions in the config's space."""
    mutator = (cfg.get("model") or {}).get("mutator") or {}
    known = list(mutator.get("resolutions") or ())
    unknown = [resolution for resolution in resolutions if resolution not in known]
    if unknown:
        raise UserError(f"--resolutions {unknown[0]}: not in the space of '{path}' (allowed: {known or 'none'})")
    channels = (cfg.model.get("input_shape") or (3, 224, 224))[-3]
    cfg.model.mutator.resolutions = sorted(set(resolutions))
    cfg.model.input_shape = (channels, max(resolutions), max(resolutions))


def _print(report: Report) -> None:
    table, error = report.table, report.errors()
    facts = ", ".join(f"{key} {table.device[key]}" for key in ("device", "name", "backend", "threads", "batch_size"))
    print(facts)
    print(f"{report.entries} entries from {report.distinct} measurements, spread of repeats {report.spread:.1%}")
    if report.spread > BUSY:
        doubt = f"repeats differ by {report.spread:.0%}; delete the journal and measure anew"
        print(f"warning: the machine was busy, {doubt}")
    rank = "undefined" if math.isnan(report.rank_correlation) else f"{report.rank_correlation:.3f}"
    times = f"{report.measured.min():.3f} to {report.measured.max():.3f} ms"
    print(
        f"check on {len(error)} random subnets of {times}: error {error.mean():.1%} in the mean, {error.max():.1%} at "
        f"most, rank correlation {rank}"
    )
    fix = table.correction
    if fix is None:
        print("no linear correction: measured times do not rise with predicted ones")
        return
    done = "applied" if fix.applied else "stored, not applied; --apply-correction applies it without new measurements"
    corrected = report.errors(corrected=True)
    print(
        f"correction: {fix.offset:.4f} ms + {fix.factor:.4f} x predicted, error {corrected.mean():.1%} in the mean, "
        f"{corrected.max():.1%} at most ({done})"
    )
