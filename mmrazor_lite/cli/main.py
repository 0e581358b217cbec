"""Entry point: pick the subcommand, run it, tell errors of the user in one line."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import mmrazor_lite
from mmrazor_lite import mm_packages, shipped
from mmrazor_lite.errors import UserError, one_line
from mmrazor_lite.fileio import check_outputs, disk_problem
from mmrazor_lite.folder_lock import released
from mmrazor_lite.lost import lost_process, lost_worker
from mmrazor_lite.recipes import autoslim_cifar10, demo, original
from mmrazor_lite.recipes.steps import TYPED

from . import (
    allocator,
    analyze,
    arguments,
    board,
    configs,
    convert_ofa,
    convert_tfnas_table,
    export,
    extract,
    flops,
    image_lists,
    latency,
    launch,
    library_warnings,
    migrate,
    next_step,
    old_flags,
    parse_tfnas,
    predictor_collect,
    predictor_train,
    print_config,
    publish,
    ranks,
    search,
    signals,
    slim,
    specialize,
    split,
    test,
    train,
)
from .environment import leave_process_group

RECIPES = (autoslim_cifar10, original, demo)  # they run other commands, and get the way to do so
_MODULES = (
    *(train, search, specialize, test, split, extract, publish, convert_ofa, convert_tfnas_table, parse_tfnas),
    *(analyze, flops, board, slim, export),
    *(predictor_collect, predictor_train, latency, image_lists, print_config, configs, launch, migrate),
    *RECIPES,
)
SUBCOMMANDS = {module.__name__.rpartition(".")[2].replace("_", "-"): module for module in _MODULES}
# Arguments of any of them that name files.
OUTPUTS = ("out", "output", "plot", "model_config")
INPUTS = ("config", "checkpoint", "weights", "scores", "table", "predictor", "latency_table", "official")


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong with a call as every other error is told: in one line."""

    def parse_known_args(self, args=None, namespace=None):
        # A misspelt option first: argparse would say that the right one is missing, or name another command.
        if not any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions):
            words = itertools.takewhile(lambda word: word != "--", args or ())
            for name in (word.partition("=")[0] for word in words if word.startswith("--")):
                if name not in self._option_string_actions:
                    near = difflib.get_close_matches(name, self._option_string_actions, 1)
                    self.error(f"there is no option {name}" + (f": did you mean {near[0]}?" if near else ""))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if (typed := re.match("argument COMMAND: invalid choice: '([^']*)'", message)) is not None:
            near = difflib.get_close_matches(typed[1].replace("_", "-"), SUBCOMMANDS, 1)
            fix = f"did you mean {near[0]}?" if near else "give one of " + ", ".join(SUBCOMMANDS)
            message = f"there is no command {typed[1]!r}: {fix}"
        elif message.endswith("required: COMMAND"):
            message = f"a command is missing: give one of {', '.join(SUBCOMMANDS)}"
        self.exit(2, f"error: {one_line(ValueError(message))} ({self.prog} --help shows what it takes)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands; it imports nothing heavy."""
    parser = _Parser(prog="mmrazor-lite", description=mmrazor_lite.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=mmrazor_lite.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in SUBCOMMANDS.items():
        text = module.__doc__.splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=text, description=text, allow_abbrev=False))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status.

    0, or 2 for an error that the user can mend; after Ctrl-C 130 and after SIGTERM 143, with one line: what is on the
    disk by then is whole, and the run goes on from there.

    ``MMRAZOR_LITE_TRACEBACK=1`` in the environment shows the traceback instead of the one line.
    """
    try:
        args = _parsed(old_flags.ours(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        return _fail(one_line(error))
    if args.command == "launch":  # which does nothing itself but wait for what it has started
        return launch.run(args)
    allocator.keep_freed_memory()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")  # of a damaged image, our own line tells
    status = 2
    try:
        status = _run_and_tell(args)
    finally:
        leave_process_group(failed=status != 0)
    return status


def _run_and_tell(args: argparse.Namespace) -> int:
    with signals.raised() as ended, library_warnings.in_one_line():
        try:
            with released():
                _find_shipped(args)
                _check_outputs(args)
                result = run(args)
                next_step.show(args, result)
        except ModuleNotFoundError as error:
            line = mm_packages.told(error, args.command)
            if line is None:
                raise
            return _told(UserError(line), args, ended)
        except (UserError, OSError, RuntimeError) as error:
            if ended:  # what the end of other processes or of a worker led to
                return signals.told(args, ended)
            return _told(error, args, ended)
        except KeyboardInterrupt:
            return signals.told(args, ended)
    return 0


def run(args: argparse.Namespace) -> Any:
    """Run one subcommand and return its result."""
    module = SUBCOMMANDS[args.command]
    return module.run(args, _typed) if module in RECIPES else module.run(args)


def _typed(*words: Any) -> Any:
    """Run one subcommand, given its words, and return its result."""
    args = _parsed([str(word) for word in words])
    _find_shipped(args)
    return run(args)


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    return arguments.remember(build_parser().parse_args(words), words)


def _find_shipped(args: argparse.Namespace) -> None:
    """Replace arguments that name files of this package, ``mmrazor_lite::configs/...``, by their paths."""
    if args.command != "configs":  # which speaks of the names
        given = {key: value for key, value in vars(args).items() if key != TYPED}
        vars(args).update({key: shipped.resolved(value) for key, value in given.items()})


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse files that cannot be written, or that the command reads, before its work."""

    def files(*names: str) -> list[str]:
        values = [getattr(args, name, None) for name in names]
        return [part for value in values for part in (value if isinstance(value, list) else [value]) if part]

    check_outputs(files(*OUTPUTS), [path for path in files(*INPUTS) if os.path.isfile(path)])


def _told(error: Exception, args: argparse.Namespace, ended: list[int]) -> int:
    if os.environ.get("MMRAZOR_LITE_TRACEBACK") == "1":
        raise error
    line: str | None = one_line(error)
    problem = None if isinstance(error, UserError) else disk_problem(error)
    if problem is not None:
        where = getattr(error, "filename", None) or getattr(args, "work_dir", None) or "the folder of the results"
        line = one_line(OSError(f"{problem}: {where}; what was written before is whole"))
        return _fail(line)
    try:
        if isinstance(error, RuntimeError):
            line = lost_process(error) or lost_worker(error)
            if line is not None and signals.is_launched():
                time.sleep(1)  # its launcher ends this process too: then it is no news
        elif seconds := ranks.seconds_before_telling(args):
            return _told_later(line, seconds, args)
    except KeyboardInterrupt:
        return signals.told(args, ended)
    if line is None:
        raise error
    return _fail(next_step.as_typed(line))


def _told_later(line: str, seconds: int, args: argparse.Namespace) -> int:
    """Tell an error that the first process may tell too: then its launcher ends this one meanwhile.

    torchrun takes a process that was not ended by a signal for one with an error of its own; slurm ends a job with the
    highest status of its tasks.
    """
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        if not ranks.in_one_terminal(args):
            raise
        return 2
    return _fail(next_step.as_typed(line))


def _fail(line: str) -> int:
    """Write an error at one go, so that those of several processes stay apart, and return the status."""
    sys.stderr.write(f"error: {line}\n")
    return 2
