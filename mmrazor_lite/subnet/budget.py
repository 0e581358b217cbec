"""Budgets as people write them: ``300``, ``'300M'``, ``'20ms'``, ``'50%'``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from mmrazor_lite.errors import UserError, nearest, short

_COUNT = {"": 1e6, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BYTES = {
    "": 1e6, "b": 1.0, "k": 1e3, "kb": 1e3, "kib": 2.0**10, "m": 1e6, "mb": 1e6, "mib": 2.0**20,
    "g": 1e9, "gb": 1e9, "gib": 2.0**30,
}  # fmt: skip
_TIME = {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3}

# Resource -> (factor of each unit, the unit that a bare number has, an example).
RESOURCE_UNITS: dict[str, tuple[dict[str, float], str, str]] = {
    "macs": (_COUNT, "M", "'300M', '0.3G' or '50%'"),
    "flops": (_COUNT, "M", "'300M', '0.3G' or '50%'"),
    "params": (_COUNT, "M", "'5.8M', '800K' or '50%'"),
    "memory": (_BYTES, "MB", "'40MB', '0.5GB' or '50%'"),
    "latency": (_TIME, "ms", "'20ms' or '50%'"),
}

_PATTERN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z%]*)")
_TOO_LARGE = 1e5


def parse_budget(value: int | float | str, resource: str, maximum: float | None = None) -> float:
    """Turn a budget of a config into the number that costs are compared with.

    Args:
        value: A bare number is in millions for macs, flops and params, in MB (1e6 bytes) for memory, and in
            milliseconds for latency. Text may carry a unit (K, M, G, T; B, KB, MB, GB and KiB, MiB, GiB; us, ms, s;
            capitals do not matter) or ``%`` of the max subnet.
        resource: A key of :data:`RESOURCE_UNITS`.
        maximum: What the max subnet costs, in the unit of the result; needed for ``%`` alone.

    Returns:
        Plain count of macs, flops or params; bytes of memory; milliseconds of latency.

    Raises:
        UserError: Unknown resource, text that is no budget, a unit of another resource, zero, negative or not finite,
            or a bare number of 1e5 and more, which is nearly always an unscaled one.
    """
    if resource not in RESOURCE_UNITS:
        options = ", ".join(RESOURCE_UNITS)
        raise UserError(f"unknown resource '{resource}'{nearest(resource, RESOURCE_UNITS)} (allowed: {options})")
    factors, bare, example = RESOURCE_UNITS[resource]
    number, unit = _split(value, resource, example)
    if not (math.isfinite(number) and number > 0):
        raise UserError(f"{resource} budget {short(value)} must be a positive number such as {example}")
    if unit == "%":
        if maximum is None:
            raise UserError(f"{resource} budget {short(value)}: what the max subnet costs is not known; give a number")
        return number / 100 * float(maximum)
    if unit not in factors:
        raise UserError(f"{resource} budget {short(value)}: unknown unit; write it such as {example}")
    if unit == "" and number >= _TOO_LARGE:
        raise UserError(
            f"{resource} budget {short(value)}: a bare number is in {bare}; if you mean {_meant(number, resource)}"
        )
    result = number * factors[unit]
    if not math.isfinite(result):
        raise UserError(f"{resource} budget {short(value)} is too large; write it such as {example}")
    return result


def parse_range(value: Any, resource: str, maximum: float | None = None) -> tuple[float, float]:
    """Turn a constraint of a config into the lowest and the highest cost that it allows, both included.

    Args:
        value: ``(low, high)``, each as :func:`parse_budget` takes it; ``None`` as an end is no bound, and so is a low
            end of 0. One number or text v is ``(0, v)``.
        resource: A key of :data:`RESOURCE_UNITS`.
        maximum: As for :func:`parse_budget`.

    Raises:
        UserError: As :func:`parse_budget`; not two ends, or a low end above the high one.
    """
    several = isinstance(value, Sequence) and not isinstance(value, str)
    ends = list(value) if several else [0, value]
    if len(ends) != 2:
        example = "(200, 330) or ('200M', '50%')" if resource != "latency" else "(0, 20)"
        raise UserError(f"{resource} constraint {short(value)} must be one number or (low, high) such as {example}")
    low = 0.0 if ends[0] is None or _is_zero(ends[0]) else parse_budget(ends[0], resource, maximum)
    high = math.inf if ends[1] is None else parse_budget(ends[1], resource, maximum)
    if low > high:
        raise UserError(f"{resource} constraint {short(value)}: the low end is above the high one; swap them")
    return low, high


def _is_zero(value: Any) -> bool:
    return not isinstance(value, bool) and (value == 0 or (isinstance(value, str) and value.strip() == "0"))


def _split(value: int | float | str, resource: str, example: str) -> tuple[float, str]:
    if isinstance(value, str):
        match = _PATTERN.fullmatch(value.strip())
        if match:
            return float(match[1]), match[2].lower()
    elif not isinstance(value, bool):
        try:
            return float(value), ""
        except (TypeError, ValueError):
            pass
        except OverflowError:
            return math.inf, ""
    raise UserError(f"{resource} budget {short(value)} is not a budget; write a number or {example}")


def _meant(number: float, resource: str) -> str:
    _, bare, _ = RESOURCE_UNITS[resource]
    if resource == "latency":
        return f"{number:g} ms, write '{number / 1e3:g}s'"
    unit = "bytes" if resource == "memory" else resource
    return f"{number:g} {unit}, write '{number / 1e6:g}{bare}'"
