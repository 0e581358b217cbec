"""Start one process per GPU, or several CPU processes, by torchrun: ``python -m mmrazor_lite.cli.launch N SCRIPT ...``.

NNODES, NODE_RANK, MASTER_ADDR and PORT of the environment are torchrun's options of several machines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError

from . import signals
from .environment import check_processes


def arguments(count: str, script: list[str]) -> list[str]:
    """Return torchrun's arguments for ``count`` processes on this machine; raise UserError where they do not fit."""
    count = _number("number of processes", count, 1)
    nodes = _number("NNODES", os.environ.get("NNODES", "1"), 1)
    options = {
        "nnodes": nodes,
        "node_rank": _number("NODE_RANK", os.environ.get("NODE_RANK", "0"), 0, nodes - 1),
        "master_addr": os.environ.get("MASTER_ADDR", "127.0.0.1"),
        "master_port": _number("PORT", os.environ.get("PORT", "29500"), 1, 65535),
        "nproc_per_node": count,
    }
    check_processes(count)
    return [*(f"--{name}={value}" for name, value in options.items()), *script, "--launcher", "pytorch"]


def launch(count: str, script: list[str]) -> int:
    """Run the processes to their end and return the exit status.

    torchrun's loop runs in this process: what it would say of processes that fail, in 40 lines, is one line of ours
    below theirs. The status is 2 where they refused their input, 128 and the number of a signal to this process, and
    else 1.
    """
    try:
        words = arguments(count, script)
    except UserError as error:
        return _fail(str(error), 2)

    from torch import distributed
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[signals.LAUNCHER] = str(os.getpid())
    logging.disable(logging.ERROR)  # torchrun's words on what the line below says
    options = run.parse_args(words)
    try:
        run.run(options)
    except ChildFailedError as error:
        return _fail(*_told(error.failures))
    except SignalException as error:
        print(signals.line(error.sigval, resumes=True), file=sys.stderr)
        return 128 + error.sigval
    except (RendezvousError, distributed.DistError) as error:
        where = f"MASTER_ADDR:PORT {options.master_addr}:{options.master_port}"
        reason = " ".join(str(error).split()).split(". ")[0]
        return _fail(f"the processes cannot meet at {where} ({reason}): give the first machine and a free PORT", 2)
    finally:
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, signal.SIG_IGN)
        _kill_children()  # signals in quick succession leave torchrun no time to
    return 0


def _told(failures: Mapping[int, Any]) -> tuple[str, int]:
    """The line for the user, and the exit status, where processes failed: rank -> torchrun's ``ProcessFailure``."""

    def place(rank: int) -> tuple[bool, bool, bool, int]:
        """The cause first: one that was ended is last, one that misses another has exit code 2."""
        code = failures[rank].exitcode
        return code in (-signal.SIGTERM, 128 + signal.SIGTERM), code >= 0, code == 2, rank

    rank = min(failures, key=place)
    code = failures[rank].exitcode
    if code < 0:
        name = failures[rank].signal_name()
        fix = "out of memory? start all of them again: train and search go on with --resume"
        return f"process {rank} was killed by signal {-code} ({name}), the others were ended: {fix}", 1
    line = f"process {rank} has ended with exit code {code}, its error is above; the others were ended"
    return line, code if code in (2, 130) else 1


def _kill_children() -> None:
    """End what is left: each process leads a group, which holds those that read its images."""
    for file in Path("/proc/self/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            with contextlib.suppress(OSError):
                if os.getpgid(child) == child:
                    os.killpg(child, signal.SIGKILL)
                    os.waitpid(child, 0)


def _number(name: str, text: str, low: int, high: int | None = None) -> int:
    if text.isdecimal() and low <= int(text) and (high is None or int(text) <= high):
        return int(text)
    allowed = f"from {low} to {high}" if high is not None else f"of {low} or more"
    raise UserError(f"{name} is '{text}': give a whole number {allowed}")


def _fail(line: str, status: int) -> int:
    print(f"error: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    try:
        sys.exit(launch(sys.argv[1], sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
