"""Start the processes of a run on this machine by torchrun, and tell how they ended in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import signals

RUN_ID = "mmrazor_lite"  # of machines that meet without numbers


@dataclass(frozen=True)
class Machines:
    """How many processes on how many machines, and where these meet.

    Attributes:
        processes: On this machine.
        nodes: Number of machines.
        rank: Number of this one, from 0; None where they find out by themselves.
        host: Address of the first machine.
        port: Of that machine; with ``rank`` it is where the processes meet, without where the launchers do.
    """

    processes: int
    nodes: int = 1
    rank: int | None = 0
    host: str = "127.0.0.1"
    port: int = 29500

    @property
    def where(self) -> str:
        """HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def options(self) -> list[str]:
        """What torchrun takes."""
        sizes = {"nnodes": self.nodes, "nproc_per_node": self.processes}
        if self.rank is None:
            meet = {"rdzv_backend": "c10d", "rdzv_endpoint": self.where, "rdzv_id": RUN_ID}
        else:
            meet = {"node_rank": self.rank, "master_addr": self.host, "master_port": self.port}
        return [f"--{name}={value}" for name, value in {**sizes, **meet}.items()]


def start(machines: Machines, program: Sequence[str]) -> int:
    """Run ``program``, a script and its words, in each process to the end and return the exit status.

    torchrun's loop runs in this process: what it would say of processes that fail, in 40 lines, is one line of ours
    below theirs. The status is 2 where they refused their input, 128 and the number of a signal to this process, and
    else 1.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    for library in ("OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    os.environ[signals.LAUNCHER] = str(os.getpid())
    logging.disable(logging.ERROR)  # torchrun's words on what the line below says
    before = _time_of_children()
    try:
        run.run(run.parse_args([*machines.options, *program]))
    except ChildFailedError as error:
        return fail(*_told(error.failures))
    except SignalException as error:
        print(signals.line(error.sigval, resumes=True), file=sys.stderr)
        return 128 + error.sigval
    except (RendezvousError, RuntimeError) as error:
        if not isinstance(error, RendezvousError) and not _is_of_meeting(error):
            raise
        if _time_of_children() > before:  # processes were started: the machines had met
            fix = "start all of them again: train and search go on with --resume"
            return fail(f"the launcher at {machines.where} is gone, what ended it is said there: {fix}", 1)
        reason = " ".join(str(error).split()).split(". ")[0]
        fix = "give the address of the first machine and a free port of it (--rdzv, or MASTER_ADDR and PORT)"
        return fail(f"the processes cannot meet at {machines.where} ({reason}): {fix}", 2)
    finally:
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, signal.SIG_IGN)
        _kill_children()  # signals in quick succession leave torchrun no time to
    return 0


def _is_of_meeting(error: RuntimeError) -> bool:
    """Whether the network is the cause; of torch 2.6 a port that is taken is a RuntimeError and nothing more."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or "server socket" in str(error)


def fail(line: str, status: int) -> int:
    """Print an error and return ``status``."""
    print(f"error: {line}", file=sys.stderr)
    return status


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


def _time_of_children() -> float:
    """Seconds of CPU of the processes that this one has started and seen end."""
    times = os.times()
    return times.children_user + times.children_system


def _kill_children() -> None:
    """End what is left: each process leads a group, which holds those that read its images."""
    for file in Path("/proc/self/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            with contextlib.suppress(OSError):
                if os.getpgid(child) == child:
                    os.killpg(child, signal.SIGKILL)
                    os.waitpid(child, 0)
