"""The names that a class or function of a config takes, seen in its signature and in what it does with ``**kwargs``."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

_READERS = ("pop", "get", "setdefault")  # methods of a dict that name the key they read
_LOOKING = ("bool", "len")  # functions that only look at how many there are


@cache
def argument_names(built: Callable) -> frozenset[str] | None:
    """Return the names that ``built`` takes; None where any name may be one.

    ``**kwargs`` that an ``__init__`` hands to that of its base class are the base's names. What it hands on to
    something else, or keeps, may be called anything; what it never reads takes no name.
    """
    names: set[str] = set()
    taken: set[str] = set()  # passed on by a subclass: given twice, they would be refused
    for source in sources(built):
        found = _parameters(source)
        if found is None:
            return None
        named, rest = found
        names |= named - taken - {"self"}
        if rest is None:
            return frozenset(names)
        use = _use(source, rest) if inspect.isclass(built) else None
        if use is None:
            return None
        names |= use.read
        taken |= use.given
        if not use.to_base:
            return frozenset(names)
    return frozenset(names)


def own_names(built: type) -> frozenset[str]:
    """Return the names that the signatures of ``built`` and of its bases spell out."""
    found = [_parameters(source) for source in sources(built)]
    return frozenset().union(*(part[0] for part in found if part)) - {"self"}


def sources(built: Callable) -> Iterator[Callable]:
    """What has the names: a function, or the ``__init__`` of a class and of its bases, in order."""
    from torch import nn

    for part in built.__mro__ if inspect.isclass(built) else [built]:
        if part in (object, nn.Module):
            return  # takes nothing
        source = part.__dict__.get("__init__") if isinstance(part, type) else part
        if source is not None:
            yield source


def _parameters(source: Callable) -> tuple[set[str], str | None] | None:
    """Return the named parameters and the name of ``**kwargs``; None where the signature cannot be seen."""
    try:
        parameters = inspect.signature(source).parameters.values()
    except (TypeError, ValueError):
        return None
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named, next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)


class _Use:
    """What a function does with its ``**kwargs``."""

    def __init__(self) -> None:
        self.to_base = False
        self.read: set[str] = set()
        self.given: set[str] = set()


def _source(function: Callable) -> str:
    """The text of a function; Python 3.13 gives that of ``python -c`` for whatever was made from a text."""
    if getattr(getattr(function, "__code__", None), "co_filename", "") == "<string>":
        raise OSError("made from a text that is not kept")
    return inspect.getsource(function)


def _use(source: Callable, rest: str) -> _Use | None:
    """Return what ``source`` does with its ``**rest``; None where they may go anywhere."""
    try:
        tree = ast.parse(textwrap.dedent(_source(source)))
    except (OSError, TypeError, SyntaxError):
        return None
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    use = _Use()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "locals":
            return None
        reads = isinstance(node, ast.Name) and node.id == rest and isinstance(node.ctx, ast.Load)
        if reads and not _follow(node, parents, use):
            return None
    return use


def _follow(node: ast.Name, parents: dict[ast.AST, ast.AST], use: _Use) -> bool:
    """Enter one place that reads ``**kwargs`` into ``use``; tell whether it can be followed."""
    parent = parents[node]
    call = parents.get(parent)
    if isinstance(parent, ast.keyword) and parent.arg is None and isinstance(call, ast.Call):
        if not _is_base_init(call.func):
            return False
        use.to_base = True
        use.given |= {keyword.arg for keyword in call.keywords if keyword.arg is not None}
        return True
    if isinstance(parent, ast.Attribute) and parent.attr in _READERS and isinstance(call, ast.Call):
        return bool(call.args) and _enter(call.args[0], use)
    if isinstance(parent, ast.Subscript) and parent.value is node:
        return _enter(parent.slice, use)
    if isinstance(parent, ast.Compare) and node in parent.comparators:
        return _enter(parent.left, use)
    if isinstance(parent, ast.Dict) and isinstance(call, ast.Assign):  # kwargs = {"name": value, **kwargs}
        return [target.id for target in call.targets if isinstance(target, ast.Name)] == [node.id]
    looks = isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id in _LOOKING
    return looks or (isinstance(parent, ast.If | ast.While | ast.IfExp) and parent.test is node)


def _enter(key: Any, use: _Use) -> bool:
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        use.read.add(key.value)
        return True
    return False


def _is_base_init(function: ast.expr) -> bool:
    """Whether a call is ``super().__init__`` or ``super(Class, self).__init__``."""
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "__init__"
        and isinstance(function.value, ast.Call)
        and isinstance(function.value.func, ast.Name)
        and function.value.func.id == "super"
    )
