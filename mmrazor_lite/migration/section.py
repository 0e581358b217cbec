"""A section of a config that is taken apart key by key: what nobody has taken is told in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import nearest, short

from .told import Told


class Section:
    """A section, and what becomes of its keys.

    Args:
        value: The section; None is an empty one, anything but a mapping is a problem.
        where: Its key, as ``--cfg-options`` has it.
        told: Gets what is said.
    """

    def __init__(self, value: Any, where: str, told: Told) -> None:
        self.where, self.told = where, told
        self._known: set[str] = set()
        self._left: dict[str, Any] = {}
        if isinstance(value, Mapping):
            self._left = dict(value)
        elif value is not None:
            told.problem(f"{where}={short(value)}: give a dict")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it."""
        return not self._left

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def peek(self, key: str) -> Any:
        """Return the value of a key, which is not dealt with by that."""
        return self._left.get(key)

    def holds(self, key: str) -> bool:
        """Whether there is a value for a key; None is none."""
        return self._left.get(key) is not None

    def place(self, key: str | int) -> str:
        """The whole name of a key."""
        return f"{self.where}.{key}" if self.where else str(key)

    def take(self, key: str, default: Any = None, to: str | None = None) -> Any:
        """Return the value of a key, which is dealt with then; ``to`` says what it is called here."""
        self._known.add(key)
        if key not in self._left:
            return default
        if to is not None:
            self.told.change(self.place(key), to)
        return self._left.pop(key)

    def kind(self) -> Any:
        """Return ``type``: the name of a class, or the class; None where there is none, an empty text for all else.

        Names of mmcls need no prefix.
        """
        value = self.take("type")
        if isinstance(value, str):
            return value.removeprefix("mmcls.")
        if value is None or callable(value):
            return value
        self.told.problem(f"{self.place('type')}={short(value)}: give the name of a class")
        return ""

    def items(self, key: str) -> list[Any]:
        """Return the parts of a list under a key, which is dealt with then; none where there is no list."""
        value = self.take(key)
        if isinstance(value, list | tuple):
            return list(value)
        if value is not None:
            self.told.problem(f"{self.place(key)}={short(value)}: give a list")
        return []

    def section(self, key: str) -> Section:
        """Return the section under a key, which is dealt with then."""
        return Section(self.take(key), self.place(key), self.told)

    def drop(self, why: str, *keys: str) -> None:
        """Leave out keys that change no result; ``why`` says what does their work here."""
        for key in keys:
            if self.take(key) is not None:
                self.told.change(self.place(key), why)

    def refuse(self, key: str, why: str, unless: Any = None) -> None:
        """Tell a key that cannot be translated, unless it has a value that asks for nothing."""
        value = self.take(key)
        if value is not None and value != unless:
            self.told.problem(f"{self.place(key)}={short(value)}: {why}")

    def rest(self) -> dict[str, Any]:
        """Return the keys that are left, as they are; all are dealt with then."""
        left, self._left = self._left, {}
        return left

    def finish(self) -> None:
        """Tell the keys that are left: nothing here reads them."""
        for key in self.rest():
            allowed = ", ".join(sorted(self._known))
            self.told.problem(f"{self.place(key)}: unknown key{nearest(str(key), self._known)}; known are {allowed}")
