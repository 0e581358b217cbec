"""Where in a file the weights are: training scripts in public keep them under a dozen names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmrazor_lite.errors import UserError, nearest, short

# Where several are there, the first of these is taken: averaged weights are what scores are published of.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_model", "model_ema_state_dict", "ema", "params_ema")
_NAMES = (
    *(*_AVERAGES, "state_dict"),
    "ema_state_dict",  # mmengine keeps here what its hook took out of 'state_dict', which then holds the averages
    *("model", "model_state_dict", "model_state", "net", "network", "weights", "params", "module"),
    *("backbone", "encoder", "teacher", "student"),
)
_NO_WEIGHTS = (
    "meta",
    "message_hub",
    "optimizer",
    "optimizer_state_dict",
    "scaler",
    "amp",
    "rng_state",
    "random_states",
)
_OF_A_SEARCH = {"vis_dict", "keep_top_k"}  # of SinglePathOneShot
_NO_TENSORS = ("_extra_state",)  # what modules may add to their state dict, of any type
OPTION = "init_cfg.weights"


def weights_in(checkpoint: Mapping[str, Any]) -> dict[str, Mapping[str, Tensor]]:
    """Return what holds nothing but tensors, by its name: ``''`` for the content itself, ``'a.b'`` for b in a.

    The one that is taken where nothing is said comes first.
    """
    if _are_weights(checkpoint):
        return {"": checkpoint}
    found: dict[str, Mapping[str, Tensor]] = {}
    for name, value in checkpoint.items():
        if not isinstance(name, str) or name in _NO_WEIGHTS or not isinstance(value, Mapping):
            continue
        if _are_weights(value):
            found[name] = value
        else:
            inner = ((part, value[part]) for part in _NAMES if part in value)
            found |= {f"{name}.{part}": entry for part, entry in inner if _are_weights(entry)}
    # What mmengine or this project wrote: training goes on from 'state_dict', whatever a hook keeps beside it.
    first = "state_dict" if "meta" in checkpoint else None
    return dict(sorted(found.items(), key=lambda item: (item[0] != first, _rank(item[0]))))


def taken_from(checkpoint: Mapping[str, Any], where: str | os.PathLike, entry: str | None = None) -> str:
    """Return the name of the entry of ``checkpoint`` that holds the weights; ``''`` for the content itself.

    Args:
        checkpoint: What a file holds.
        where: Names the file in errors.
        entry: The one that is asked for.

    Raises:
        UserError: There are none, or none under ``entry``, or several of which no name tells which is meant.
    """
    found = weights_in(checkpoint)
    if entry is not None:
        if entry not in found or not entry:
            there = ", ".join(map(short, list(found)[:5])) if list(found) not in ([], [""]) else "no choice"
            raise UserError(
                f"{where}: holds no weights under {OPTION}={short(entry)}{nearest(entry, found)}; it has {there}"
            )
        return entry
    named = next((name for name in _NAMES if isinstance(checkpoint.get(name), Mapping)), None)
    if not found:
        raise UserError(f"{where}: no weights found ({_problem(checkpoint, named)}); expected a state dict, alone or "
                        "under 'state_dict', 'model' or another usual name")  # fmt: skip
    names = list(found)
    if len(names) > 1 and _rank(names[0]) == len(_NAMES) and names[0] != "state_dict":
        raise UserError(f"{where}: holds weights under {', '.join(map(short, names[:5]))}; choose with {OPTION}")
    return names[0]


def tensors_of(entry: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of an entry, without what modules may add beside them."""
    return {name: value for name, value in entry.items() if not name.endswith(_NO_TENSORS)}


def _are_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and _wrong(value) is None and any(isinstance(v, Tensor) for v in value.values())


def _wrong(entry: Mapping[str, Any]) -> str | None:
    """The first key of ``entry`` that is no text, or of no plain tensor."""
    for name, value in entry.items():
        if not isinstance(name, str):
            return repr(name)[:80]
        if not _is_plain(value) and not name.endswith(_NO_TENSORS):
            return name[:80]
    return None


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta and not value.is_quantized


def _rank(name: str) -> int:
    first = name.split(".")[0]
    return _NAMES.index(first) if first in _NAMES else len(_NAMES)


def _problem(checkpoint: Mapping[str, Any], named: str | None) -> str:
    if checkpoint.keys() >= _OF_A_SEARCH:
        return "it is what a search of SinglePathOneShot keeps, and has none: the supernet is in a file of its own"
    entry = checkpoint if named is None else checkpoint[named]
    if not entry:
        return "it is empty" if named is None else f"'{named}' is empty"
    return f"entry {_wrong(entry)!r} is not a tensor" if _wrong(entry) is not None else "it holds no tensor"
