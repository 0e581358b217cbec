"""The rows that a search has scored, in their order, and a quick way to tell new ones from them.

Shapes: n rows, D choices.
"""

from __future__ import annotations

import numpy as np


class Visited:
    """Rows that grow by a batch at a time.

    Args:
        rows: The first ones, (n, D) int64.

    Attributes:
        keys: One key for each row, see :func:`keys_of`.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._buffer, self._number = rows, len(rows)
        self.keys = set(keys_of(rows))

    def __len__(self) -> int:
        return self._number

    @property
    def rows(self) -> np.ndarray:
        """All of them, (n, D), in the order in which they came; a view."""
        return self._buffer[: self._number]

    def add(self, rows: np.ndarray) -> None:
        """Append rows (n, D)."""
        end = self._number + len(rows)
        if end > len(self._buffer):  # twice the room, so that many batches cost no more than their rows
            room = np.zeros((2 * end, rows.shape[1]), dtype=np.int64)
            room[: self._number] = self.rows
            self._buffer = room
        self._buffer[self._number : end] = rows
        self._number = end
        self.keys.update(keys_of(rows))


def keys_of(rows: np.ndarray) -> list[bytes]:
    """The bytes of each row of (n, D): equal for equal rows only."""
    rows = np.ascontiguousarray(rows)
    if not rows.size:
        return [b""] * len(rows)
    return rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel().tolist()
