"""What ``make test`` has of many alike: the others are for the wide run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Values of a parameter, tuples of several ones, of which those not ``kept`` are marked ``wide``."""
    values = list(values)
    assert all(one in values for one in kept), kept
    parts = [one if isinstance(one, tuple) else (one,) for one in values]
    return [
        one if one in kept else pytest.param(*part, marks=pytest.mark.wide)
        for one, part in zip(values, parts, strict=True)
    ]
