"""What a slimming is asked for, checked by its kinds and its plain values: before anything is read or traced."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite import mm_packages
from mmrazor_lite.errors import UserError, check_flag, check_number, nearest, short
from mmrazor_lite.estimators.measure import BACKENDS
from mmrazor_lite.estimators.runtime_timers import RUNTIMES, check_runtime
from mmrazor_lite.fileio import as_path
from mmrazor_lite.models.importance import build
from mmrazor_lite.subnet import RESOURCE_UNITS

from .allocation import step_of
from .budgets import read_goal
from .tune import Limit, parse_limit

_UNKNOWN = dict.fromkeys(RESOURCE_UNITS, math.nan)  # costs of a network that is not there yet: no limit is above them


def check_network(model: Any) -> None:
    """Raise :class:`UserError` unless it is a module with numbers in its weights."""
    if not isinstance(model, nn.Module):
        raise UserError(f"model={short(model)}: give a module of torch")
    if hasattr(model, "_orig_mod"):  # of torch.compile
        raise UserError("model is compiled by torch.compile: give the module that was compiled, model._orig_mod")
    _check_held("model", [*model.parameters(), *model.buffers()])


def check_data(data: Any, again: bool = False) -> None:
    """Raise :class:`UserError` where tensors that are given hold no numbers, or not one for every pixel.

    Args:
        again: It is read twice.
    """
    if again and isinstance(data, Iterator):
        raise UserError(
            f"data is a {type(data).__name__}, which can be read once, and tune reads it again: give a list or a "
            "DataLoader"
        )
    if isinstance(data, (Tensor, Mapping, tuple, list)):
        _check_held("data", tree_leaves(data))


def check_values(
    budget: Any = None,
    min_accuracy: Any = None,
    max_drop: Any = None,
    importance: Any = "reconstruction",
    images: Any = 500,
    divisor: Any = "auto",
    tune: Any = None,
    seed: Any = 0,
) -> Limit | None:
    """Raise :class:`UserError` for a value that no network and no data make right; give the limit of the tuning."""
    check_number("seed", seed, 0, whole=True)
    check_number("images", images, 2, whole=True)
    read_goal(budget, min_accuracy, max_drop, _UNKNOWN)
    step_of(1, 1, divisor)
    build(importance)
    if tune is None:
        return None
    limit = parse_limit(tune)
    mm_packages.require(f"tune={short(tune)}")
    return limit


def check_backend(backend: Any) -> None:
    """Raise :class:`UserError` for a runtime that is unknown, or not installed; None is none that is asked for."""
    if backend is None:
        return
    if backend not in BACKENDS:
        like = nearest(str(backend)[:80], BACKENDS)
        raise UserError(f"backend={short(backend)} is unknown{like} (allowed: {', '.join(BACKENDS)})")
    if backend in RUNTIMES:
        check_runtime(backend)


def check_kinds(**options: Any) -> None:
    """Raise :class:`UserError` for an option of :func:`slim` of another kind than its own."""
    for name, value in options.items():
        kind, example = _KINDS[name]
        if value is not None and not (callable(value) if kind is callable else isinstance(value, kind)):
            raise UserError(f"{name}={short(value)}: give {example}")
    for group in options.get("groups") or ():
        if not isinstance(group, Mapping):
            raise UserError(f"groups: {short(group)} is no group, give {_KINDS['groups'][1]}")


_KINDS: dict[str, tuple[Any, str]] = {
    "limits": (Mapping, "a dict such as {'layer*': 0.5}"),
    "groups": ((list, tuple), "a list such as [dict(out=['a'], into=['b'])]"),
    "architecture": (Mapping, "the config of the network, such as dict(type='torchvision.resnet18')"),
    "loss": (callable, "a function of (outputs, targets)"),
    "score": (callable, "a function of the network"),
    "name": (str, "a text"),
}


def texts(option: str, value: Any) -> tuple[str, ...]:
    """Patterns or lines: one text is one of them.

    Raises:
        UserError: It is no text, and no list of texts.
    """
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (None,)
    if not all(isinstance(text, str) for text in found):
        raise UserError(f"{option}={short(value)}: give texts, such as {option}=['layer1.*']")
    return found


def folder(option: str, value: Any, resume: Any = False) -> Path | None:
    """A folder for the steps of a run; None for none.

    Raises:
        UserError: It is no path, or that of a file; or there is nowhere to resume from.
    """
    check_flag("resume", resume)
    if value is None:
        if resume:
            raise UserError(f"resume=True needs {option}: where the steps of the earlier run are kept")
        return None
    path = as_path(value, option)
    if path.exists() and not path.is_dir():
        raise UserError(f"{option}={short(value)}: it is a file, give a folder")
    return path


def _check_held(what: str, leaves: Iterable[Any]) -> None:
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.is_meta:
            raise UserError(f"{what}: a tensor {tuple(leaf.shape)} is on the meta device, which holds no numbers")
        if isinstance(leaf, Tensor) and leaf.layout is not torch.strided:
            raise UserError(f"{what}: a tensor {tuple(leaf.shape)} is sparse: give it as tensor.to_dense()")
