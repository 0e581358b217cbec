"""Functions among the attributes of a copied module, made to mean the copy.

``copy.deepcopy`` leaves a function as it is. One that closes over the module it was made in, such as a hook written as
``lambda module, args, out: self.seen.append(out)`` or the ``loss`` that mmpretrain's ``MultiTaskHead`` gives its parts,
would go on meaning the module that was copied.
"""

from __future__ import annotations

from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import nn


def rebind(clone: nn.Module, memo: dict[int, Any]) -> None:
    """Give every function in the attributes and hooks of ``clone`` the copies of what it closes over.

    Args:
        memo: Of the ``deepcopy`` that made ``clone``: the id of an object that was copied, and its copy.
    """
    for module in clone.modules():
        attributes = vars(module)
        for key, value in list(attributes.items()):
            if isinstance(value, dict) and key not in ("_modules", "_parameters", "_buffers"):
                for name, item in list(value.items()):
                    value[name] = _bound(item, memo)
            elif isinstance(value, list):
                value[:] = [_bound(item, memo) for item in value]
            elif isinstance(value, (FunctionType, partial)):
                attributes[key] = _bound(value, memo)


def _bound(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, FunctionType):
        return _function(value, memo)
    if type(value) is partial:
        args = [_meant(arg, memo) for arg in value.args]
        return partial(_bound(value.func, memo), *args, **{k: _meant(v, memo) for k, v in value.keywords.items()})
    return value


def _function(function: FunctionType, memo: dict[int, Any]) -> FunctionType:
    if id(function) in memo:  # it closes over itself, or was met before
        return memo[id(function)]
    cells = function.__closure__ or ()
    defaults = tuple(_meant(value, memo) for value in function.__defaults__ or ())
    empty = tuple(memo.setdefault(id(cell), CellType()) for cell in cells)  # shared by all functions that share a cell
    made = FunctionType(function.__code__, function.__globals__, function.__name__, defaults or None, empty or None)
    made.__dict__.update(function.__dict__)
    made.__kwdefaults__, made.__doc__ = function.__kwdefaults__, function.__doc__
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    memo[id(function)] = made
    for cell, new in zip(cells, empty, strict=True):
        try:
            new.cell_contents = _meant(cell.cell_contents, memo)
        except ValueError:  # not filled yet
            continue
    return made


def _meant(value: Any, memo: dict[int, Any]) -> Any:
    """What ``value``, that a function of the original holds, is in the copy."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, MethodType) and id(value.__self__) in memo:
        return MethodType(value.__func__, memo[id(value.__self__)])
    return _bound(value, memo)
