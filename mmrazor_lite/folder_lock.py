"""One run, one folder: who writes into a work dir, or adds to a file, holds a lock that ends with the process.

The lock is one of the operating system, on the file ``run.lock`` in the folder (beside a file, ``.NAME.lock``), which
says in words who holds it. A file without a lock is of a run that was killed. Disks that know no locks go by the words
alone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import check_folder, remove_left_overs

NAME = "run.lock"
_HELD: dict[Path, tuple[int, int]] = {}  # file of the lock -> process that holds it (a fork does not), descriptor
_MADE: dict[Path, list[Path]] = {}  # the same -> folders that were made for it, the innermost first
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def hold(folder: str | os.PathLike, what: str) -> None:
    """Take the folder for this process, until the block of :func:`released` around it ends, or the process.

    A folder that this process holds is its own. What a run that was killed there has half written is removed.

    Args:
        folder: Made where it does not exist.
        what: Says in the file what runs here.

    Raises:
        UserError: Another process holds it; says which. It cannot be written to, or a folder stands in it where a run
            writes a file.
    """
    path = Path(folder).resolve()
    lock = path / NAME
    if _held(lock):
        return
    if path.exists() and not path.is_dir():
        raise UserError(f"--work-dir {folder} is a file; give a folder")
    _MADE[lock] = [part for part in (path, *path.parents) if not part.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        _HELD[lock] = os.getpid(), _locked(lock, what, path, "another --work-dir")
    except OSError as error:
        raise UserError(f"the work dir {folder} cannot be written to ({error.strerror}); give another one") from error
    remove_left_overs(path)
    check_folder(path)


def hold_file(path: str | os.PathLike, what: str) -> None:
    """Take a file that a run adds to for this process, as :func:`hold` does a folder; the lock stands beside it.

    Raises:
        UserError: Another process holds it; says which. Its folder cannot be written to.
    """
    path = Path(path).resolve()
    lock = path.with_name(f".{path.name}.lock")
    if _held(lock):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _HELD[lock] = os.getpid(), _locked(lock, what, path, "another file")
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written to ({error.strerror}); give another place") from error


def _held(lock: Path) -> bool:
    return _HELD.get(lock, (0, 0))[0] == os.getpid()


@contextmanager
def released() -> Iterator[None]:
    """Let go at the end of the block what was taken in it."""
    before = set(_HELD)
    try:
        yield
    finally:
        for lock in _HELD.keys() - before:
            process, handle = _HELD.pop(lock)
            if process == os.getpid():
                with suppress(OSError):
                    os.unlink(lock)  # still locked: who waits for it looks at the name again
            os.close(handle)
            with suppress(OSError):  # a run that was refused leaves no empty folder
                for made in _MADE.pop(lock, ()):
                    made.rmdir()


def _locked(path: Path, what: str, of: Path, other: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle, path, of, other)
            mine = os.fstat(handle)
            with suppress(FileNotFoundError):  # the run that held it has ended just now, and its file with it
                now = os.stat(path)
                if (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino):
                    _write(handle, what)
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, path: Path, of: Path, other: str) -> None:
    """Lock the file ``path``, or raise UserError, which says that ``of`` is in use and that ``other`` may be given.

    A lock of POSIX: processes that this one starts do not inherit it, so none of them keeps the folder after a kill.
    """
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS and not _lives(_read(handle)):
            return
        if error.errno not in (errno.EACCES, errno.EAGAIN, *_NO_LOCKS):
            raise
        holder = _read(handle)
        where = f"process {holder.get('process', '?')} on {holder.get('host', 'another machine')}"
        fix = f"wait for it, end it, or give {other}"
        if error.errno in _NO_LOCKS and holder.get("host") != platform.node():
            fix += f"; if it has ended, remove {path}"
        raise UserError(
            f"{of} is in use by {where} ({holder.get('what', 'unknown')}, since {holder.get('since', '?')}): {fix}"
        ) from None


def _lives(holder: dict) -> bool:
    """Whether the process named in the file may still run: one of another machine cannot be asked."""
    if not holder or holder.get("host") != platform.node():
        return bool(holder)
    try:
        os.kill(int(holder["process"]), 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError, OverflowError):
        return False
    except PermissionError:
        pass
    return int(holder["process"]) != os.getpid()


def _write(handle: int, what: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    words = {"process": os.getpid(), "host": platform.node(), "what": what, "since": now}
    os.ftruncate(handle, 0)
    with suppress(OSError):  # a full disk: the lock holds without words
        os.pwrite(handle, (json.dumps(words) + "\n").encode(), 0)


def _read(handle: int) -> dict:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
    except (ValueError, RecursionError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
