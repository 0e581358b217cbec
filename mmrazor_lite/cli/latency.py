"""Measure the latency of every part of a search space, or take it from a published table."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmrazor_lite.config import build_mutator, load_config
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import check_outputs, require_file

from . import arguments

if TYPE_CHECKING:
    from mmrazor_lite.estimators.latency_build import Report
    from mmrazor_lite.estimators.latency_table import LatencyTable

DEFAULTS = {  # of the flags of a measurement; a published table needs none of them
    "device": "cpu",
    "backend": "torch",
    "threads": None,
    "batch_size": 1,
    "dtype": None,
    "channels_last": False,
    "clock": "wall",
    "repeats": 11,
    "checks": 20,
    "seed": 0,
    "apply_correction": False,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("config", nargs="?", help="config of a supernet or a search; or give --model")
    parser.add_argument("--model", metavar="NAME", help="torchvision.NAME, timm.NAME or my_module.MyNet, for slim")
    parser.add_argument("--size", nargs="+", type=int, metavar="N", help="with --model: H, or H W (default: 224)")
    parser.add_argument("--keep", nargs="+", action="extend", default=[], metavar="PATTERN", help="as given to slim")
    parser.add_argument("--opaque", nargs="+", action="extend", default=[], metavar="PATTERN", help="as given to slim")
    arguments.add_cfg_options(parser, "with --model: arguments of the network, such as model.num_classes=10")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the table, JSON; FILE.journal beside it")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="what runs the parts (default: cpu)")
    parser.add_argument("--backend", choices=arguments.BACKENDS, help="default: torch")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: torch's number here)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per run (default: 1)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16", "float64"), help="default: the network's")
    parser.add_argument("--channels-last", action="store_true", default=None, help="measure in that layout")
    text = "cpu: what this process computes, on one thread, for a machine that does other work (default: wall)"
    parser.add_argument("--clock", choices=("wall", "cpu"), help=text)
    parser.add_argument("--resolutions", nargs="+", type=int, metavar="R", help="only these of the space's")
    parser.add_argument("--repeats", type=int, metavar="N", help="of each measurement (default: 11)")
    parser.add_argument("--checks", type=int, metavar="N", help="whole subnets to check on (default: 20)")
    parser.add_argument("--seed", type=arguments.seed, help="of those subnets and of the order (default: 0)")
    parser.add_argument(
        "--apply-correction",
        action="store_true",
        default=None,
        help="let the table apply the linear correction of the check",
    )
    parser.add_argument("--official", nargs="+", metavar="FILE", help="take the times from these published tables")


def run(args: argparse.Namespace) -> LatencyTable:
    """Write the table, say how good it is, and return it."""

    _check_flags(args)
    vars(args).update({name: DEFAULTS[name] for name in DEFAULTS if getattr(args, name) is None})
    for path in args.official or ():
        require_file(path, "published table")
    check_outputs([f"{args.output}.journal"])
    if args.model is not None:
        return _written(_measure(lambda: _of_network(args), args), args.output)
    cfg = load_config(args.config, args.cfg_options)
    if args.resolutions:
        _keep_resolutions(cfg, args.resolutions, args.config)

    from mmrazor_lite.estimators.latency_ofa import official_table, read_official

    if args.official:
        table = official_table(read_official(args.official), _mutator(cfg, args.config), ", ".join(args.official))
    else:
        table = _measure(lambda: _mutator(cfg, args.config), args)
    return _written(table, args.output)


def _check_flags(args: argparse.Namespace) -> None:
    """Refuse what goes together with neither a config nor a network."""
    if (args.config is None) == (args.model is None):
        raise UserError(
            f"latency: give a config or --model NAME, {'one of them' if args.model is None else 'not both'}"
        )
    of_network = {"--size": args.size, "--keep": args.keep, "--opaque": args.opaque}
    of_config = {"--resolutions": args.resolutions, "--official": args.official}
    wrong, other = (of_network, "--model") if args.model is None else (of_config, "a config")
    given = next((flag for flag, value in wrong.items() if value), None)
    if given is not None:
        raise UserError(f"latency: {given} is for {other}; leave it out")
    measured = next((name for name in DEFAULTS if args.official and getattr(args, name) is not None), None)
    if measured is not None:
        flag = f"--{measured.replace('_', '-')}"
        raise UserError(f"latency: {flag} is of a measurement, --official takes published times; leave one of them out")


def _of_network(args: argparse.Namespace) -> Any:
    """The mutator of a network by its name: every width that there is, as slim chooses from."""
    from mmrazor_lite.slimming.prepared import prepare

    from .trained_network import by_name

    size = [*(args.size or [224])]
    if len(size) > 2 or min(size) < 1:
        raise UserError(f"--size {' '.join(map(str, size))}: give H, or H W, of 1 or more")
    network = by_name(args.model, None, args.cfg_options, args.seed).module
    return prepare(network, (3, size[0], size[-1]), args.keep, opaque=args.opaque).mutator


def _written(table: LatencyTable, path: str) -> LatencyTable:
    table.write(path)
    print(f"wrote {path}, of the search space {table.space.fingerprint}")
    return table


def _measure(make: Callable[[], Any], args: argparse.Namespace) -> LatencyTable:
    """Measure a table and say how good it is."""
    from mmrazor_lite.estimators.latency_build import build_table
    from mmrazor_lite.estimators.measure import Bench

    def progress(done: int, total: int) -> None:
        print(f"measured {done} of {total}", file=sys.stderr, flush=True)

    settings = {"dtype": args.dtype, "channels_last": args.channels_last, "clock": args.clock}
    bench = Bench(args.device, args.backend, args.threads, args.batch_size, **settings)  # before the network is built
    report = build_table(
        make(),
        bench,
        f"{args.output}.journal",
        checks=args.checks,
        repeats=args.repeats,
        seed=args.seed,
        apply_correction=args.apply_correction,
        progress=progress,
    )
    _print(report)
    return report.table


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
    from mmrazor_lite.estimators.latency_report import BUSY

    table, error = report.table, report.errors()
    told = ("device", "name", "backend", "threads", "batch_size", "dtype", "channels_last", "clock")
    facts = ", ".join(f"{key} {table.device[key]}" for key in told if key in table.device)
    print(facts)
    print(f"{report.entries} entries from {report.distinct} measurements, spread of repeats {report.spread:.1%}")
    if report.spread > BUSY:
        doubt = f"repeats differ by {report.spread:.0%}; delete the journal and measure anew"
        print(f"warning: the machine was busy, {doubt}")
    slow = table.device.get("slow", 0.0)
    if slow > BUSY:
        print(f"warning: the machine was never at full speed for {slow:.0%} of the measurements; these are scaled")
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
