"""A walk through a config."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any


def mappings(node: Any, where: str = "", free: Collection[str] = ()) -> Iterator[tuple[str, Mapping]]:
    """Yield every mapping in ``node`` and its key, the outer ones first; the whole config (``where=''``) is none.

    Args:
        node: A config or a part of one.
        where: Its key.
        free: Keys that are not looked into.
    """
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    if isinstance(node, Mapping) and where:
        yield where, node
    for key, value in items:
        if key not in free:
            yield from mappings(value, f"{where}.{key}" if where else str(key), free)
