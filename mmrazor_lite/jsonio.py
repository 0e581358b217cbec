"""JSON from files that anything may have happened to: within limits, of plain finite values, refused in one line."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import write_text_atomic

MOST_BYTES = 64 << 20  # of a file; what grows with a search has a limit of its own
MOST_LINE = 4 << 20
MOST_DEPTH = 64
LARGEST_INT = 1 << 63
_SEAL = re.compile(rb', "crc": "([0-9a-f]{8})"\}\s*\Z')


class BadJSON(ValueError):
    """What is wrong with a text, in a few words."""


def read_bytes(path: str | os.PathLike, most: int = MOST_BYTES, what: str = "the file") -> bytes:
    """The content of a regular file of at most ``most`` bytes; ``what`` is it, for errors.

    Raises:
        UserError: It is a folder or a device, cannot be read, or is larger.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe without a writer would wait
            mode, size = os.fstat(file.fileno()).st_mode, os.fstat(file.fileno()).st_size
            if not stat.S_ISREG(mode):
                raise UserError(f"{path}: {'a folder' if stat.S_ISDIR(mode) else 'no plain file'}, expected {what}")
            if size > most:
                raise UserError(f"{path}: {size:,} bytes, more than the {most:,} that such a file may have")
            return file.read(most + 1)
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, expected {what}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read {what} ({error.strerror})") from None


def parse(data: bytes, numbers: bool = True) -> Any:
    """The value of a JSON text (UTF-8, a byte-order mark is taken).

    Args:
        data: The text.
        numbers: Whether numbers that no float or int64 holds are refused, NaN and infinity too.

    Raises:
        BadJSON: It is none, is nested too deep, or has such a number.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadJSON("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise BadJSON(f"line {error.lineno}: no JSON: {error.msg}" if data.strip() else "it is empty") from None
    except RecursionError:
        raise BadJSON("nested too deep") from None
    except ValueError:  # thousands of digits
        raise BadJSON("a number is too large") from None
    _check(value, numbers)
    return value


def sealed(value: Mapping[str, Any]) -> str:
    """The JSON of a mapping that is not empty, with a checksum as its last entry, ``crc``."""
    return seal(json.dumps(dict(value)))


def seal(text: str) -> str:
    """The text of a JSON mapping that is not empty, with the checksum as its last entry."""
    return f'{text[:-1]}, "crc": "{zlib.crc32(text.encode()):08x}"}}'


def unsealed(data: bytes, needed: bool = True, numbers: bool = True) -> Any:
    """The value of what :func:`sealed` wrote, without its checksum.

    Args:
        data: The text.
        needed: Whether one without a checksum is refused.
        numbers: See :func:`parse`.

    Raises:
        BadJSON: As :func:`parse`, and where the checksum is wrong.
    """
    found = _SEAL.search(data, max(0, len(data) - 64))
    if found is None:
        value = parse(data, numbers)
        if needed:
            raise BadJSON("it has no checksum")
        return value
    body = data[: found.start()] + b"}"
    if zlib.crc32(body) != int(found[1], 16):
        parse(data, numbers)  # says what is wrong, where it can be seen
        raise BadJSON("its checksum does not fit what it says: it was damaged, or edited without taking out its 'crc'")
    return parse(body, numbers)


def is_number(value: Any) -> bool:
    """Whether ``value`` is a number that a float or int64 holds; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else -LARGEST_INT <= value < LARGEST_INT


class JSONLines:
    """A file that grows by a line of JSON at a time; the first line says what the others are of. Each has a checksum.

    A line without its end is half of one, of a run that was killed: it is not read, and the next one takes its place.

    Args:
        path: The file.
        what: What it is, for errors.
        fix: The end of errors.
        most: Bytes.
    """

    def __init__(self, path: str | os.PathLike, what: str, fix: str, most: int = MOST_BYTES) -> None:
        self.path, self._what, self._fix, self._most = Path(path), what, fix, most
        self._end: int | None = None  # of the last whole line

    def read(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """The header and the lines after it; None where there is no file.

        Raises:
            UserError: It is of another kind; says which line is wrong.
        """
        if not os.path.lexists(self.path):
            return None
        data = read_bytes(self.path, self._most, self._what)
        end = data.rfind(b"\n") + 1
        lines = data[:end].split(b"\n")[:-1]
        if not lines:
            raise self.damaged("it has no whole line")
        parsed = [self._parsed(line, number) for number, line in enumerate(lines, 1)]
        self._end = end
        return parsed[0], parsed[1:]

    def start(self, header: Mapping[str, Any]) -> None:
        """Write the file anew, with a header alone."""
        write_text_atomic(self.path, sealed(header) + "\n")
        self._end = self.path.stat().st_size

    def add(self, entry: Mapping[str, Any], sync: bool = True) -> None:
        """Append one line; with ``sync`` it survives a power cut from now on, and the end of this process anyway."""
        line = sealed(entry).encode() + b"\n"
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, self._end)
            os.lseek(descriptor, self._end, os.SEEK_SET)
            written = os.write(descriptor, line)
            if written != len(line):
                raise OSError(28, "the disk is full", str(self.path))
            self._end += len(line)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def damaged(self, problem: str) -> UserError:
        """The error that says that this is another file, or a damaged one."""
        return UserError(f"{self.path}: not {self._what} ({problem}); {self._fix}")

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            if len(line) > MOST_LINE:
                raise BadJSON(f"{len(line):,} bytes in a line")
            value = unsealed(line, needed=False)
        except BadJSON as error:
            problem = str(error).removeprefix("line 1: ")
            raise self.damaged(f"line {number}: {problem}") from None
        if not isinstance(value, dict):
            raise self.damaged(f"line {number} is no mapping")
        return value


def _check(value: Any, numbers: bool) -> None:
    """Refuse what is nested too deep, and with ``numbers`` those that are not finite or too large."""
    level, depth = [value], 0
    while level:
        if depth > MOST_DEPTH:
            raise BadJSON("nested too deep")
        inner: list[Any] = []
        for entry in level:
            kind = type(entry)
            if kind is list:
                inner += entry
            elif kind is dict:
                inner += entry.values()
            elif kind is float and numbers and entry - entry != 0:
                raise BadJSON("a number is not finite")
            elif kind is int and numbers and not -LARGEST_INT <= entry < LARGEST_INT:
                raise BadJSON("a number is too large")
        level, depth = inner, depth + 1
