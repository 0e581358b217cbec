"""Which images of a dataset cannot be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmengine.logging import print_log

from mmrazor_lite.errors import UserError, reason

_NAMED = 100
_SAID: set[tuple] = set()
_KNOWN: dict[tuple, str | None] = {}  # what was found for a file as it was: datasets of one run share their images


def without_unreadable(records: Sequence[dict], transforms: Sequence[Any]) -> tuple[list[dict], list[str]]:
    """Leave out the records whose image the pipeline cannot load.

    Args:
        records: With ``img_path``; others are kept.
        transforms: Of the pipeline; its loading transform says what can be read.

    Returns:
        The records that are left, in their order, and the paths of the others.

    Raises:
        UserError: None is left.
    """
    load = next((transform for transform in transforms if type(transform).__name__.startswith("Load")), None)
    if load is None or not records:
        return list(records), []
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:  # decoders leave the interpreter's lock alone
        problems = list(pool.map(lambda record: problem_of(record, load), records, chunksize=64))
    kept = [record for record, problem in zip(records, problems, strict=True) if problem is None]
    skipped = [str(record["img_path"]) for record, problem in zip(records, problems, strict=True) if problem]
    if not kept:
        raise UserError(f"none of {len(records)} images can be read, the first is '{skipped[0]}': {problems[0]}")
    return kept, skipped


def say_skipped(skipped: Sequence[str], total: int, where: str) -> None:
    """Log how many images were left out, and which; once for the same ones."""
    if skipped and (where, tuple(skipped)) not in _SAID:
        _SAID.add((where, tuple(skipped)))
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        names = ", ".join(skipped[:_NAMED]) + more
        text = f"'{where}': {len(skipped)} of {total} images cannot be read and are left out: {names}"
        print_log(text, logger="current", level=logging.WARNING)


def problem_of(record: Mapping[str, Any], load: Any) -> str | None:
    """Say why an image cannot be loaded; None where it can."""
    path = record.get("img_path")
    if path is None:
        return None
    try:
        status = os.stat(path)
        key = (str(path), status.st_size, status.st_mtime_ns, type(load), repr(load))
    except OSError as error:
        return error.strerror or "cannot be opened"
    if key not in _KNOWN:
        try:
            _KNOWN[key] = "no image" if load(dict(record)) is None else None
        except Exception as error:  # decoders raise whatever they like
            _KNOWN[key] = why(error)
    return _KNOWN[key]


def why(error: BaseException) -> str:
    """The reason that an error gives, in one line for people."""
    text = " ".join(str(error).split())
    if "OpenCV" in text and "!buf.empty()" in text:
        return "the file is empty"
    if text.startswith("failed to load image"):
        return "no image, or a damaged one"
    return reason(error)
