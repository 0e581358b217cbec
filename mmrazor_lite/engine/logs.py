"""Where the lines of a log go: what is long to the file alone, and a file that cannot be written does not end a run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

_LONG = (  # beginnings of what mmengine logs on many lines, or of nobody's interest
    "\n" + "-" * 60,
    "Config:\n",
    "Hooks will be executed in the following order:",
    "Distributed training is not used, all SyncBatchNorm (SyncBN) layers",
)


def calm(logger: logging.Logger) -> None:
    """Keep environment, config and hooks from the terminal where there is a log file, which has them."""
    if _files(logger):
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_short)


def _is_short(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or not str(record.msg).startswith(_LONG)


def survive_full_disk(logger: logging.Logger) -> None:
    """Say in one line, once, that the log file cannot be written; Python's own answer is a traceback per line."""
    for handler in _files(logger):
        handler.handleError = _once(handler.baseFilename)  # type: ignore[method-assign]


def _files(logger: logging.Logger) -> list[logging.FileHandler]:
    return [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]


def _once(path: str) -> Callable[[logging.LogRecord], None]:
    said: list[bool] = []

    def handle(record: logging.LogRecord) -> None:
        if not said:
            said.append(True)
            error = sys.exc_info()[1]
            reason = getattr(error, "strerror", None) or error
            print(f"warning: the log {path} cannot be written ({reason}); the run goes on without it", file=sys.stderr)

    return handle
