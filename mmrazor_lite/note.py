"""What is worth a line of the log: in that of the run, where mmengine keeps one, else under the name of the package."""

from __future__ import annotations

import logging
import sys


def note(text: str, level: int = logging.INFO) -> None:
    """Log a line."""
    engine = sys.modules.get("mmengine.logging")  # what logs with mmengine has imported it; nothing here needs it
    if engine is None:
        logging.getLogger("mmrazor_lite").log(level, text)
    else:
        engine.print_log(text, logger="current", level=level)
