"""What tests of bad input share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmrazor_lite.cli import main


def files(folder: Path) -> dict[Path, str]:
    """Hash of every file but the logs."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def line_of_failure(capsys: pytest.CaptureFixture, folder: Path, words: Sequence[object], *parts: str) -> str:
    """Run a command line that must fail and leave every file in ``folder`` as it was; return its one line.

    The line holds all ``parts``.
    """
    before = files(folder)
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert status == 2, captured.out[-2000:]
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    missing = [part for part in parts if part not in lines[0]]
    assert not missing, f"{missing} not in: {lines[0]}"
    after = files(folder)
    assert {path: after.get(path) for path in before} == before
    return lines[0]


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")
