"""Our classes in the place of those of mmengine and mmpretrain that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.runner import BaseLoop

from mmrazor_lite.registry import SCOPE

_OURS = {
    "OptimWrapper": "SubnetOptimWrapper",
    "AmpOptimWrapper": "SubnetAmpOptimWrapper",
    "SeparateOptimWrapperConstructor": "SeparateOptimWrapperConstructor",
    "CheckpointHook": "SafeCheckpointHook",
    "EarlyStoppingHook": "ResumableEarlyStoppingHook",
    "RuntimeInfoHook": "RateInfoHook",
    "SwitchRecipeHook": "RecipeHook",
}


def our_type(name: Any) -> Any:
    """Our class where ``name`` is the one of mmengine's or mmpretrain's that it replaces."""
    if not isinstance(name, str):
        return name
    scope, _, bare = name.rpartition(".")
    found = _OURS.get(bare, name) if scope in ("", "mmengine", "mmpretrain") else name
    return f"{SCOPE}.{found}" if found in _OURS.values() else found


def with_our_types(config: Mapping) -> dict[str, Any]:
    """The config of one optimizer wrapper, or of several by name, with ours in the place of mmengine's."""
    if "optimizer" in config or "constructor" not in config:
        return {**config, "type": our_type(config.get("type", "OptimWrapper"))}
    return {
        name: with_our_types(part) if isinstance(part, Mapping) else our_type(part) for name, part in config.items()
    }


def with_type(loop: BaseLoop | Mapping, name: str) -> BaseLoop | dict:
    """The config of a loop, which is ours where it names none."""
    return {"type": f"{SCOPE}.{name}", **loop} if isinstance(loop, Mapping) else loop
