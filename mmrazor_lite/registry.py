"""Every name a config file may use: child registries of mmengine's, and a few of our own.

A class registers itself under its own name (``@MODELS.register_module()``); its first docstring line is the
description that lists and tables show, its ``paper`` attribute (where it has one) the source.
"""

from __future__ import annotations

import importlib

from mmengine.registry import DATA_SAMPLERS as _DATA_SAMPLERS
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import LOOPS as _LOOPS
from mmengine.registry import MODEL_WRAPPERS as _MODEL_WRAPPERS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as _OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as _OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as _RUNNERS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import Registry

SCOPE = "mmrazor_lite"


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=[f"{SCOPE}.{location}"])


def _own(name: str, location: str) -> Registry:
    return Registry(name, scope=SCOPE, locations=[f"{SCOPE}.{location}"])


MODELS = _child("model", _MODELS, "models")
MODEL_WRAPPERS = _child("model wrapper", _MODEL_WRAPPERS, "engine")
OPTIM_WRAPPERS = _child("optimizer wrapper", _OPTIM_WRAPPERS, "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child("optimizer wrapper constructor", _OPTIM_WRAPPER_CONSTRUCTORS, "engine")
RUNNERS = _child("runner", _RUNNERS, "engine")
LOOPS = _child("loop", _LOOPS, "engine")
HOOKS = _child("hook", _HOOKS, "engine")
DATASETS = _child("dataset", _DATASETS, "datasets")
DATA_SAMPLERS = _child("data sampler", _DATA_SAMPLERS, "engine")
TRANSFORMS = _child("transform", _TRANSFORMS, "datasets")

MUTATORS = _own("mutator", "models")
DISTILLERS = _own("distiller", "models")
ESTIMATORS = _own("estimator", "estimators")
SEARCHERS = _own("searcher", "search")
EVALUATORS = _own("subnet evaluator", "engine")

OURS: tuple[Registry, ...] = (
    MODELS, MODEL_WRAPPERS, OPTIM_WRAPPERS, OPTIM_WRAPPER_CONSTRUCTORS, RUNNERS, LOOPS, HOOKS, DATASETS, DATA_SAMPLERS,
    TRANSFORMS, MUTATORS, DISTILLERS, ESTIMATORS, SEARCHERS, EVALUATORS,
)  # fmt: skip


def register_all() -> None:
    """Import every module that registers a class, so that names resolve without import order mattering."""
    for part in ("models", "estimators", "engine", "datasets"):
        importlib.import_module(f"{SCOPE}.{part}")
