"""Slim a trained network to a budget: which channels stay, how many where, and the weights that are left repaired."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrazor_lite import folder_lock
from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.fileio import disk_problem, require_file
from mmrazor_lite.visualization.page_file import page_path

from . import arguments
from .arguments import RESOURCES
from .command_images import check_images, images_of
from .trained_network import TrainedNetwork, by_name, of_config

if TYPE_CHECKING:
    from torch import nn

    from mmrazor_lite.slimming import Slimmed

NAME = "slimmed"  # of the files of the result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("config", nargs="?", help="config of the network; or give --model")
    arguments.add_network(parser, "the network's trained weights")
    parser.add_argument("--data", metavar="DIR", help="folder of images (labels by class folders), or a config")
    arguments.add_reading(parser)
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--budget", nargs="+", metavar="LIMIT", help="50%%, 0.3G, 12ms, or params=2M latency=70%%")
    goal.add_argument("--min-accuracy", metavar="PERCENT", help="the smallest network that has it, such as 90%%")
    goal.add_argument("--max-drop", metavar="POINTS", help="the smallest network that loses no more, such as 1.0")
    parser.add_argument("--table", metavar="FILE", help="latency table for a budget in ms (default: measured first)")
    parser.add_argument("--backend", choices=arguments.BACKENDS, help="what times it (default: torch, or the table's)")
    parser.add_argument("--importance", default="reconstruction", metavar="NAME", help="measure (default: %(default)s)")
    parser.add_argument("--values", nargs="*", metavar="OUTPUT", help="outputs that are no class scores (default: all)")
    parser.add_argument("--tune", metavar="LIMIT", help="fine-tune by distillation, such as 5min or 3epochs")
    parser.add_argument("--images", type=int, default=500, metavar="N", help="that are used (default: %(default)s)")
    parser.add_argument("--divisor", type=_divisor, default="auto", metavar="N", help="widths are multiples of it")
    parser.add_argument("--keep", nargs="+", action="extend", default=[], metavar="PATTERN", help="layers that stay")
    parser.add_argument("--opaque", nargs="+", action="extend", default=[], metavar="PATTERN", help="not traced")
    parser.add_argument("--work-dir", help="folder for all files (default: work_dirs/NAME_slim)")
    parser.add_argument("--seed", type=arguments.seed, default=0, help="of everything random (default: 0)")
    parser.add_argument("--device", help="where it computes (default: a GPU where there is one)")
    parser.add_argument("--resume", action="store_true", help="go on behind the last finished step in the work dir")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def run(args: argparse.Namespace) -> Slimmed:
    """Slim the network, write the result into the work dir, print the report, and return the result.

    Raises:
        UserError: No network, no images, no budget that can be met; or the work dir holds another run.
    """
    if (args.config is None) == (args.model is None):
        raise UserError(f"slim: give a config or --model NAME, {'one of them' if args.model is None else 'not both'}")
    if args.table is not None:
        require_file(args.table, "--table")
    if args.weights is not None:
        require_file(args.weights, "--weights")
    if args.work_dir == "":
        raise UserError("--work-dir '': give the path of a folder ('.' is the current one)")
    check_images(args)
    budget = _budget(args.budget)
    _check_values(args, budget)
    name = (args.model or Path(args.config).stem).rpartition(".")[2]
    work = Path(args.work_dir or f"work_dirs/{name}_slim")
    folder_lock.hold(work, f"slim {args.config or args.model}")
    with arguments.only_json(args), _folder(work, args.resume):
        result = _slimmed(args, budget, work)
        files = result.save(work / NAME, page=page_path(work), command=arguments.typed(args))
    if args.json:
        print(json.dumps(result.report.as_dict()))
        return result
    result.report.table()
    for file in files:
        print(f"wrote {file}")
    return result


def _check_values(args: argparse.Namespace, budget: Any) -> None:
    """Refuse what no network makes right before one is read."""
    import torch

    from mmrazor_lite.slimming.asked import check_backend, check_values

    if args.device is not None:
        try:
            torch.empty(1, device=args.device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"--device {args.device}: {str(error).splitlines()[0]}") from error
    check_values(budget, args.min_accuracy, args.max_drop, args.importance, args.images, args.divisor, args.tune)
    check_backend(args.backend)


def _slimmed(args: argparse.Namespace, budget: Any, work: Path) -> Slimmed:
    network = _network(args)
    _on_device(network, args.device)
    data, notes = images_of(network, args)
    notes = [*network.notes, *notes]
    module = network.module
    if network.of_supernet:
        module = _with_own_statistics(module, data, args)
        notes.append("a supernet's batch norms are of all its subnets: those of the full network are measured first")
    for note in notes:
        print(note, flush=True)

    from mmrazor_lite.slimming import slim

    return slim(
        module,
        data,
        budget,
        min_accuracy=args.min_accuracy,
        max_drop=args.max_drop,
        importance=args.importance,
        images=args.images,
        divisor=args.divisor,
        keep=args.keep,
        opaque=args.opaque,
        tune=args.tune,
        work_dir=work,
        resume=args.resume,
        seed=args.seed,
        name=network.title,
        notes=notes,
        architecture=network.architecture,
        table=args.table,
        backend=args.backend,
        values=_values(args.values),
    )


def _with_own_statistics(module: nn.Module, data: Any, args: argparse.Namespace) -> nn.Module:
    from mmrazor_lite.slimming import read_images
    from mmrazor_lite.slimming.repair import recalibrated

    return recalibrated(module, read_images(data, module, args.images, seed=args.seed).seen)


def _network(args: argparse.Namespace) -> TrainedNetwork:
    if args.model is not None:
        return by_name(args.model, args.weights, args.cfg_options, args.seed)
    return of_config(args.config, args.weights, args.cfg_options)


def _on_device(network: TrainedNetwork, device: str | None) -> None:
    import torch

    network.module.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


@contextlib.contextmanager
def _folder(work: Path, resume: bool) -> Iterator[None]:
    """Refuse the folder of a run that is not to go on; leave none of a run that was refused."""
    from mmrazor_lite.slimming.kept_steps import NAME as STEPS
    from mmrazor_lite.slimming.repair import WEIGHTS
    from mmrazor_lite.slimming.timed import JOURNAL, TABLE

    kept = [work / name for name in (STEPS, WEIGHTS, f"{NAME}.pth")]
    found = next((path.name for path in kept if path.exists()), None)
    own = [path for path in (*kept[:2], work / TABLE, work / JOURNAL) if not path.exists()]  # others are the user's
    if found and not resume:
        raise UserError(
            f"the work dir {work} holds a run of slim ({found}): --resume goes on with it, or give another --work-dir"
        )
    try:
        yield
    except UserError as error:
        if found is None and disk_problem(error) is None:  # a full disk is an interruption
            for path in own:
                path.unlink(missing_ok=True)
        raise


def _budget(words: list[str] | None) -> Any:
    """``50%`` as it is, ``params=2M latency=70%`` as a dict."""
    if words is None:
        return None
    named = [word.partition("=") for word in words]
    if len(words) == 1 and not named[0][1]:
        return words[0]
    plain = next((word for word, (_, equals, _) in zip(words, named, strict=True) if not equals), None)
    if plain is not None:
        way = f"give {plain}=LIMIT, such as {plain}=70%" if plain in RESOURCES else f"say of what, such as macs={plain}"
        raise UserError(f"--budget {' '.join(words)}: '{plain}' is half a limit: {way}")
    unknown = next((name for name, _, _ in named if name not in RESOURCES), None)
    if unknown is not None:
        names = ", ".join(RESOURCES)
        raise UserError(f"--budget: unknown resource '{unknown}'{nearest(unknown, RESOURCES)} (allowed: {names})")
    if len({name for name, _, _ in named}) < len(named):
        raise UserError(f"--budget {' '.join(words)}: a resource is given twice; give each once")
    return {name: value for name, _, value in named}


def _values(words: list[str] | None) -> bool | list[str] | None:
    """The outputs that were named, or all of them."""
    return words if words is None else words or True


def _divisor(text: str) -> int | str:
    """Type of ``--divisor``."""
    if text == "auto" or (text.isdecimal() and int(text) > 0):
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no divisor: give a whole number of 1 or more, or auto")
