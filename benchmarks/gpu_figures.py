"""Figures of a benchmark that may be cut off: each is a line of JSON, written whole as soon as it is known."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COMPARED = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Goal:
    """What a figure should be: ``sign`` is ``<=`` or ``>=``."""

    sign: str
    value: float

    def met(self, value: float) -> bool:
        """Whether a figure is as it should be."""
        return _COMPARED[self.sign](value, self.value)

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"


class Figures:
    """Where one part of the benchmark writes what it finds, and prints it at once.

    Args:
        file: Lines of JSON; others may add to it at the same time.
        part: Name of the part, in each of its lines.
        judged: Whether figures are compared with their goals; those of a dry run mean nothing.
    """

    def __init__(self, file: str | os.PathLike, part: str, judged: bool = True) -> None:
        self.file, self.part, self.judged = Path(file), part, judged

    def add(self, what: str, value: Any, unit: str = "", goal: Goal | None = None, **facts: Any) -> None:
        """Write a figure, with its goal and further facts such as its spread."""
        found: dict[str, Any] = {"value": value, "unit": unit}
        if goal is not None:
            met = goal.met(value) if self.judged and isinstance(value, int | float) else None
            found |= {"goal": str(goal), "met": met}
        self.write({"what": what, **found, **facts})

    def check(self, what: str, holds: bool, **facts: Any) -> None:
        """Write whether something that must hold does."""
        self.write({"what": what, "holds": bool(holds), **facts})

    def write(self, content: Mapping[str, Any]) -> None:
        """Write a line: one call of the system, so that it is there whole or not at all."""
        line = {"part": self.part, **content}
        print(shown(line), flush=True)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, (json.dumps(line, default=str) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)


def read(file: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The lines of a file of figures."""
    if Path(file).is_file():
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def shown(line: Mapping[str, Any]) -> str:
    """A figure for people."""
    rest = {key: value for key, value in line.items() if key not in ("part", "what", "value", "unit", "goal", "met")}
    if "holds" in rest:
        said = "holds" if rest.pop("holds") else "DOES NOT HOLD"
    else:
        value = line.get("value")
        said = f"{number(value)} {line.get('unit', '')}".rstrip() if value is not None else ""
    if "goal" in line:
        said += f" (goal {line['goal']}: {_verdict(line['met'])})"
    facts = ", ".join(f"{key} {number(value)}" for key, value in rest.items())
    return f"{line['part']}: {line['what']}: {said}" + (f"  [{facts}]" if facts else "")


def number(value: Any) -> str:
    """A number with four digits that mean something; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def summary(lines: list[dict[str, Any]]) -> str:
    """Which goals were met, what does not hold, and which parts did not come to their end."""
    judged = [line for line in lines if line.get("met") is not None]
    checks = [line for line in lines if "holds" in line]
    wrong = [line for line in checks if not line["holds"]]
    ended = [line for line in lines if line["what"] in ("cut", "failed", "left out")]
    text = [f"{len(checks) - len(wrong)} of {len(checks)} checks hold, {sum(line['met'] for line in judged)} of "
            f"{len(judged)} goals are met"]  # fmt: skip
    text += [f"  {shown(line)}" for line in (*wrong, *ended)]
    text += [f"  {'met   ' if line['met'] else 'missed'} {shown(line)}" for line in judged]
    return "\n".join(text)


def _verdict(met: bool | None) -> str:
    return "not judged" if met is None else "met" if met else "MISSED"
