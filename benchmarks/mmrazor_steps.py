"""Runs a script of ``tools/`` in a process of its own, forked from one that has imported the package."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = ["mmpretrain.models", "mmrazor_lite.models", "mmrazor_lite.engine", "mmrazor_lite.cli"]


@dataclass(frozen=True)
class Said:
    """What a command has said, and its exit status: None where it was ended."""

    status: int | None
    out: str
    error: str
    seconds: float

    def record(self, passed: bool, text: str = "") -> dict:
        """The end of a record of the table; ``text``: what it is about, else the last line of an error."""
        lines = [line for line in self.error.splitlines() if line.strip()]
        return {
            "passed": passed,
            "status": self.status,
            "text": text or ("" if passed else (lines or ["no word"])[-1]),
            "seconds": round(self.seconds, 1),
        }


def speak(script: str, words: list[str], folder: Path, timeout: int) -> Said:
    """Run ``tools/script words`` in ``folder``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as files:
        out, error = Path(files, "out"), Path(files, "error")
        start = time.monotonic()
        process = context.Process(target=_child, args=(script, words, folder, out, error))
        process.start()
        process.join(timeout)
        ended = process.exitcode is not None
        if not ended:
            process.kill()
            process.join()
        said = [path.read_text(errors="replace") if path.exists() else "" for path in (out, error)]
    late = "" if ended else f"more than {timeout} s"
    return Said(process.exitcode, said[0], f"{said[1].strip()}\n{late}".strip(), time.monotonic() - start)


def _child(script: str, words: list[str], folder: Path, out: Path, error: Path) -> None:
    for number, path in ((1, out), (2, error)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.chdir(folder)
    warnings.simplefilter("ignore")
    os.environ["PYTHONPATH"] = str(ROOT)
    path = ROOT / "tools" / script
    sys.argv = [str(path), *words]
    sys.path[0] = str(path.parent)
    runpy.run_path(str(path), run_name="__main__")
