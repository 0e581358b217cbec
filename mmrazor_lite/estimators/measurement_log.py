"""A journal: measurements that are on disk as soon as they are made, one line of JSON each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError, short

FORMAT = "mmrazor_lite.latency_journal/1"


class Journal:
    """Key -> milliseconds of each repeat, kept in a file.

    The first line says what was measured and how; a journal of anything else is not continued. The half line that a
    killed process left at the end is dropped.

    Args:
        path: The file; started where it does not exist.
        header: What has to be equal for times to stand side by side, as plain data.

    Raises:
        UserError: The file is no journal, or one with another header; names what differs.
    """

    def __init__(self, path: str | os.PathLike, header: Mapping[str, Any]) -> None:
        self.path, self.times = Path(path), {}
        wanted = {"format": FORMAT, **header}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self.path.read_bytes() if self.path.exists() else b""
        end = content.rfind(b"\n") + 1
        lines = content[:end].splitlines()
        if lines:
            self._compare(self._data(lines[0], 1), wanted)
        elif not _line(wanted).startswith(content):
            raise self._no_journal("its first line is no header")
        self._fill(lines[1:])
        if end < len(content):
            os.truncate(self.path, end)
        if not lines:
            self._append(wanted)

    def _fill(self, lines: list[bytes]) -> None:
        for number, line in enumerate(lines, 2):
            data = self._data(line, number)
            times = data.get("ms")
            good = isinstance(data.get("key"), str) and isinstance(times, list) and times
            if not good or not all(type(ms) in (int, float) and 0 <= ms < float("inf") for ms in times):
                raise self._no_journal(f"line {number} is no measurement")
            self.times[data["key"]] = [float(ms) for ms in times]

    def __contains__(self, key: str) -> bool:
        return key in self.times

    def add(self, key: str, times: list[float], label: str) -> None:
        """Keep the milliseconds of one key, now; ``label`` is for people who read the file."""
        self._append({"key": key, "what": label, "ms": times})
        self.times[key] = times

    def _append(self, data: Mapping[str, Any]) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, _line(data))  # one write: a line is there whole, or it is the last one
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _data(self, line: bytes, number: int) -> dict:
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise self._no_journal(f"line {number} is no JSON mapping")
        return data

    def _compare(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        if found.get("format") != FORMAT:
            raise self._no_journal("its first line is no header")
        for key in wanted:
            if found.get(key) != wanted[key]:
                raise UserError(
                    f"{self.path}: is of another measurement: {key} was {short(found.get(key))}, is "
                    f"{short(wanted[key])}; delete it to start anew, or write the table elsewhere"
                )

    def _no_journal(self, problem: str) -> UserError:
        return UserError(f"{self.path}: not a journal of measurements ({problem}); delete it to start anew")


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"
