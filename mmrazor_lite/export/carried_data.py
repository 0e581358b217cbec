"""What a file says of how its network is made: plain data, and no more than a network needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmrazor_lite.errors import UserError, short

MAX_ENTRIES, MAX_TEXT, MAX_NUMBER = 20_000, 200, 100_000  # of a carried config


def check_plain(value: Any, where: str, path: str) -> None:
    """Raise :class:`UserError` where a config that ``where`` carries as ``path`` holds anything else."""
    for count, (place, item) in enumerate(_items(value, path)):
        if count > MAX_ENTRIES:
            raise UserError(f"{where}: {path}: has more than {MAX_ENTRIES:,} entries; no network needs so many")
        if isinstance(item, dict):
            wrong = next((key for key in item if not isinstance(key, (str, int)) or len(str(key)) > MAX_TEXT), None)
            if wrong is not None:
                raise UserError(f"{where}: {place}: the key {short(wrong)} is not text, or longer than {MAX_TEXT}")
        elif not (item is None or isinstance(item, (str, int, float, bool, list, tuple))):
            raise UserError(f"{where}: {place}: holds a {type(item).__name__}; a carried config is plain data")
        elif (isinstance(item, str) and len(item) > MAX_TEXT) or (isinstance(item, int) and abs(item) > MAX_NUMBER):
            raise UserError(f"{where}: {place}: {short(item)} is more than a network needs ({MAX_NUMBER:,})")


def _items(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path[-120:], value
    if isinstance(value, (dict, list, tuple)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            yield from _items(item, f"{path}.{key}" if isinstance(value, dict) else f"{path}[{key}]")
