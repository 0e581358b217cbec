"""Flags that several subcommands share, so that one name means one thing everywhere."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mmrazor_lite.config import require_config
from mmrazor_lite.config.schema import LARGEST_SEED, LAUNCHERS
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import require_file
from mmrazor_lite.recipes.steps import TYPED

RESOURCES = ("macs", "flops", "params", "memory", "latency")  # of subnet.budget, which imports numpy
BACKENDS = ("torch", "torch.compile", "onnxruntime", "openvino")  # of estimators.measure, which imports torch
INPUT_SHAPE = "H, or H W, or T H W of a clip (default: the config's)"


def remember(args: argparse.Namespace, words: Sequence[str]) -> argparse.Namespace:
    """Keep the words that ``args`` were parsed from."""
    setattr(args, TYPED, list(words))
    return args


def typed(args: argparse.Namespace) -> str:
    """The command as typed, without what only makes it go on; nothing where no command line was parsed."""
    words = [word for word in vars(args).get(TYPED, ()) if word != "--resume"]
    return shlex.join(["mmrazor-lite", *words]) if words else ""


def require_files(config: str, *files: tuple[str, str]) -> list[Path]:
    """Return the paths of ``files``, each with what it is; they and the config of a command must be there.

    Raises:
        UserError: Some are not; one line tells all of them.
    """
    found, missing = [], []
    try:
        require_config(config)
    except UserError as error:
        missing.append(str(error))
    for path, what in files:
        try:
            found.append(require_file(path, what))
        except UserError as error:
            missing.append(str(error))
    if missing:
        raise UserError("; ".join(missing))
    return found


def seed(text: str) -> int:
    """Type of ``--seed``."""
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"'{text}' is no seed: give a whole number from 0 to {LARGEST_SEED}")
    return int(text)


def add_config(parser: argparse.ArgumentParser) -> None:
    """``CONFIG`` and the values that replace some of its own."""
    text = "config file; mmrazor_lite::configs/... is one of the package's own, which 'mmrazor-lite configs' lists"
    parser.add_argument("config", help=text)
    add_cfg_options(parser, "lists as KEY=A,B or KEY=[A,B]; 'algorithm.x' means 'model.x'")


def add_cfg_options(parser: argparse.ArgumentParser, note: str) -> None:
    """``--cfg-options``."""
    text = f"replace values of the config; {note}"
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=text)


def add_network(parser: argparse.ArgumentParser, weights: str) -> None:
    """A network by its name, with arguments and weights."""
    parser.add_argument("--model", metavar="NAME", help="torchvision.NAME, timm.NAME or my_module.MyNet")
    parser.add_argument("--weights", metavar="FILE", help=weights)
    add_cfg_options(parser, "with --model: arguments of the network, such as model.num_classes=10")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How images of a folder become what a network takes."""
    parser.add_argument("--size", nargs="+", type=int, metavar="N", help="H, or H W, of the images")
    for name in ("mean", "std"):
        parser.add_argument(f"--{name}", nargs="+", type=float, metavar="X", help=f"{name} of each channel")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be decoded")


def only_json(args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """Inside, with ``--json``, lines for people go where errors go: what is printed after is all that comes out."""
    return contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext()


def add_run(parser: argparse.ArgumentParser) -> None:
    """Flags of everything that computes on data."""
    parser.add_argument("--work-dir", help="folder for logs and results (default: work_dirs/NAME_OF_CONFIG)")
    parser.add_argument("--launcher", choices=LAUNCHERS, default="none", help="how the processes were started")
    parser.add_argument("--seed", type=seed, help="of everything random (default: the config's randomness.seed)")
    parser.add_argument("--deterministic", action="store_true", help="only deterministic kernels")
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out images that cannot be decoded, and name them; reads every image once before",
    )


def add_amp(parser: argparse.ArgumentParser) -> None:
    """``--amp``."""
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16, or float16 on GPUs without it)")


def add_resume(parser: argparse.ArgumentParser) -> None:
    """``--resume``."""
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="FILE",
        help="continue the run in the work dir, or from the file given",
    )
