"""Configs of MMRazor 1.x, on mmengine's runner as ours, in our own form."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mmrazor_lite.walk import kind_of, mappings

from . import v1_candidates, v1_loops, v1_model, v1_updates
from .told import Told


def translated(config: dict[str, Any], file: str, helpers: Collection[str], told: Told) -> dict[str, Any]:
    """Return ``config`` in our own form, see :func:`mmrazor_lite.migration.translate`."""
    v1_candidates.settle(config, told)
    for where, node in list(mappings(config)):
        if kind_of(node) == "ImgDataPreprocessor":
            _preprocessor(node, where, told)
    if isinstance(config.get("model"), dict):
        config["model"] = v1_model.translated(config["model"], told)
    v1_loops.translate(config, told)
    v1_updates.translate(config, told)
    wrapper = config.get("model_wrapper_cfg")
    if kind_of(wrapper) in v1_model.WRAPPERS:
        told.change(f"model_wrapper_cfg.type={wrapper['type']}", "SubnetDDP")
        wrapper["type"] = "SubnetDDP"
    return config


def _preprocessor(node: dict[str, Any], where: str, told: Told) -> None:
    """Make mmengine's preprocessor mmpretrain's, which computes the same and collects the labels too."""
    node.pop("_scope_", None)
    node["type"] = "mmpretrain.ClsDataPreprocessor"
    flips = [node.pop(key) for key in ("bgr_to_rgb", "rgb_to_bgr") if key in node]
    if flips:
        node["to_rgb"] = any(flips)
    node.pop("non_blocking", None)
    told.change(f"{where}.type=ImgDataPreprocessor", "mmpretrain.ClsDataPreprocessor, with to_rgb")
