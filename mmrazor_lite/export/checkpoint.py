"""The only way a checkpoint comes in or goes out.

Reading never unpickles anything that is not on a short list of names, and there is no fallback: a file that asks for
more is refused. Loading weights is strict, and a model is either loaded completely or left as it was.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.fileio import atomic_write

_PREFIXES = ("module.", "architecture.")
_PREFIXES_0X = ("module.", "architecture.model.", "architecture.")
PREFIXES = _PREFIXES_0X  # ignored in every file
_EXECUTABLE_META = ("config", "cfg")  # text that mmengine would run as Python when it resumes
_MASKS_0X = re.compile(r"\.(in_mask|out_mask)$")  # buffers of MMRazor 0.x, all ones in a trained supernet
# An operator choice and what runs there: MMRazor 1.x, and ours; and 0.x.
_OPERATOR = re.compile(r"^(?P<choice>.+?)\._candidates\.(?P<name>[^.]+)\.")
_CHOICES_0X = re.compile(r"\.choices\.(?=[^.]+\.)")
_SHOWN = 5


def _history_statistic(owner: type, name: str) -> Any:
    """Stand in for ``getattr`` in the pickles of mmengine's log history, which name its four statistics with it."""
    if owner is HistoryBuffer and name in ("min", "max", "mean", "current"):
        return getattr(HistoryBuffer, name)
    raise ValueError(f"getattr({owner!r}, {name!r}) is not allowed")


def _allowed_globals() -> list[Any]:
    """Everything mmengine's Runner puts into a checkpoint beyond tensors and plain data."""
    reconstruct = np.ndarray(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int8, np.uint8, np.uint32, np.uint64, np.bool_]
    allowed: list[Any] = [HistoryBuffer, np.ndarray, np.dtype, (_history_statistic, "builtins.getattr")]
    for package in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2 write different names for the same functions
        allowed += [(reconstruct, f"{package}.multiarray._reconstruct"), (scalar, f"{package}.multiarray.scalar")]
    return allowed + [type(np.dtype(dtype)) for dtype in dtypes]


def read_checkpoint(path: str | os.PathLike, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint file without executing anything that is in it.

    Args:
        path: A file written by :func:`save_checkpoint`, mmengine or ``torch.save`` (a plain state dict, or a dict
            with the state dict under ``state_dict`` or ``model``).
        map_location: Where the tensors go.

    Returns:
        The content, without ``meta['config']`` and ``meta['cfg']`` (text that mmengine executes on resume).

    Raises:
        UserError: The file is missing, cut short, not a checkpoint, or asks for a global that is not allowed.
    """
    path = _existing_file(path)
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            content = torch.load(str(path), map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file it cannot read
        raise UserError(f"checkpoint {path}: {_reason(error, path)}") from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, expected a dict of weights")
    if isinstance(content.get("meta"), dict):
        content["meta"] = {key: value for key, value in content["meta"].items() if key not in _EXECUTABLE_META}
    return content


def state_dict_of(checkpoint: Mapping[str, Any], where: str | os.PathLike) -> dict[str, Tensor]:
    """Return the weights in ``checkpoint``: under ``state_dict``, under ``model``, or the mapping itself."""
    for key in ("state_dict", "model"):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    wrong = next((key for key, value in checkpoint.items() if not isinstance(value, Tensor)), None)
    if not checkpoint or wrong is not None:
        found = "it is empty" if not checkpoint else f"entry {str(wrong)!r} is not a tensor"
        raise UserError(f"{where}: no weights found ({found}; expected a state dict, alone or under 'state_dict')")
    return dict(checkpoint)


def check_space(
    model: nn.Module, checkpoint: Mapping[str, Any], where: str | os.PathLike, kind: str, space: str
) -> None:
    """Compare the weights when ``checkpoint`` says another search space: they tell more than a fingerprint.

    Args:
        model: The algorithm that the checkpoint is for.
        checkpoint: What :func:`read_checkpoint` returned.
        where: Names the source in errors.
        kind: What ``model`` is (``supernet`` ...); a checkpoint of another kind is not compared.
        space: Fingerprint of its search space.

    Raises:
        UserError: As :func:`fitting_weights`.
    """
    meta = checkpoint.get("meta")
    ours = meta.get("mmrazor_lite") if isinstance(meta, Mapping) else None
    if isinstance(ours, Mapping) and ours.get("kind") == kind and ours.get("space") not in (None, space):
        fitting_weights(model, checkpoint, where)


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], where: str | os.PathLike = "checkpoint") -> None:
    """Copy the weights of ``checkpoint`` into ``model``: every one of them or, on any difference, none.

    See :func:`fitting_weights` for arguments and errors.
    """
    model.load_state_dict(fitting_weights(model, checkpoint, where), strict=True)


def fitting_weights(
    model: nn.Module, checkpoint: Mapping[str, Any], where: str | os.PathLike = "checkpoint"
) -> OrderedDict[str, Tensor]:
    """Return the weights of ``checkpoint`` under the names of ``model``.

    The prefixes ``module.``, ``architecture.model.`` and ``architecture.`` are ignored on both sides, so a plain
    model, an algorithm around it and a wrapped algorithm read each other's files. Operators are found under MMRazor
    0.x's name for them too, and those of a subnet also where the file names the operator that was chosen.

    Args:
        model: The module that the weights are for; it is not changed.
        checkpoint: What :func:`read_checkpoint` returned, or a state dict.
        where: Names the source in errors.

    Raises:
        UserError: Missing or unexpected keys, or other shapes; the first five of each are shown.
    """
    target = model.state_dict()
    state = state_dict_of(checkpoint, where)
    names = _without_prefixes(target, "the model", _PREFIXES)
    given = _without_prefixes(state, str(where), _PREFIXES)
    if not given.keys() <= names.keys():  # MMRazor 0.x put one more level between the algorithm and its model
        older = _without_prefixes(state, str(where), _PREFIXES_0X)
        older = {key: name for key, name in older.items() if key in names or not _MASKS_0X.search(key)}
        given = max(given, older, _by_operator(given), _by_operator(older), key=lambda keys: _fitting(keys, names))
    missing = [key for key in names if key not in given]
    unexpected = [key for key in given if key not in names]
    shapes = [
        f"{key} {tuple(state[given[key]].shape)} in the file and {tuple(target[name].shape)} in the model"
        for key, name in names.items()
        if key in given and state[given[key]].shape != target[name].shape
    ]
    problems = [
        f"{len(items)} {label}: {', '.join(items[:_SHOWN])}{', ...' if len(items) > _SHOWN else ''}"
        for label, items in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if items
    ]
    if problems:
        raise UserError(f"{where}: the weights do not fit {_title(model)}; {'; '.join(problems)}")
    weights = OrderedDict((name, state[given[key]]) for key, name in names.items())
    # With the module versions of the running code, a model does not take the keys for those of an older release.
    weights._metadata = getattr(target, "_metadata", OrderedDict())  # type: ignore[attr-defined]
    return weights


def operators(state: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the operators whose weights a state dict holds, by choice: several of one choice make a supernet."""
    found: dict[str, set[str]] = {}
    for key in state:
        match = _OPERATOR.match(_CHOICES_0X.sub("._candidates.", key))
        if match:
            found.setdefault(match["choice"], set()).add(match["name"])
    return found


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write ``checkpoint`` so that the file appears whole or not at all; equal content gives equal bytes.

    Tensors go to the CPU, views get storage of their own, config objects become plain data.
    """
    content = _portable(checkpoint)
    # Into a handle, not a path: torch puts the (temporary) file name into the archive.
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def checkpoint_hash(path: str | os.PathLike) -> str:
    """First 16 hex digits of the SHA-256 of a file; every step logs it for what it reads and writes."""
    digest = hashlib.sha256()
    with open(_existing_file(path), "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()[:16]


def _existing_file(path: str | os.PathLike) -> pathlib.Path:
    if re.match(r"[a-z]+://", str(path)):
        raise UserError(f"checkpoint {path}: only local files are read; download it and give its path")
    path = pathlib.Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        files = sorted(item.name for item in path.glob("*.pth"))
        raise UserError(f"checkpoint {path}: is a folder; give one file of it{f' ({files[-1]}?)' if files else ''}")
    if not path.parent.is_dir():
        raise UserError(f"checkpoint {path}: no such file (the folder {path.parent} does not exist either)")
    hint = nearest(path.name, (item.name for item in path.parent.iterdir() if item.is_file()))
    raise UserError(f"checkpoint {path}: no such file{hint}")


def _reason(error: Exception, path: pathlib.Path) -> str:
    refused = re.search(r"GLOBAL ([\w.]+)|(getattr\(.*\)) is not allowed", str(error))
    if refused:
        name = refused.group(1) or refused.group(2)
        return f"refused, it would run '{name}' while loading; only tensors and plain data are read"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "not enough memory to read it"
    return "not a checkpoint, or cut short; copy or write it again"


def _without_prefixes(keys: Mapping[str, Any], where: str, prefixes: tuple[str, ...]) -> dict[str, str]:
    """Map each key without ``prefixes`` to the key itself."""
    result: dict[str, str] = {}
    for key in keys:
        short = key
        for prefix in prefixes:
            short = short.removeprefix(prefix)
        if short in result:
            raise UserError(f"{where}: both '{result[short]}' and '{key}' stand for the weight '{short}'")
        result[short] = key
    return result


def _by_operator(given: dict[str, str]) -> dict[str, str]:
    """Name the weights of operators as we do: in a supernet under ``_candidates``, in a subnet as the plain model."""
    named = {_CHOICES_0X.sub("._candidates.", key): name for key, name in given.items()}
    chosen = operators(named)
    if not chosen or any(len(names) > 1 for names in chosen.values()):
        return named
    return {_OPERATOR.sub(r"\g<choice>.", key): name for key, name in named.items()}


def _fitting(given: Mapping[str, str], names: Mapping[str, str]) -> int:
    return len(given.keys() & names.keys())


def _title(model: nn.Module) -> str:
    return f"the {type(getattr(model, 'architecture', model)).__name__}"


def _portable(value: Any) -> Any:
    """Return ``value`` with CPU tensors in storage of their own size, and plain containers."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.clone() if value.untyped_storage().nbytes() > value.numel() * value.element_size() else value
    if isinstance(value, Mapping):
        result = OrderedDict() if type(value) is OrderedDict else {}
        result.update((key, _portable(item)) for key, item in value.items())
        if hasattr(value, "_metadata"):
            result._metadata = value._metadata
        return result
    if type(value) in (list, tuple):
        return type(value)(_portable(item) for item in value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, pathlib.PurePath) else value
