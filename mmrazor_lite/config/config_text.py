"""A config as the text of a Python file, as people write one: ``dict(...)``, a section each, lines that fit."""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import UserError, short

_WIDTH = 110
_ORDER = (
    *("custom_imports", "default_scope", "model", "model_wrapper_cfg", "data_root", "data_preprocessor"),
    *(f"{part}_{kind}" for kind in ("dataloader", "evaluator") for part in ("train", "val", "test")),
    *("train_cfg", "val_cfg", "test_cfg", "optim_wrapper", "param_scheduler", "auto_scale_lr", "search_cfg"),
    *("default_hooks", "custom_hooks"),
)


def as_text(config: Mapping[str, Any]) -> str:
    """Return the text of a config whose values are plain data.

    Raises:
        UserError: One of its values is none, such as a class.
    """
    keys = sorted(config, key=lambda key: (_ORDER.index(key) if key in _ORDER else len(_ORDER), key))
    return "".join(f"{key} = {_written(config[key], 0, len(key) + 3, key)}\n" for key in keys)


def _written(value: Any, indent: int, before: int, where: str) -> str:
    """The text of a value, on one line where that fits; ``before`` are the characters in front of it."""
    line = _inline(value, where)
    if indent + before + len(line) <= _WIDTH or not isinstance(value, Mapping | list | tuple) or not value:
        return line
    opening, closing = line[: 5 if line.startswith("dict(") else 1], line[-1]
    inner, parts = " " * (indent + 4), []
    if isinstance(value, Mapping):
        for key, part in value.items():
            name = f"{key}=" if opening == "dict(" else f"{_inline(key, where)}: "
            parts.append(f"{name}{_written(part, indent + 4, len(name) + 1, f'{where}.{key}')}")
    else:
        parts = [_written(part, indent + 4, 1, f"{where}.{index}") for index, part in enumerate(value)]
    lines = "".join(f"{inner}{part},\n" for part in parts)
    return f"{opening}\n{lines}{' ' * indent}{closing}"


def _inline(value: Any, where: str) -> str:
    if isinstance(value, Mapping):
        parts = {key: _inline(part, f"{where}.{key}") for key, part in value.items()}
        if all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value):
            return f"dict({', '.join(f'{key}={part}' for key, part in parts.items())})"
        return f"{{{', '.join(f'{_inline(key, where)}: {part}' for key, part in parts.items())}}}"
    if isinstance(value, list | tuple):
        line = ", ".join(_inline(part, f"{where}.{index}") for index, part in enumerate(value))
        return f"[{line}]" if isinstance(value, list) else f"({line}{',' * (len(value) == 1)})"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise UserError(
        f"{where} is {short(value)}, a {type(value).__name__}: only plain values can be written to a config"
    )
