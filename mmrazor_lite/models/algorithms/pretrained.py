"""``init_cfg=dict(type='Pretrained', ...)`` through our reader: mmengine's would unpickle whatever the file holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit
from torch import nn

from mmrazor_lite.errors import UserError

_KEYS = ("type", "checkpoint", "prefix", "map_location", "_scope_")


def take_pretrained(model: nn.Module) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Remove the ``Pretrained`` entries from the ``init_cfg`` of every module, and return them, innermost first."""
    taken = []
    for module in model.modules():
        entries = _entries(getattr(module, "init_cfg", None))
        pretrained = [entry for entry in entries if is_pretrained(entry)]
        if pretrained:
            module.init_cfg = [entry for entry in entries if not is_pretrained(entry)]
            taken += [(module, dict(entry)) for entry in pretrained]
    return taken[::-1]


def is_pretrained(config: Any) -> bool:
    """Whether an ``init_cfg`` entry names a checkpoint file."""
    kind = config.get("type") if isinstance(config, Mapping) else None
    return kind is PretrainedInit or str(kind).rsplit(".", 1)[-1] == "Pretrained"


def has_pretrained(model: nn.Module) -> bool:
    """Whether :meth:`init_weights` of ``model`` reads a checkpoint file."""
    configs = (getattr(module, "init_cfg", None) for module in model.modules())
    return any(is_pretrained(entry) for config in configs for entry in _entries(config))


def load_pretrained(module: nn.Module, config: Mapping[str, Any]) -> None:
    """Load the file of a ``Pretrained`` entry into ``module``, strictly.

    Raises:
        UserError: An unknown key, no file, or one that does not fit.
    """
    from mmrazor_lite.export.checkpoint import checkpoint_hash, load_weights, read_checkpoint, state_dict_of

    unknown = [key for key in config if key not in _KEYS]
    if unknown or not config.get("checkpoint"):
        what = f"unknown key {unknown[0]!r}" if unknown else "no checkpoint"
        raise UserError(f"init_cfg of {type(module).__name__}: {what}; allowed are {', '.join(_KEYS[:3])}")
    path = config["checkpoint"]
    state = state_dict_of(read_checkpoint(path), path)
    prefix = config.get("prefix")
    if prefix:
        prefix = prefix.rstrip(".") + "."
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if not state:
            raise UserError(f"{path}: no weight starts with init_cfg.prefix={config['prefix']!r}")
    load_weights(module, state, path)
    print_log(f"loaded {path} (sha256 {checkpoint_hash(path)}) into {type(module).__name__}", logger="current")


def _entries(configs: Any) -> list:
    return [configs] if isinstance(configs, Mapping) else list(configs or ())
