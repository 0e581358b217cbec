"""What a command printed as the next one, checked: the command line takes it, and the files are there."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from mmrazor_lite.cli.main import build_parser
from mmrazor_lite.cli.next_step import TOOLS

_NEXT = re.compile(r"^next: (.+)$", re.MULTILINE)


def next_of(said: str) -> argparse.Namespace:
    """The arguments of the one command that ``said`` ends with."""
    (line,) = _NEXT.findall(said)
    return checked(shlex.split(line))


def checked(words: list[str]) -> argparse.Namespace:
    """The arguments of a line as typed."""
    commands = {f"./{tool}": command for command, tool in TOOLS.items()}
    if words[0] == "python":
        assert Path(words[1]).is_file()
        words = [commands[words[1]], *words[2:]]
    else:
        assert words[0] == "mmrazor-lite"
        words = words[1:]
    args = build_parser().parse_args(words)
    options = dict(option.split("=", 1) for option in getattr(args, "cfg_options", None) or [])
    files = [getattr(args, name, None) for name in ("config", "checkpoint", "scores", "predictor", "table")]
    files += [file for key in ("load_from", "model.teacher", "model.fix_subnet") for file in [options.get(key)]]
    chosen = options.get("algorithm.channel_cfg", "").split(",") + list(getattr(args, "channel_cfgs", None) or [])
    files += [file for file in chosen if not re.fullmatch(r"[\d.]*", file)]
    for file in filter(None, files):
        assert Path(file).is_file(), file
    return args
