"""``init_cfg=dict(type='Pretrained', ...)`` through our reader: mmengine's would unpickle whatever the file holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmengine.model.weight_init import PretrainedInit
from torch import nn

from mmrazor_lite.checkpoints import log_taken, read_checkpoint, state_dict_of
from mmrazor_lite.checkpoints.weight_names import PREFIXES, short_names
from mmrazor_lite.errors import UserError
from mmrazor_lite.late import late

__getattr__ = late("mmrazor_lite.models.algorithms", {"load_pretrained": "loading"})  # where it was before

_KEYS = ("type", "checkpoint", "prefix", "weights", "reset_head", "map_location", "_scope_")


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


def read_pretrained(config: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Read the file of a ``Pretrained`` entry: ``state_dict``, of ``prefix`` where one is given, and ``meta``.

    Args:
        config: The entry: ``checkpoint``; ``weights``, the entry of the file that holds them, where it has several;
            ``prefix``, where it holds more than this module; ``reset_head=True`` to leave out the classifier.
        owner: Whose ``init_cfg`` it is, for errors.

    Raises:
        UserError: An unknown key, no file, or no weight with the prefix.
    """
    _check_entry(config, owner)
    path = config["checkpoint"]
    checkpoint = read_checkpoint(path)
    state = state_dict_of(checkpoint, path, config.get("weights"))
    log_taken(checkpoint, path, config.get("weights"))
    prefix = config.get("prefix")
    if prefix:
        prefix = prefix.rstrip(".") + "."
        left = "" if prefix in PREFIXES else prefix  # the reader knows those, and by them what the file is of
        for names in ({key: key for key in state}, short_names(state, str(path), ("module.",))):
            part = {key.removeprefix(left): state[name] for key, name in names.items() if key.startswith(prefix)}
            if part:
                break
        if not part and prefix not in PREFIXES:  # those are ignored anyway, so a plain file may lack them
            raise UserError(f"{path}: no weight starts with init_cfg.prefix={config['prefix']!r}")
        state = part or state
    meta = checkpoint.get("meta")
    return {"state_dict": state, "meta": meta if isinstance(meta, Mapping) else {}}


def _check_entry(config: Mapping[str, Any], owner: str) -> None:
    unknown = [key for key in config if key not in _KEYS]
    if unknown or not config.get("checkpoint"):
        what = f"unknown key {unknown[0]!r}" if unknown else "no checkpoint"
        raise UserError(f"init_cfg of {owner}: {what}; allowed are {', '.join(_KEYS[:5])}")
    for key, kind, name in (("checkpoint", str | os.PathLike, "a path"), ("prefix", str, "text"),
                            ("weights", str, "text"), ("reset_head", bool, "True or False")):  # fmt: skip
        if config.get(key) is not None and not isinstance(config[key], kind):
            raise UserError(f"init_cfg of {owner}: {key}={str(config[key])[:80]!r} must be {name}")


def _entries(configs: Any) -> list:
    return [configs] if isinstance(configs, Mapping) else list(configs or ())
