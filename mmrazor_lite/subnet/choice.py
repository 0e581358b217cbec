"""One decision: a name and its ordered candidates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, short

Value = int | float | str

KINDS = ("width", "operator", "value", "depth", "resolution")

_SHOWN = 8  # candidates listed in an error before the list is shortened


@dataclass(frozen=True)
class Choice:
    """One decision of a search space.

    Args:
        name: Unique within a space; for widths usually the module whose output it sets.
        candidates: At least one; plain numbers or names, no duplicates. All kinds but ``operator`` list them from
            the smallest to the largest; the last one belongs to the max subnet, the first to the min subnet. Widths
            are whole numbers of channels, and their last candidate is the full width. A ``range`` stays a range.
        kind: One of :data:`KINDS`.
        active_if: ``(parent, values)``: this choice matters only while choice ``parent`` holds one of ``values``
            (and matters itself). ``None``: it always matters.

    Raises:
        UserError: The candidates are empty, repeated, out of order, or not of the type that the kind asks for.
    """

    name: str
    candidates: Sequence[Value]
    kind: str = "width"
    active_if: tuple[str, tuple[Value, ...]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UserError(f"the name of a choice must be text, got {self.name!r}")
        if self.kind not in KINDS:
            raise UserError(f"choice '{self.name}': unknown kind {self.kind!r} (allowed: {', '.join(KINDS)})")
        candidates = self.candidates
        if not isinstance(candidates, range):
            candidates = tuple(plain_scalar(value) for value in candidates)
        problem = _problem(candidates, self.kind)
        if problem:
            raise UserError(f"choice '{self.name}': {problem}, got {show(candidates)}")
        object.__setattr__(self, "candidates", candidates)
        if self.active_if is not None:
            parent, values = self.active_if
            object.__setattr__(self, "active_if", (parent, tuple(plain_scalar(value) for value in values)))

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.candidates) == 1

    def index(self, value: Any, where: str = "") -> int:
        """Return the position of ``value`` among the candidates.

        Raises:
            UserError: Not a candidate; says the choice, the value and what is allowed, after ``where``.
        """
        problem = self._mismatch(value)
        if problem is None:
            try:
                return self.candidates.index(value)
            except ValueError:
                problem = "is not a candidate"
        raise UserError(f"{at(where)}choice '{self.name}': {short(value)} {problem} (allowed: {self.allowed})")

    @property
    def allowed(self) -> str:
        """The candidates in a few words, for messages."""
        return show(self.candidates)

    def _mismatch(self, value: Any) -> str | None:
        names = isinstance(self.candidates[0], str)
        if names:
            return None if isinstance(value, str) else "is not a name"
        if isinstance(value, str):
            return "is text, not a number"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "is not a number"
        if isinstance(value, float) and all(isinstance(candidate, int) for candidate in self.candidates):
            return "is not a whole number"
        if value > self.candidates[-1] and self.kind != "operator":
            return f"is above the maximum {self.candidates[-1]}"
        return None


@dataclass(frozen=True)
class LayerWidth:
    """What sets the number of output channels of one layer.

    Args:
        choice: Name of the width choice, or ``None`` when the layer always stays at full width. When the full width
            of the layer is k times the largest candidate of the choice, the layer is always k times as wide.
        full: Output channels of the layer in the max subnet.
    """

    choice: str | None
    full: int


@dataclass(frozen=True)
class Stage:
    """Blocks in a row, of which only the first ones may run.

    Args:
        name: Its module, such as ``backbone.layers.1``.
        blocks: The modules of its blocks, in order.
        depth: Name of the choice how many of them run; None where all always do.
    """

    name: str
    blocks: tuple[str, ...]
    depth: str | None = None


def plain_scalar(value: Any) -> Any:
    """Turn a numpy number or string into the Python one; leave everything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def show(candidates: Sequence[Value]) -> str:
    """Candidates as a short list: ``8, 16, 24`` or ``8..48 step 8``, with the middle left out when long."""
    if isinstance(candidates, range) and len(candidates) > 1:
        step = f" step {candidates.step}" if candidates.step != 1 else ""
        return f"{candidates[0]}..{candidates[-1]}{step}"
    if len(candidates) > _SHOWN:
        half = _SHOWN // 2
        return f"{show(candidates[:half])}, ..., {show(candidates[-half:])}"
    return ", ".join(str(value) for value in candidates) or "nothing"


def at(where: str) -> str:
    """``where`` as the beginning of a message."""
    return f"{where}: " if where else ""


def _problem(candidates: Sequence[Value], kind: str) -> str | None:
    if not candidates:
        return "at least one candidate is needed"
    names = [isinstance(value, str) for value in candidates]
    if any(names) and not all(names):
        return "candidates must be all names or all numbers"
    if kind in ("width", "depth", "resolution") and not all(type(value) is int and value >= 0 for value in candidates):
        return f"candidates of kind {kind} must be whole numbers"
    if kind == "width" and candidates[0] == 0:
        return "a width must be at least 1"
    if not names[0]:
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in candidates):
            return "candidates must be plain numbers or names"
        if not all(math.isfinite(value) for value in candidates):
            return "candidates must be finite"
        if kind != "operator" and any(low >= high for low, high in itertools.pairwise(candidates)):
            return "candidates must be different and in ascending order"
    if len(set(candidates)) != len(candidates):
        return "candidates must be different"
    return None
