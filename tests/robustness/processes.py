"""Whole commands in processes of their own, which are killed at any moment or while they write a file."""

from __future__ import annotations

import contextlib
import fnmatch
import multiprocessing
import os
import random
import runpy
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
KILLED = -signal.SIGKILL
POLL = 0.01  # seconds
CHILDREN = threading.Lock()  # starting a process asks all others how they ended: of two that ask at once one hears 255


@dataclass(frozen=True)
class Write:
    """The moment inside the ``number``-th writing of a file whose name fits ``pattern``.

    ``phase``: ``half`` of the data are in the temporary file, or just ``before`` or ``after`` it gets its name.
    """

    pattern: str
    number: int
    phase: str


def start_server() -> multiprocessing.context.ForkServerContext:
    """Return the context of a fork server that has imported everything: the first run takes no longer than others."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robustness.fork_template"])
    before = {key: os.environ.get(key) for key in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        forkserver.ensure_running()
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
    first = context.Process(target=os.getpid)  # waits for the imports
    first.start()
    first.join()
    return context


def run(
    context: multiprocessing.context.ForkServerContext,
    argv: Sequence[object],
    log: Path,
    kill: float | Write | None = None,
    ranks: int = 1,
) -> tuple[int, float]:
    """Run one command line of ``mmrazor-lite``, its output appended to ``log``.

    Args:
        context: From :func:`start_server`.
        argv: Words of the command line.
        log: File.
        kill: Seconds that the first process computes before all die by SIGKILL (the clock on the wall would tell how
            busy the machine is), or the writing in which the first one does, and then the others.
        ranks: Processes, as torchrun would start them.

    Returns:
        Exit status (``KILLED`` after a kill) of the first process that did not end with 0, and the seconds that the
        first process computed.
    """
    write = kill if isinstance(kill, Write) else None
    processes = start(context, argv, log, ranks, write)
    seconds = join(processes, None if write else kill)
    _end(processes)
    return next((process.exitcode for process in processes if process.exitcode), 0), seconds


def start(
    context: multiprocessing.context.ForkServerContext,
    argv: Sequence[object],
    log: Path,
    ranks: int = 1,
    write: Write | None = None,
) -> list[multiprocessing.process.BaseProcess]:
    """Start the processes of a command line; see :func:`run`."""
    words = [str(word) for word in argv]
    if ranks > 1:
        words[1:1] = ["--launcher", "pytorch"]
    processes = [
        context.Process(target=_work, args=(words, str(log), environment, None if rank else write))
        for rank, environment in enumerate(_environments(ranks))
    ]
    with CHILDREN:
        for process in processes:
            process.start()
    return processes


def run_script(
    context: multiprocessing.context.ForkServerContext,
    script: Path,
    words: Sequence[Sequence[object]],
    logs: Sequence[Path],
    limit: float = 240,
) -> list[int | None]:
    """Run a script in one process for each of ``words``, as torchrun would start them, and each with a log of its own.

    Returns:
        Exit statuses; None of one that did not end within ``limit`` seconds and was killed.
    """
    processes = [
        context.Process(target=_run_script, args=(str(script), [str(word) for word in line], str(log), environment))
        for line, log, environment in zip(words, logs, _environments(len(words)), strict=True)
    ]
    with CHILDREN:
        for process in processes:
            process.start()
    last = time.monotonic() + limit
    for process in processes:
        connection.wait([process.sentinel], max(0.0, last - time.monotonic()))
    statuses = [_status(process) for process in processes]
    _end(processes)
    return statuses


def join(processes: Sequence[multiprocessing.process.BaseProcess], limit: float | None = None) -> float:
    """Wait until all have ended with 0, one has ended otherwise, or the first one has computed for ``limit`` seconds.

    Returns:
        Seconds that the first one has computed.
    """
    waiting, seconds = list(processes), 0.0
    while waiting and not any(map(_status, processes)):
        with contextlib.suppress(OSError):  # it is gone
            seconds = time.clock_gettime((~processes[0].pid << 3) | 2)  # Linux: CPU clock of a process
        if limit is not None and seconds >= limit:
            break
        left = POLL if limit is None else limit - seconds
        connection.wait([process.sentinel for process in waiting], min(max(left, POLL / 10), POLL))
        waiting = [process for process in waiting if _status(process) is None]
    return seconds


def _status(process: multiprocessing.process.BaseProcess) -> int | None:
    with CHILDREN:
        return process.exitcode


def _end(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
    with CHILDREN:
        for process in processes:
            process.kill()
            process.join()


def _environments(ranks: int) -> list[dict[str, str]]:
    """What torchrun tells each of some processes; a single one is told nothing."""
    if ranks == 1:
        return [{}]
    port = free_port()
    return [_environment(rank, ranks, port) for rank in range(ranks)]


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """All on the loopback, whatever this machine is called."""
    of_rank = dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) | dict.fromkeys(
        ("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(ranks)
    )
    return {**of_rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}


def free_port() -> int:
    """A port of this machine that nothing listens on, below those that systems give to whoever asks for any.

    It is drawn, not the next one: another process that asks at the same moment gets another.
    """
    draws = random.SystemRandom()
    while True:
        port = draws.randrange(10_000, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _work(argv: list[str], log: str, environment: dict[str, str], write: Write | None) -> None:
    from mmrazor_lite.cli import main

    _settle(log, environment)
    if write is not None:
        _die_inside(write)
    raise SystemExit(main(argv))


def _run_script(script: str, argv: list[str], log: str, environment: dict[str, str]) -> None:
    _settle(log, environment)
    sys.argv = [script, *argv]
    runpy.run_path(script, run_name="__main__")


def _settle(log: str, environment: dict[str, str]) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment)


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
