"""Files appear whole or not at all, also when the process is killed while it writes, and several files together.

A temporary file lies in the folder of the file it becomes, under ``.NAME.XXXXXXXX.tmp``, and is locked by the process
that writes it. The lock ends with the process: what a killed one has left is told by that, and removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmrazor_lite import counterparts
from mmrazor_lite.errors import UserError, nearest, short

_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp")
_DRAFTS: set[Path] = set()  # of file sets that are being written
_SUFFIXES, _NAMES = {".pth", ".pt2", ".json", ".jsonl", ".yaml"}, {"last_checkpoint"}  # of the files of a run
_DISK = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; move it there once the block ends without an error.

    The data reach the disk before the name changes, and the folder entry before the call returns, so a reader sees
    the old file or the new one, never a part. On an error the temporary file is removed and ``path`` is untouched.
    A path of :meth:`FileSet.new` is itself temporary and is yielded as it is.

    Raises:
        UserError: The disk is full, or ``path`` cannot be a file.
    """
    path = Path(path)
    if path in _DRAFTS:
        yield path
        return
    with FileSet() as files:
        yield files.new(path)


def write_text_atomic(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` by :func:`atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class FileSet:
    """Several files that get their names together, when all of them are whole on the disk that they stay on.

    A context manager: files written to the paths that :meth:`new` returns are renamed when the block ends without an
    error, in the order of the calls; on an error, also a full disk, nothing has changed.

    Raises:
        UserError: At the end of the block: the disk is full, or a name is taken by a folder.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path, int]] = []  # temporary, final, descriptor that holds the lock
        self._gone: list[Path] = []

    def new(self, path: str | os.PathLike) -> Path:
        """Return where to write what is to become ``path``."""
        path = Path(path)
        check_outputs([path])
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_left_overs(path.parent, path.name)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with suppress(OSError):  # a disk without locks: left-overs stay there
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._files.append((Path(name), path, handle))
        _DRAFTS.add(Path(name))
        return Path(name)

    def without(self, path: str | os.PathLike) -> None:
        """As :meth:`replace`, and drop what was written to become ``path``: there is to be none."""
        self.replace(path)
        for entry in [entry for entry in self._files if entry[1] == Path(path)]:
            self._drop(entry)

    def replace(self, path: str | os.PathLike) -> None:
        """Remove ``path`` just before the first of the files gets its name, so that it never stands beside them."""
        self._gone.append(Path(path))

    def __enter__(self) -> FileSet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._finish()
            elif isinstance(error, Exception) and not isinstance(error, UserError):
                cause = _disk_error(error)
                if cause is not None and self._files:
                    raise _of_disk(self._files[-1][1], cause) from error
        finally:
            for entry in list(self._files):
                self._drop(entry)

    def _drop(self, entry: tuple[Path, Path, int]) -> None:
        temporary, _, handle = entry
        temporary.unlink(missing_ok=True)
        os.close(handle)
        _DRAFTS.discard(temporary)
        self._files.remove(entry)

    def _finish(self) -> None:
        mask = 0o666 & ~_umask()
        for temporary, path, _ in self._files:
            with _told(path):
                sync(temporary)
                temporary.chmod(mask)
        check_outputs({*(path for _, path, _ in self._files), *self._gone})
        with _signals_wait():
            for path in self._gone:
                path.unlink(missing_ok=True)
            for temporary, path, _ in self._files:
                with _told(path):
                    os.replace(temporary, path)
            for folder in {path.parent for _, path, _ in self._files}:
                sync(folder)


def check_outputs(outputs: Iterable[str | os.PathLike], inputs: Iterable[str | os.PathLike] = ()) -> None:
    """Raise :class:`UserError` where files of these names cannot be written, before the work that gives them.

    Args:
        outputs: Files that a step writes.
        inputs: Files that it reads, and may not replace.
    """
    read = {Path(path).resolve() for path in inputs}
    seen: set[Path] = set()
    for path in map(Path, outputs):
        if path.is_dir():
            raise UserError(f"{path} is a folder, a file is to be written there: move it, or give another name")
        if path.resolve() in read:
            raise UserError(f"{path} is read by this step, which would replace it: give another name to write to")
        if path.resolve() in seen:
            raise UserError(f"{path} would be written twice by this step: give each its own name")
        seen.add(path.resolve())
        check_place(path, path.parent)


def check_place(path: Path, folder: Path) -> None:
    """Raise :class:`UserError`, of ``path``, where ``folder`` is none that is there or can be made and written to."""
    above = next((place for place in (folder, *folder.parents) if place.exists()), None)
    if above is not None and not above.is_dir():
        raise UserError(f"{path} cannot be written: {above} is a file, not a folder")
    if above is not None and not os.access(above, os.W_OK):
        raise UserError(f"{path} cannot be written: no permission to write into {above}")


def as_path(path: Any, what: str) -> Path:
    """The path that a caller gives; raise :class:`UserError` for what is none, and for one without a name."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise UserError(f"{what}={short(path)}: give a path, such as 'results/small'")
    return Path(path)


def require_file(path: str | os.PathLike, what: str) -> Path:
    """Return ``path``; raise :class:`UserError` with the nearest name in its folder where it does not exist."""
    path = Path(path)
    if path.is_file():
        return path
    if path.exists():
        raise UserError(f"{what} '{path}' is {'a folder' if path.is_dir() else 'no plain file'}")
    if known := counterparts.hint(path):
        raise UserError(f"{what} '{path}' not found{known}")
    folder = path.parent
    if not folder.is_dir():
        raise UserError(f"{what} '{path}' not found: there is no folder '{folder}'")
    close = nearest(path.name, sorted(entry.name for entry in folder.iterdir()))
    raise UserError(f"{what} '{path}' not found{close}")


def check_folder(folder: str | os.PathLike) -> None:
    """Raise :class:`UserError` where a folder inside ``folder`` bears the name of a file of a run."""
    with suppress(FileNotFoundError, NotADirectoryError):
        check_outputs(
            Path(entry.path)
            for entry in os.scandir(folder)
            if entry.is_dir() and (entry.name in _NAMES or Path(entry.name).suffix in _SUFFIXES)
        )


def remove_left_overs(folder: str | os.PathLike, name: str | None = None) -> None:
    """Remove temporary files of processes that are gone: those of the file ``name``, or all in ``folder``."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in list(os.scandir(folder)):
            found = _TEMPORARY.fullmatch(entry.name)
            if found and name in (None, found[1]) and entry.is_file(follow_symlinks=False):
                _remove_if_left(entry.path)


def disk_problem(error: BaseException) -> str | None:
    """What the disk has against it where ``error`` comes from that, such as ``No space left on device``."""
    cause = _disk_error(error)
    return None if cause is None else (cause.strerror or str(cause))


def _remove_if_left(path: str) -> None:
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
        os.unlink(path)
    except OSError:
        pass
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _of_disk(path, error) from error


def _of_disk(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be written ({error.strerror or error}); what was there before is kept. Make room, then go on"
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        else f"{path} cannot be written ({error.strerror or error}); what was there before is kept"
    )


def _disk_error(error: BaseException) -> OSError | None:
    """The error of the disk that ``error`` is or was raised over; torch tells only of what followed from it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, OSError) and current.errno in _DISK:
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for a few renames, so that they do not come between them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Not a mask: it is of one thread, and the others of this process would take the signal.
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def sync(path: Path) -> None:
    """Return when what a file holds, or which entries a folder has, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that people do not see, such as ``.ipynb_checkpoints``."""
    return name.startswith(".") or name == "__MACOSX"
