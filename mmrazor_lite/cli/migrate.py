"""Write a config of MMRazor 0.x or 1.x in this project's own form, and say what was changed and what could not be."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmrazor_lite.errors import UserError

from . import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    arguments.add_config(parser)
    parser.add_argument("-o", "--output", metavar="FILE.py", help="(default: print the config, and the rest to stderr)")


def run(args: argparse.Namespace) -> Path | None:
    """Write the config and return its file; None where it was printed.

    What cannot be translated is a comment at the top of the file, and keeps it from being used until it is seen to.

    Raises:
        UserError: The config cannot be read, is of what is not carried, or has parts that could not be translated; the
            others are written all the same.
    """
    from mmrazor_lite.config.migrated import migrated

    if args.output and not args.output.endswith(".py"):
        raise UserError(f"-o {args.output}: a config is a Python file: give FILE.py")
    found = migrated(args.config, args.cfg_options)
    said = sys.stdout if args.output else sys.stderr
    origin = "this project" if found.generation == "own" else f"MMRazor {found.generation}"
    print(f"read {args.config}, a config of {origin}", file=said)
    for change in found.changes:
        print(f"changed: {change}", file=said)
    for problem in found.problems:
        print(f"left to you: {problem}", file=said)
    if args.output:
        from mmrazor_lite.fileio import write_text_atomic

        write_text_atomic(args.output, found.text)
        print(f"wrote {args.output}", file=said)
    else:
        print(found.text, end="")
    if found.problems:
        count = f"{len(found.problems)} parts" if len(found.problems) > 1 else "one part"
        raise UserError(f"{args.config}: {count} could not be translated, see above and the top of what was written")
    return Path(args.output) if args.output else None
