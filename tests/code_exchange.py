"""Gives functions that are loaded the code that they would have, had their file been another one when it was imported.

What is done at import, such as a constant, is not done again: :func:`exchange` says so, and nothing is changed.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import CodeType, FunctionType

OPTIMIZED = 0x1  # inspect.CO_OPTIMIZED: a function, and neither a module nor the body of a class


def exchange(path: str, before: str, after: str) -> bool:
    """Give the functions of the file at ``path`` the code of ``after``, where it differs; whether that is all of it."""
    pairs = list(_pairs(compile(before, path, "exec"), compile(after, path, "exec")))
    if None in pairs:
        return False
    codes = {(old.co_name, old.co_firstlineno): (old, new) for old, new in pairs}
    if any(old.co_freevars != new.co_freevars for old, new in codes.values()):
        return False
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename == path:
            pair = codes.get((function.__code__.co_name, function.__code__.co_firstlineno))
            if pair is not None:
                function.__code__ = pair[1]
    return True


def _pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType] | None]:
    """The functions that differ, before and after; None where what is outside of functions differs."""
    inner = [[part for part in code.co_consts if isinstance(part, CodeType)] for code in (old, new)]
    if old.co_flags & OPTIMIZED:
        if _text(old) != _text(new):
            yield old, new
    elif len(inner[0]) != len(inner[1]) or _text(old, deep=False) != _text(new, deep=False):
        yield None
        return
    for pair in zip(*inner, strict=False):
        yield from _pairs(*pair)


def _text(code: CodeType, deep: bool = True) -> tuple:
    """What a code does, wherever it stands in its file."""
    parts = (_text(part) if deep else None for part in code.co_consts if isinstance(part, CodeType))
    plain = [repr(part) for part in code.co_consts if not isinstance(part, CodeType)]
    return code.co_code, code.co_names, code.co_varnames, plain, [*parts]
