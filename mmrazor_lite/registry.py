"""Every name a config file may use: child registries of mmengine's, and a few of our own.

A class registers itself under its own name (``@MODELS.register_module()``); its first docstring line is the
description that lists and tables show.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from mmengine.registry import DATA_SAMPLERS as _DATA_SAMPLERS
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import LOOPS as _LOOPS
from mmengine.registry import MODEL_WRAPPERS as _MODEL_WRAPPERS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as _OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as _OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as _PARAM_SCHEDULERS
from mmengine.registry import RUNNERS as _RUNNERS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import Registry

from mmrazor_lite.errors import UserError

SCOPE = "mmrazor_lite"


class _Registry(Registry):
    """mmengine's, which says who has a name that is taken."""

    def _register_module(self, module: Any, module_name: str | list[str] | None = None, force: bool = False) -> None:
        names = [module_name or module.__name__] if not isinstance(module_name, list) else module_name
        for name in names:
            if not force and name in self.module_dict:
                held = holder(self.module_dict[name])
                raise UserError(f"'{name}' is taken in the registry '{self.name}' by {held}: give yours another name")
        super()._register_module(module, module_name, force)


def holder(built: Any) -> str:
    """The class or function that has a name, with its file."""
    try:
        file = inspect.getfile(built)
    except (TypeError, OSError):
        file = "no file"
    return f"{built.__module__}.{built.__qualname__} ({file})"


def _child(name: str, parent: Registry, location: str) -> Registry:
    return _Registry(name, parent=parent, scope=SCOPE, locations=[f"{SCOPE}.{location}"])


def _own(name: str, location: str) -> Registry:
    return _Registry(name, scope=SCOPE, locations=[f"{SCOPE}.{location}"])


MODELS = _child("model", _MODELS, "models.registered")
MODEL_WRAPPERS = _child("model wrapper", _MODEL_WRAPPERS, "engine")
OPTIM_WRAPPERS = _child("optimizer wrapper", _OPTIM_WRAPPERS, "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child("optimizer wrapper constructor", _OPTIM_WRAPPER_CONSTRUCTORS, "engine")
PARAM_SCHEDULERS = _child("parameter scheduler", _PARAM_SCHEDULERS, "engine")
RUNNERS = _child("runner", _RUNNERS, "engine")
LOOPS = _child("loop", _LOOPS, "engine")
HOOKS = _child("hook", _HOOKS, "engine")
DATASETS = _child("dataset", _DATASETS, "datasets")
DATA_SAMPLERS = _child("data sampler", _DATA_SAMPLERS, "engine")
TRANSFORMS = _child("transform", _TRANSFORMS, "datasets")

MUTATORS = _own("mutator", "models.registered")
DISTILLERS = _own("distiller", "models.registered")
SEARCHERS = _own("searcher", "search")

OURS: tuple[Registry, ...] = (
    MODELS, MODEL_WRAPPERS, OPTIM_WRAPPERS, OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS, RUNNERS, LOOPS, HOOKS,
    DATASETS, DATA_SAMPLERS, TRANSFORMS, MUTATORS, DISTILLERS, SEARCHERS,
)  # fmt: skip


def register_all() -> None:
    """Import every module that registers a class, so that names resolve without import order mattering."""
    for part in ("models.registered", "engine", "datasets"):
        importlib.import_module(f"{SCOPE}.{part}")
