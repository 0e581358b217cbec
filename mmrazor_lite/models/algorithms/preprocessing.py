"""What is done to images before a network sees them: part of what its weights mean, and carried beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

TOLERANCE = 0.02  # of the standard deviation: what rounding a mean or taking it over another set of images makes
_ORDERS = {True: "swapped (to_rgb=True)", False: "as they are read (to_rgb=False)"}


def preprocessing(preprocessor: nn.Module | None) -> dict[str, Any]:
    """What a data preprocessor does to every image, as plain data: ``mean`` and ``std`` by channel, and ``to_rgb``.

    What it does not say, as one of the user's own, is left out. Without a normalisation, mean is 0 and std is 1.
    """
    found: dict[str, Any] = {}
    if hasattr(preprocessor, "_enable_normalize"):
        for name, none in (("mean", 0.0), ("std", 1.0)):
            value = getattr(preprocessor, name, None) if preprocessor._enable_normalize else None
            found[name] = [float(v) for v in value.flatten()] if isinstance(value, Tensor) else [none]
    for name in ("to_rgb", "_channel_conversion"):
        if isinstance(getattr(preprocessor, name, None), bool):
            found["to_rgb"] = getattr(preprocessor, name)
    return found


def otherwise(theirs: Any, mine: Mapping[str, Any]) -> str | None:
    """In what the preprocessing of a file differs, in words; None where it does not, or where one says nothing.

    Args:
        theirs: :func:`preprocessing` of a file.
        mine: The same of the config.
    """
    if not isinstance(theirs, Mapping):
        return None
    pairs = {key: (_numbers(theirs.get(key)), _numbers(mine.get(key))) for key in ("mean", "std")}
    if all(there and here for there, here in pairs.values()):
        scale = max(abs(value) for value in pairs["std"][1]) or 1.0
        for key, (there, here) in pairs.items():
            if not _close(there, here, TOLERANCE * scale):
                return f"{key} is {_shown(there)} in the file, {_shown(here)} in the config"
    orders = [side.get("to_rgb") for side in (theirs, mine)]
    if all(isinstance(order, bool) for order in orders) and orders[0] != orders[1]:
        return f"channels are {_ORDERS[orders[0]]} in the file, {_ORDERS[orders[1]]} in the config"
    return None


def _numbers(value: Any) -> list[float]:
    good = isinstance(value, Sequence) and not isinstance(value, str) and all(type(v) in (int, float) for v in value)
    return list(value) if good else []


def _close(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    count = max(len(a), len(b))
    if len(a) not in (1, count) or len(b) not in (1, count):
        return False
    wide = [list(side) * (count if len(side) == 1 else 1) for side in (a, b)]
    return all(abs(x - y) <= tolerance for x, y in zip(*wide, strict=True))


def _shown(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values[:4])})"
