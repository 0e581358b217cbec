"""In what two nested settings differ, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(then: Any, now: Any, inside_lists: bool = False) -> dict[str, tuple[Any, Any]]:
    """Map the keys whose values differ, joined by dots, to what they were and are; None is none.

    Args:
        then, now: Nested mappings of plain data.
        inside_lists: Whether the elements of lists are compared one by one.
    """
    before, after = _flat(then, inside_lists), _flat(now, inside_lists)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return {key: (before.get(key), after.get(key)) for key in keys}


def _flat(node: Any, lists: bool, prefix: str = "") -> dict[str, Any]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if lists and isinstance(node, list) else None
    if items is None or not node:
        return {prefix: node}
    parts = (_flat(part, lists, f"{prefix}.{name}".lstrip(".")) for name, part in items)
    return {key: value for part in parts for key, value in part.items()}
