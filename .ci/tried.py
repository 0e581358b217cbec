"""Print a row of the table of docs/install.md for this environment; with write, put it into the page.

usage: python .ci/tried.py WHAT [write] [--commit NAME]    WHAT was run in it, in a few words, and at which commit
"""

from __future__ import annotations

import argparse
import platform
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/install.md"
PACKAGES = ("torch", "torchvision", "numpy", "onedl-mmengine", "onedl-mmcv", "onedl-mmpretrain")
START, END = "<!-- tried: written by .ci/run -->", "<!-- end of tried -->"


def row(what: str, commit: str | None = None) -> str:
    """Versions, what was run, commit and date; by default the clone's commit, with a + where files differ from it."""
    if commit is None:
        words = ["git", "describe", "--always", "--dirty=+"]
        commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    versions = [version(name).partition("+")[0] for name in PACKAGES]
    mm = ", ".join(versions[3:])
    told = [platform.python_version(), ", ".join(versions[:2]), versions[2], mm, what, commit or "-"]
    return "| " + " | ".join([*told, date.today().isoformat()]) + " |"


def with_row(text: str, line: str) -> str:
    """The page with a row in the place of the one of the same Python and torch, or behind the others."""
    before, table = text.split(START)
    table, after = table.split(END)
    head, rule, *rows = table.strip().splitlines()
    kept = [old for old in rows if _environment(old) != _environment(line)]
    lines = [head, rule, *sorted([*kept, line], key=_environment)]
    return before + START + "\n" + "\n".join(lines) + "\n" + END + after


def _environment(line: str) -> tuple[list[int], list[int]]:
    """Minor releases of Python and torch."""
    python, torch = line.split("|")[1:3]
    return [int(part) for part in python.split(".")[:2]], [int(part) for part in torch.split(",")[0].split(".")[:2]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what")
    parser.add_argument("write", nargs="?", choices=("write",))
    parser.add_argument("--commit")
    args = parser.parse_args()
    line = row(args.what, args.commit)
    print(line)
    if args.write:
        PAGE.write_text(with_row(PAGE.read_text(encoding="utf-8"), line), encoding="utf-8")
