"""What libraries warn of, as a command shows it: one line each, and each once, without lines of their code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmrazor_lite.errors import one_line


@contextmanager
def in_one_line() -> Iterator[None]:
    """Inside, Python writes a warning as ``warning: TEXT``; one that it has written it leaves out."""
    said: set[str] = set()

    def written(message: Warning | str, *_: Any, **__: Any) -> str:
        text = f"warning: {one_line(message if isinstance(message, Warning) else UserWarning(message))}\n"
        if text in said:
            return ""
        said.add(text)
        return text

    before, warnings.formatwarning = warnings.formatwarning, written
    try:
        yield
    finally:
        warnings.formatwarning = before
