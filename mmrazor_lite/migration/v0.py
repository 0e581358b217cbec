"""Configs of MMRazor 0.x, on mmcv's runner, in our own form."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mmrazor_lite.errors import nearest

from .generation import V0_FURTHER, V0_KEYS
from .section import Section
from .told import Told
from .v0_algorithm import algorithm
from .v0_data import data
from .v0_evaluation import evaluation
from .v0_runtime import runtime
from .v0_schedule import length, optim_wrapper, param_scheduler
from .v0_search import search_cfg


def translated(config: dict[str, Any], file: str, helpers: Collection[str], told: Told) -> dict[str, Any]:
    """Return ``config`` in our own form, see :func:`mmrazor_lite.migration.translate`.

    Helper variables are not in it: their values were copied where they are used.
    """
    top = Section(config, "", told)
    searches = top.holds("searcher")
    training, model = length(top), algorithm(top, searches)
    loaded = data(top)
    validation = evaluation(top.section("evaluation"), training.by_epoch, model.kind)
    found: dict[str, Any] = {"default_scope": "mmpretrain", "model": model.config}
    classes = {} if model.num_classes is None else {"num_classes": model.num_classes}
    found["data_preprocessor"] = {**loaded.preprocessor, **classes}
    found |= loaded.loaders
    end = "max_epochs" if training.by_epoch else "max_iters"
    if training.end is not None:
        found["train_cfg"] = {"by_epoch": training.by_epoch, end: training.end}
    for part, loop in (("val", "SubnetValLoop"), ("test", "SubnetTestLoop")):
        if f"{part}_dataloader" in loaded.loaders:
            found |= {f"{part}_cfg": {"type": loop}, f"{part}_evaluator": validation.evaluator}
    if "train_cfg" in found and "val_dataloader" in loaded.loaders:
        found["train_cfg"] |= validation.loop
    wrapper, schedule = optim_wrapper(top), param_scheduler(top, training)
    found |= {key: value for key, value in (("optim_wrapper", wrapper), ("param_scheduler", schedule)) if value}
    if searches:
        found["search_cfg"] = search_cfg(top.section("searcher"), model.of_batch, loaded.loaders)
    found |= runtime(top, training.by_epoch, validation.best)
    _check_left(top, helpers, told)
    return found


def _check_left(top: Section, helpers: Collection[str], told: Told) -> None:
    """Tell the keys that nothing has taken and that the files themselves do not use."""
    for key in top.rest():
        if key not in helpers and not key.startswith("_"):
            told.problem(
                f"{key}: nothing reads it{nearest(key, V0_KEYS | V0_FURTHER)}; a helper variable starts with '_'"
            )
