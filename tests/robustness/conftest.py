"""Runs in this process: without long logs, and each with loggers of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _short_logs():
    """mmengine formats its config four times per run, for the log; that is a third of the time of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, *args, **kwargs: (text, False))
        yield


@pytest.fixture(autouse=True)
def _new_log():
    """The loggers of the run before write to its captured, closed output."""
    from mmengine.logging import MMLogger

    MMLogger._instance_dict.clear()
