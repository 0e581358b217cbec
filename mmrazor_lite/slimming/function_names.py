"""Names of functions that are the same in another process, and others where their code is: for runs that go on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from types import CodeType
from typing import Any

from torch import Tensor

from .kept_steps import digest_of


def named(function: Any) -> str:
    """The name of a function and a digest of its code; of a partial one its parts; of another object its class.

    What a function closes over is not looked at.
    """
    if isinstance(function, partial):
        given = [_told(value) for value in function.args]
        given += [f"{key}={_told(value)}" for key, value in sorted(function.keywords.items())]
        return f"partial({', '.join([named(function.func), *given])})"
    function = getattr(function, "__func__", function)  # of a method
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
    defaults = _told([*(function.__defaults__ or ()), function.__kwdefaults__ or {}])
    digest = hashlib.sha256("\n".join([*_parts(code), defaults]).encode()).hexdigest()
    return f"{function.__qualname__}:{digest[:12]}"


def _parts(code: CodeType) -> Iterator[str]:
    """What a code does, without where it stands."""
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_freevars))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        else:
            yield _told(constant)


def _told(value: Any) -> str:
    """A value as a text that is the same in another process."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes) or value is ...:
        return repr(value)
    if isinstance(value, Tensor):
        return digest_of([value])
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{_told(key)}: {_told(part)}' for key, part in value.items()))}}}"
    if isinstance(value, set | frozenset):  # whose order depends on the process
        return f"{{{', '.join(sorted(map(_told, value)))}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_told, value))}]"
    return named(value)
