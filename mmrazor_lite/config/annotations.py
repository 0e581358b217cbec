"""Whether a value of a config is of a type that the signature of what it builds asks for."""

from __future__ import annotations

import collections.abc
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import PurePath
from typing import Any

from torch import nn

from . import signatures

_ANY = inspect.Parameter.empty
_SEQUENCES = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_MAPPINGS = (dict, Mapping, collections.abc.MutableMapping)
_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "text", type(None): "None"}


def parameters_of(built: Callable) -> Mapping[str, tuple[Any, Any]]:
    """Map the parameters of a class or function to (annotation, default), following ``**kwargs`` to base classes."""
    return _parameters(built) if isinstance(built, collections.abc.Hashable) else {}


@cache
def _parameters(built: Callable) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for source in signatures.sources(built):
        try:
            parameters = inspect.signature(source).parameters.values()
            hints = typing.get_type_hints(source)
        except Exception:  # names that exist for type checkers only, builtins without a signature
            return found
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, (hints.get(parameter.name, _ANY), parameter.default))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def fits(value: Any, annotation: Any, default: Any = _ANY) -> bool:
    """Whether ``value`` may be what ``annotation`` says; what is not said in plain types is let through.

    As configs are written: a list for a tuple, a dict for the object that is built from it, a whole number for any
    number, and whatever type the default has, as signatures are not always right about that.
    """
    if annotation is _ANY or (type(value) is type(default) and value.__hash__ and not isinstance(value, tuple)):
        return True
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(annotation))
    if origin is typing.Literal:
        return value in typing.get_args(annotation)
    kind = _plain(origin or annotation)
    if kind in (None, type(None)):
        return value is None
    if not isinstance(kind, type) or kind is Any:
        return True  # type variables and the like too
    return _is(value, kind, typing.get_args(annotation))


def _is(value: Any, kind: type, arguments: tuple) -> bool:
    if kind is bool:
        return isinstance(value, bool) or (type(value) is int and value in (0, 1))
    if kind in (int, float):
        return not isinstance(value, bool) and isinstance(value, (int, kind))
    if kind is str:
        return isinstance(value, str | PurePath)
    if kind in _SEQUENCES:
        items = tuple(argument for argument in arguments if argument is not ...)
        return isinstance(value, list | tuple | set | range) and (
            not items or all(any(fits(part, item) for item in items) for part in value)
        )
    if kind in _MAPPINGS:
        return isinstance(value, Mapping)
    if value is None or isinstance(value, int | float | list | tuple):
        return isinstance(value, kind)  # numbers and lists build no object
    return not isinstance(value, str) or not issubclass(kind, nn.Module)


def _plain(kind: Any) -> Any:
    """``float`` for the abstract kinds of numbers."""
    return float if kind in (numbers.Number, numbers.Real) else kind


def may_fit(value: Any, annotation: Any, default: Any = _ANY) -> bool:
    """Whether ``value`` may be what ``annotation`` says, as far as signatures of others can be believed.

    They say ``int`` and mean ``int or a list`` as often as not. But text is never right where they name numbers, lists
    and dicts only, nor anything but a flag where they name a flag.
    """
    if annotation is _ANY or isinstance(default, str):
        return True
    if isinstance(value, str) or annotation is bool:
        return fits(value, annotation, default)
    if isinstance(value, list | tuple) and value and all(isinstance(part, str) for part in value):
        items = [argument for argument in _items(annotation) if argument is not ...]
        return not items or any(fits(part, item) for part in value for item in items)
    return True


def _items(annotation: Any) -> list[Any]:
    """What the elements of a sequence may be, over all options of a union."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [item for option in arguments for item in _items(option)]
    return list(arguments) if typing.get_origin(annotation) in _SEQUENCES else []


def said(annotation: Any) -> str:
    """The types of an annotation in words, for messages."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        words = dict.fromkeys(said(option) for option in typing.get_args(annotation))
        return " or ".join(word for word in words if "a dict" not in words or not word.startswith("a dict that"))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(annotation)))
    kind = _plain(origin or annotation)
    if kind in _NAMES:
        return _NAMES[kind]
    if kind in _SEQUENCES:
        items = [argument for argument in typing.get_args(annotation) if argument is not ...]
        return f"a list ({said(items[0])} each)" if items else "a list"
    return "a dict" if kind in _MAPPINGS else f"a dict that builds a {getattr(kind, '__name__', kind)}"
