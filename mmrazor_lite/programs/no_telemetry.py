"""OpenVINO and NNCF tell their makers of what is converted, unless they find themselves in a test: here they do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_CI = {"CI": "true", "NNCF_CI": "1"}


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Keep them from it: they ask when they are imported, and when a conversion begins."""
    before = {name: os.environ.get(name) for name in _CI}
    os.environ.update(_CI)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
