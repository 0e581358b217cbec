"""What a slimmed network may cost, or must still be able to: as people write it, and as numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.search.cost import MEASURED
from mmrazor_lite.subnet.budget import RESOURCE_UNITS, parse_budget

_UNIT = re.compile(r"[\d.eE+-]\s*([A-Za-z]+)\s*$")
_NUMBER = re.compile(r"\+?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_PERCENT = re.compile(r"(\d+\.?\d*|\.\d+)\s*%?")


@dataclass(frozen=True)
class Budget:
    """Upper limits.

    Attributes:
        counted: Resource -> limit: macs, flops, params, bytes of memory.
        latency: As it was given; a share is of what the original takes, which is measured.
        asked: In words.
    """

    counted: Mapping[str, float] = field(default_factory=dict)
    latency: int | float | str | None = None
    asked: str = ""

    def milliseconds(self, original: float) -> float:
        """The limit of the latency, where the original takes so many milliseconds."""
        return parse_budget(self.latency, MEASURED, original)


@dataclass(frozen=True)
class Floor:
    """What must stay: the accuracy in percent, or how many points of it may go at most."""

    accuracy: float | None = None
    drop: float | None = None

    def least(self, original: float) -> float:
        """Percent that a network must reach, where the original has so many."""
        return self.accuracy if self.accuracy is not None else original - self.drop

    @property
    def asked(self) -> str:
        return f"accuracy >= {self.accuracy:g}%" if self.accuracy is not None else f"drop <= {self.drop:g} points"


def read_goal(budget: Any, min_accuracy: Any, max_drop: Any, full: Mapping[str, float]) -> Budget | Floor:
    """The one thing that is asked for.

    Args:
        budget: ``'50%'`` is of the macs; a unit says the resource: ``'0.3G'`` macs, ``'12ms'``, ``'40MB'``; a bare
            number is in millions of macs. Or a dict of several: ``dict(params='2M', latency='70%')``.
        min_accuracy: Percent: ``'90%'`` or 90.
        max_drop: Points of a percent: 1.0.
        full: What the network costs, by resource.

    Raises:
        UserError: None of the three, or two; what is no budget; one that the network meets as it is.
    """
    given = {"budget": budget, "min_accuracy": min_accuracy, "max_drop": max_drop}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        found = ", ".join(given) or "none"
        raise UserError(f"slim: give one of budget='50%', min_accuracy='90%' and max_drop=1.0, found {found}")
    if budget is not None:
        return _budget(budget, full)
    if min_accuracy is not None:
        return Floor(accuracy=_percent("min_accuracy", min_accuracy, "'90%'"))
    return Floor(drop=_percent("max_drop", max_drop, "1.0 (points)"))


def _budget(value: Any, full: Mapping[str, float]) -> Budget:
    parts = dict(value) if isinstance(value, Mapping) else {_resource(value): value}
    parts = {name: plain_number(part) for name, part in parts.items()}
    if not parts:
        raise UserError("budget={} says nothing: give '50%', or dict(params='2M', latency='70%')")
    counted = {}
    for name, part in parts.items():
        if name not in RESOURCE_UNITS:
            allowed = ", ".join(RESOURCE_UNITS)
            raise UserError(f"budget: unknown resource {short(name)}{nearest(str(name), RESOURCE_UNITS)} ({allowed})")
        _not_a_fraction(name, part)
        limit = parse_budget(part, name, full.get(name, 1.0))  # of the latency, to see that it is a budget
        if name != MEASURED:
            counted[name] = limit
    latency = parts.get(MEASURED)
    if latency is None and all(limit >= full[name] for name, limit in counted.items()):
        costs = ", ".join(f"{name} {full[name]:,.0f} of {limit:,.0f}" for name, limit in counted.items())
        raise UserError(f"budget {short(value)}: the network meets it as it is ({costs}); give a smaller one")
    return Budget(counted, latency, ", ".join(f"{name} {part}" for name, part in parts.items()))


def plain_number(value: Any) -> Any:
    """A number of numpy or torch as one of Python; anything else as it is."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)) and np.prod(value.shape, dtype=int) == 1:
        return value.item()
    return value


def _resource(value: Any) -> str:
    """What a budget without a name is of, by its unit."""
    found = _UNIT.search(value) if isinstance(value, str) else None
    unit = found[1].lower() if found else ""
    if unit in RESOURCE_UNITS["macs"][0]:
        return "macs"
    known = (name for name in (MEASURED, "memory") if unit in RESOURCE_UNITS[name][0])
    return next(known, "macs")


def _not_a_fraction(name: str, value: Any) -> None:
    """Refuse a number below 1 without a unit: it is a share for most who write it."""
    bare = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else type(value) is float
    number = float(value) if bare else 0.0
    if 0 < number < 1 and name != MEASURED:
        unit = RESOURCE_UNITS[name][1]
        raise UserError(
            f"budget {name}={short(value)}: write a share as '{number * 100:g}%', an amount as '{number:g}{unit}'"
        )


def _percent(name: str, value: Any, example: str) -> float:
    """Percent, as a number or text."""
    value = plain_number(value)
    text = value if isinstance(value, str) else f"{value!r}%" if type(value) in (int, float) else ""
    found = _PERCENT.fullmatch(text.strip())
    number = float(found[1]) if found else -1.0
    if not 0 < number <= 100:
        raise UserError(f"{name}={short(value)}: give percent above 0 and up to 100, such as {example}")
    if name == "min_accuracy" and "%" not in str(value) and number <= 1:
        raise UserError(f"min_accuracy={value!r}: percent are wanted, write '{number * 100:g}%'")
    return number
