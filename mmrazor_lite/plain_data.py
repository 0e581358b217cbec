"""Settings as plain data: dicts with keys of text, lists, and what a caller makes of everything else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any


def plain(value: Any, leaf: Callable[[Any], Any] | None = None, without: Collection[Any] = ()) -> Any:
    """Copy nested mappings and sequences into dicts and lists.

    Args:
        value: Lists and tuples become lists, mappings dicts.
        leaf: Called with all that is neither; what it returns stands in its place. By default it stays.
        without: Keys that are left out, wherever they are.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(part, leaf, without) for key, part in value.items() if key not in without}
    if isinstance(value, list | tuple):
        return [plain(part, leaf, without) for part in value]
    return value if leaf is None else leaf(value)


def copied(value: Any) -> Any:
    """Copy nested mappings, lists and tuples, into dicts, lists and tuples; what is none of them is the same object."""
    if isinstance(value, Mapping):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(copied, value)) if isinstance(value, tuple) else [copied(part) for part in value]
    return value
