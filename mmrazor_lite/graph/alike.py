"""Which models are built alike: objects of the same classes, attributes that are equal, tensors of equal shapes.

Such models run the same ops, so that one trace serves them all. A supernet, its check after a search and each part of a
split are built from one config in one process. Only code that is installed is taken to stay as it is: a class of a
script or a notebook may call functions, and read globals, that change while it stays the same.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeVar

import torch
from torch import nn

OURS = Path(__file__).parents[1]
INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
PACKAGES = {"site-packages", "dist-packages"}
MAX_KNOWN = 64  # models that are remembered
_PLAIN = frozenset({bool, int, float, str, bytes, tuple, list, dict, set, type(None)})
MAX_ELEMENTS = 1 << 20  # of a tensor that is neither parameter nor buffer; a larger one is not compared

T = TypeVar("T")


def is_installed(module: str) -> bool:
    """Whether a module is part of Python, of an installed package or of ours; one that is written now is not."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module in sys.builtin_module_names
    return module != "__main__" and _is_of_a_package(file)


@cache
def _is_of_a_package(file: str) -> bool:
    if any(Path(file).is_relative_to(folder) for folder in (OURS, *INSTALLED)):
        return True
    return not PACKAGES.isdisjoint(Path(file).parts)  # of the user, or of what an environment is based on


class Remembered:
    """What was made of models, by how they are built; no model is held.

    Args:
        stays: Whether the code of a module, by its name, is taken to stay as it is.
    """

    def __init__(self, stays: Callable[[str], bool] = is_installed) -> None:
        self._stays = stays
        self._known: OrderedDict[tuple, tuple[Any, dict]] = OrderedDict()

    def get(self, model: nn.Module, about: tuple, make: Callable[[], T]) -> T:
        """What ``make`` gave for a model that is built as ``model`` is, and for the same ``about``; else make it."""
        try:
            pickler = _Pickler(model, self._stays)
            pickler.dump(model)
        except Exception:  # whatever an object says to being written: nothing is known of it
            return make()
        autocast = [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")]
        state = torch.get_default_dtype(), torch.is_grad_enabled(), *autocast
        key = (about, state, pickler.digest.digest())
        if key not in self._known:
            self._known[key] = make(), pickler.held
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key][0]


class _Unknown(Exception):
    """An object of which nothing can be said."""


@dataclass(frozen=True)
class _Sink:
    """A file that keeps nothing."""

    write: Callable[[bytes], None]


class _Pickler(pickle.Pickler):
    """Writes all that a model holds, with classes and functions by what they are and not by their names.

    What no graph depends on is left out: modes, the values of parameters and buffers, how a state dict is made.
    """

    def __init__(self, model: nn.Module, stays: Callable[[str], bool]) -> None:
        self._stays = stays
        self.digest = hashlib.sha256()
        super().__init__(_Sink(self.digest.update), protocol=5)
        self.held: dict[int, Any] = {}  # an id says what an object is as long as that lives
        self._stored = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._classes: dict[type, bytes] = {}  # what was told of each
        self._places: dict[int, int] = {}  # of a tensor, in the order in which they are met: some are shared

    def persistent_id(self, obj: Any) -> tuple | None:
        if type(obj) in _PLAIN:  # most of all: this is asked of every number and word
            return None
        if isinstance(obj, torch.Tensor):
            return self._tensor(obj)
        if isinstance(obj, type):
            return "class", self._id(obj), self._told_of_class(obj)
        if isinstance(obj, (FunctionType, BuiltinFunctionType)):
            if getattr(obj, "__closure__", None) or not self._stays(obj.__module__ or ""):  # it may use anything
                raise _Unknown
            return "function", self._id(obj), self._id(getattr(obj, "__code__", None))
        return None

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, nn.Module):
            return NotImplemented
        numbers: dict[int, int] = {}  # torch numbers the hooks of all models
        state = {
            key: {numbers.setdefault(number, len(numbers)): hook for number, hook in value.items()}
            if key.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
            else value
            for key, value in vars(obj).items()
            if key != "training" and "state_dict" not in key
        }
        return nn.Module, (type(obj),), state

    def _id(self, obj: Any) -> int:
        self.held[id(obj)] = obj
        return id(obj)

    def _told_of_class(self, cls: type) -> tuple:
        """The code of its methods and its plain attributes, where they are first asked for: both can be replaced."""
        new = [base for base in cls.__mro__ if base not in self._classes]
        for base in new:
            self._classes[base] = self._told_of_base(base)
        return (hashlib.sha256(b"".join(map(self._classes.__getitem__, cls.__mro__))).digest(),) if new else ()

    def _told_of_base(self, base: type) -> bytes:
        if not self._stays(base.__module__):
            raise _Unknown
        found: list = []
        for key, value in list(vars(base).items()):
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(function, FunctionType):
                found.append((key, self._id(function), self._id(function.__code__)))
            elif isinstance(value, (bool, int, float, str, tuple)):
                found.append((key, repr(value)))
        return hashlib.sha256(repr(found).encode()).digest()

    def _tensor(self, tensor: torch.Tensor) -> tuple:
        place = self._places.setdefault(id(tensor), len(self._places))
        told = (place, self._id(type(tensor)), tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad)
        if id(tensor) in self._stored:
            return "stored", *map(str, told), tensor.stride()
        if tensor.numel() > MAX_ELEMENTS:
            raise _Unknown
        return "tensor", *map(str, told), tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
