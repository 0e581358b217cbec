"""Measurements that are on disk as soon as they are made, one line of JSON each."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.jsonio import JSONLines, read_bytes, sealed

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
        self.times: dict[str, list[float]] = {}
        self.speeds: dict[str, float] = {}  # of the machine, where it was never at full speed
        self.pace: float | None = None  # the least of all entries
        self._lines = JSONLines(path, "a journal of measurements", "delete it to start anew")
        wanted, path = {"format": FORMAT, **header}, self._lines.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or (sealed(wanted) + "\n").encode().startswith(read_bytes(path)):
            self._lines.start(wanted)
            return
        found, entries = self._lines.read()
        if found.get("format") != FORMAT:
            raise self._lines.damaged("its first line is no header")
        for key in wanted:
            if found.get(key) != wanted[key]:
                raise UserError(
                    f"{path}: is of another measurement: {key} was {short(found.get(key))}, is {short(wanted[key])}; "
                    "delete it to start anew, or write the table elsewhere"
                )
        for number, entry in enumerate(entries, 2):
            times = entry.get("ms")
            good = isinstance(entry.get("key"), str) and isinstance(times, list) and times
            if not good or not all(type(ms) in (int, float) and ms >= 0 for ms in times):
                raise self._lines.damaged(f"line {number} is no measurement")
            for name in ("speed", "pace"):
                if name in entry and not (type(entry[name]) in (int, float) and 0 < entry[name] < math.inf):
                    raise self._lines.damaged(f"line {number} has a {name} that is no number above 0")
            self._keep(entry["key"], [float(ms) for ms in times], entry.get("speed", 1.0), entry.get("pace"))

    def __contains__(self, key: str) -> bool:
        return key in self.times

    def add(self, key: str, times: list[float], label: str, speed: float = 1.0, pace: float | None = None) -> None:
        """Keep the milliseconds of one key, now; ``label`` is for people who read the file.

        Args:
            speed: Of the machine meanwhile, as a share of its full speed.
            pace: Seconds of the pace at full speed, see :class:`.steady_rounds.Pace`.
        """
        more = {} if speed >= 1 else {"speed": round(speed, 4)}
        more |= {} if pace is None else {"pace": float(f"{pace:.5g}")}
        self._lines.add({"key": key, "what": label, "ms": times, **more})
        self._keep(key, times, speed, pace)

    def _keep(self, key: str, times: list[float], speed: float, pace: float | None) -> None:
        self.times[key] = times
        if speed < 1:
            self.speeds[key] = speed
        if pace is not None:
            self.pace = min(pace, self.pace or pace)
