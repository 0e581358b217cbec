"""Published figures that tests compare with, see data/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent / "data"
COUNTS = {"params": "params", "macs": "macs", "flops": "flops_mmcv_style"}  # ours: theirs


def figures(name: str) -> Any:
    """What one file of ``tests/data`` holds, by its path without the ending."""
    return json.loads((DATA / f"{name}.json").read_text())


def counts(computed: dict[str, int]) -> dict[str, int]:
    """The costs of an entry under the names of this project."""
    return {ours: computed[theirs] for ours, theirs in COUNTS.items()}


def specialised() -> dict[str, dict]:
    """Name -> the 50 specialised networks of Once-for-All."""
    return {entry["name"]: entry for entry in figures("ofa/specialized_subnets")["subnets"]}
