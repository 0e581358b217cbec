"""Take the flags of the official code of TF-NAS or AutoSlim_TF2, print the command that does the same here, run it."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError

from .steps import ROOT, CommandLine


@dataclass
class Command:
    """What to run here instead.

    Attributes:
        script: Path in the repository, such as ``tools/train.py``; empty where there is none.
        name: The subcommand that it is.
        words: What follows.
        options: ``KEY=VALUE`` for ``--cfg-options``.
        environment: Variables that are set for it.
        said: What is different here, a line each.
    """

    script: str
    name: str
    words: list[str]
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> list[str]:
        """The words with the options."""
        return [*self.words, *(["--cfg-options", *self.options] if self.options else [])]

    def __str__(self) -> str:
        before = [f"{key}={shlex.quote(value)}" for key, value in self.environment.items()]
        runner = ["python", self.script] if (ROOT / self.script).is_file() else ["mmrazor-lite", self.name]
        return " ".join([*before, *runner, *map(shlex.quote, self.arguments)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; those of the original are read by its own parser."""
    parser.add_argument("original", choices=sorted(_scripts()), metavar="SCRIPT", help=", ".join(sorted(_scripts())))
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="its flags; and --dry-run, to print the command only")


def run(args: argparse.Namespace, cli: CommandLine) -> int | Any:
    """Print the command and run it, unless ``--dry-run`` is among the flags; return what it returns."""
    flags = [flag for flag in args.flags if flag != "--dry-run"]
    command = translate(args.original, flags)
    for line in command.said:
        print(f"note: {line}")
    print(command, flush=True)
    if "--dry-run" in args.flags:
        return 0
    os.environ.update(command.environment)
    result = cli(command.name, *command.arguments)
    if command.name == "launch" and result:
        raise UserError(f"the processes ended with status {result}, see above")
    return result


def translate(script: str, flags: Sequence[str]) -> Command:
    """Return the command that does what ``script`` of the original with these flags does.

    Raises:
        UserError: A flag, or a value of one, that has nothing here; with what to do instead.
    """
    make_parser, to_command = _scripts()[script](flags)
    parser = make_parser(argparse.ArgumentParser(prog=f"{script}.py"))
    return to_command(parser.parse_args(list(flags)))


def _scripts() -> dict[str, Callable[[Sequence[str]], tuple[Callable, Callable]]]:
    """What reads the flags of each script, and what makes the command of them."""
    from . import original_autoslim, original_tfnas

    def test(flags: Sequence[str]) -> tuple[Callable, Callable]:  # both projects have one: the flags tell which
        tf2 = any(flag.startswith(("--arch", "--trained", "--data")) for flag in flags)
        return original_autoslim.TEST if tf2 else original_tfnas.TEST

    single = {**original_tfnas.SCRIPTS, **original_autoslim.SCRIPTS}
    return {**{name: (lambda flags, found=found: found) for name, found in single.items()}, "test": test}


def add_flags(parser: argparse.ArgumentParser, **defaults: Any) -> argparse.ArgumentParser:
    """Add a flag for each name, of the type of its default; a type is one that has to be given, None is any text."""
    for name, default in defaults.items():
        required = isinstance(default, type)
        kind = default if required else str if default is None else type(default)
        parser.add_argument(f"--{name}", type=kind, required=required, default=None if required else default)
    return parser


def config(path: str) -> str:
    """A config of this project, from the root of the repository or from elsewhere."""
    return path if Path(path).is_file() else str(ROOT / path)


def absolute(path: str) -> str:
    """The path from the root: options of a config are not relative to anything else."""
    return str(Path(path).absolute())


def text(value: Any) -> str:
    """A value as ``--cfg-options`` reads it."""
    return str(value).replace(" ", "")
