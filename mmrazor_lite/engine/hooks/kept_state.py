"""What a hook offers whose state a checkpoint holds, such as the best score so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class KeepsState(Protocol):
    """A hook that a resumed run goes on with as it was."""

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint; empty where there is nothing to keep."""

    def load_state(self, state: Mapping[str, Any], where: str) -> None:
        """Take what :meth:`state` gave; ``where`` is the file, for errors."""
