"""Several commands in one process, each as typed on the command line, with its progress instead of its log."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from mmrazor_lite import shipped
from mmrazor_lite.folder_lock import released

ROOT = shipped.CONFIGS.parent  # of paths that begin with configs/
CONFIGS = shipped.CONFIGS / "pruning/autoslim"
TOP1 = "accuracy/top1"
TYPED = "typed"  # of a parsed command line: its words
CommandLine = Callable[..., Any]  # runs one subcommand, given its words as on the command line, and returns its result


def run_step(cli: CommandLine, title: str, *words: Any) -> Any:
    """Run one subcommand, showing only its progress, and return its result."""
    print(f"\n[{title}]", flush=True)
    began = time.monotonic()
    with contextlib.redirect_stdout(Highlights(sys.stdout)) as shown, released():
        result = cli(*words)
    shown.finish(f"  {time.monotonic() - began:.0f} s")
    return result


class Highlights(io.TextIOBase):
    """Passes on the progress, file and accuracy lines of a run's log; the rest is in the log file of its work dir."""

    _TRAIN = re.compile(r"Epoch\(train\)\s+\[(\d+)\].*?eta: (\S+).*?loss: (\S+)")
    _SEARCH = re.compile(r"INFO - search: (step .*)")
    _RESULT = re.compile(
        r"INFO - (?:split: )?((?:loaded|read|wrote) \S+ \(sha256.*\))|Epoch\((?:val|test)\).*?\]\s+(.*?)  data"
    )

    def __init__(self, out: Any) -> None:
        self.out = out
        self.terminal = out.isatty()

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if found := self._TRAIN.search(line):
                self._progress(f"  epoch {found[1]}, loss {found[3]}, {found[2]} left")
            elif found := self._SEARCH.search(line):
                self._progress(f"  {found[1]}")
            elif found := self._RESULT.search(line):
                self._say(f"  {found[1] or found[2]}")
        return len(text)

    def _progress(self, line: str) -> None:
        if self.terminal:
            self.out.write(f"\r\x1b[2K{line}")
            self.out.flush()
        else:
            self._say(line)

    def _say(self, line: str) -> None:
        start = "\r\x1b[2K" if self.terminal else ""
        self.out.write(f"{start}{line}\n")
        self.out.flush()

    finish = _say
