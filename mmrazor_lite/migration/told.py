"""What a translation says: what it changed, and what it could not."""

from __future__ import annotations


class Told:
    """Two lists of lines, in the order in which they were told, none twice."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.problems: list[str] = []

    def change(self, old: str, new: str) -> None:
        """Say that ``old`` (a key, or KEY=VALUE) is ``new`` here, or why nothing takes its place."""
        self._add(self.changes, f"{old} -> {new}")

    def problem(self, line: str) -> None:
        """Say what cannot be translated: ``"KEY: why; what to do"``."""
        self._add(self.problems, line)

    @staticmethod
    def _add(lines: list[str], line: str) -> None:
        if line not in lines:
            lines.append(line)
