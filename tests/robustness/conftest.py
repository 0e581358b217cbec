"""Runs in this process: each with loggers of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _new_log():
    """The loggers of the run before write to its captured, closed output."""
    from mmengine.logging import MMLogger

    MMLogger._instance_dict.clear()


@pytest.fixture(params=["few", pytest.param("rest", marks=pytest.mark.slow)])
def kills(request) -> str:
    """Which of the drawn moments a run is killed at: all 20 take minutes."""
    return request.param
