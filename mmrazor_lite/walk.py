"""A walk through a config."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any


def values(root: Any, free: Collection[str] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value in ``root`` and itself, with the keys that lead to it, the outer ones first; no recursion.

    What lies below a value is looked up after it was yielded.

    Args:
        root: A config or a part of one.
        free: Keys that are not looked into.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    while waiting:
        path, node = waiting.pop()
        yield path, node
        items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
        waiting += [((*path, str(key)), value) for key, value in reversed(list(items)) if key not in free]


def kind_of(section: Any) -> str:
    """The bare name of the class that a section builds; empty where it says none."""
    kind = section.get("type") if isinstance(section, Mapping) else None
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).rpartition(".")[2]


def mappings(root: Any, where: str = "", free: Collection[str] = ()) -> Iterator[tuple[str, Mapping]]:
    """Yield every mapping in ``root`` and its key below ``where``; the whole config (``where=''``) is none."""
    for path, node in values(root, free):
        key = ".".join((where, *path) if where else path)
        if key and isinstance(node, Mapping):
            yield key, node
