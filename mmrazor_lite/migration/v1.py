"""Configs of MMRazor 1.x, on mmengine's runner as ours, in our own form."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .told import Told


def translated(config: dict[str, Any], file: str, helpers: Collection[str], told: Told) -> dict[str, Any]:
    """Return ``config`` in our own form, see :func:`mmrazor_lite.migration.translate`."""
    return config
