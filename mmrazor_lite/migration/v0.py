"""Configs of MMRazor 0.x, on mmcv's runner, in our own form."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .generation import V0_KEYS
from .told import Told


def translated(config: dict[str, Any], file: str, helpers: Collection[str], told: Told) -> dict[str, Any]:
    """Return ``config`` in our own form, see :func:`mmrazor_lite.migration.translate`."""
    for key in sorted(V0_KEYS & config.keys()):
        told.problem(
            f"'{key}' at top level is the config style of MMRazor 0.x, here it is model=dict(type=...): "
            "docs/migration.md shows both side by side"
        )
        break
    return config
