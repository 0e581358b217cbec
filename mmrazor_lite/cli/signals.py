"""What ends a run from outside: Ctrl-C, SIGTERM, and the death of the launcher."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from . import ranks

LAUNCHER = "MMRAZOR_LITE_LAUNCHER"  # in the environment of processes that ours has started: its process id
_POLL, _BEHIND = 0.5, 0.02  # seconds


@contextlib.contextmanager
def raised() -> Iterator[list[int]]:
    """Raise ``KeyboardInterrupt`` at a SIGTERM too; yield the list that the signal is put into.

    A second one ends the process at once. One that falls into what Python calls when an object goes (``__del__``, the
    callback of a weak reference), and drops errors of, is raised again behind it.
    """
    ended: list[int] = []

    def end(number: int, frame: Any) -> None:
        ended.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises where those that read the images end too
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield ended
        return

    def again(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    def dropped(about: Any) -> None:
        if about.exc_type is KeyboardInterrupt and threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, _BEHIND)  # at once, it would be dropped with the first one
        else:
            hook(about)

    before, hook = signal.signal(signal.SIGTERM, end), sys.unraisablehook
    alarm = signal.signal(signal.SIGALRM, again)
    sys.unraisablehook = dropped
    try:
        yield ended
    finally:
        sys.unraisablehook = hook
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGTERM, before)


def told(args: argparse.Namespace, ended: list[int]) -> int:
    """Print the one line, in one of the processes of a run, and return the exit status."""
    number = ended[0] if ended else signal.SIGINT
    if not is_launched() and ranks.is_first(args):
        print(line(number, hasattr(args, "resume")), file=sys.stderr)
    return 128 + number


def line(number: int, resumes: bool) -> str:
    """What a user is told after the signal ``number``."""
    goes_on = "--resume continues from what was kept" if resumes else "run it again to go on"
    return f"{'interrupted' if number == signal.SIGINT else 'terminated'}: {goes_on}"


def is_launched() -> bool:
    """Whether ``mmrazor-lite launch`` has started this process, and tells its end."""
    return LAUNCHER in os.environ


def end_with_launcher() -> None:
    """Watch the torchrun that has started this process, if one has: when it is gone, end within a second.

    A killed torchrun ends nothing, and its processes would train on and write.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    parent = os.getppid()
    launcher = int(os.environ.get(LAUNCHER, parent))
    threading.Thread(target=_watch, args=(parent, launcher), daemon=True, name="launcher").start()


def _watch(parent: int, launcher: int) -> None:
    while os.getppid() == parent and _lives(launcher):
        time.sleep(_POLL)
    if os.environ.get("RANK", "0") == "0":
        text = f"error: the launcher (process {launcher}) is gone, this run ends: --resume continues where it was\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)  # those that read the images too
    os.kill(os.getpid(), signal.SIGKILL)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
