"""Whole commands in processes of their own, which are killed at any moment or while they write a file."""

from __future__ import annotations

import fnmatch
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Write:
    """The moment inside the ``number``-th writing of a file whose name fits ``pattern``.

    ``phase``: ``half`` of the data are in the temporary file, or just ``before`` or ``after`` it gets its name.
    """

    pattern: str
    number: int
    phase: str


def start_server() -> multiprocessing.context.ForkServerContext:
    """Return the context of a fork server that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robustness.fork_template"])
    before = {key: os.environ.get(key) for key in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        forkserver.ensure_running()
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
    return context


def run(
    context: multiprocessing.context.ForkServerContext,
    argv: Sequence[object],
    log: Path,
    kill: float | Write | None = None,
) -> tuple[int, float]:
    """Run one command line of ``mmrazor-lite``, its output appended to ``log``.

    Args:
        context: From :func:`start_server`.
        argv: Words of the command line.
        log: File.
        kill: Seconds after which, or the writing in which the process dies by SIGKILL.

    Returns:
        Exit status (``KILLED`` after a kill) and seconds.
    """
    write = kill if isinstance(kill, Write) else None
    process = context.Process(target=_work, args=([str(word) for word in argv], str(log), write))
    began = time.monotonic()
    process.start()
    process.join(None if write or kill is None else kill)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode, time.monotonic() - began


def _work(argv: list[str], log: str, write: Write | None) -> None:
    from mmrazor_lite.cli import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if write is not None:
        _die_inside(write)
    raise SystemExit(main(argv))


def _die_inside(write: Write) -> None:
    """Wrap ``os.replace``, which gives every file of ours its name, so that it kills this process."""
    replace, seen = os.replace, []

    def dying(source: str | os.PathLike, target: str | os.PathLike, **options: object) -> None:
        seen.extend([1] if fnmatch.fnmatch(Path(target).name, write.pattern) else [])
        if len(seen) < write.number:
            return replace(source, target, **options)
        if write.phase == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        elif write.phase == "after":
            replace(source, target, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = dying
