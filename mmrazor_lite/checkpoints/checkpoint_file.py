"""The only way a checkpoint comes in or goes out.

Reading never unpickles anything that is not on a short list of names, and there is no fallback: a file that asks for
more is refused. Loading weights is strict, and a model is either loaded completely or left as it was.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pathlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.fileio import atomic_write
from mmrazor_lite.note import note

from .containers import OPTION, taken_from, tensors_of, weights_in
from .fitting import Fit, fit
from .ignored_objects import allowed_globals, without_inert
from .integrity import (
    DIGEST,
    check_archive,
    check_content,
    check_digests,
    digests,
)
from .other_files import other_kind

_EXECUTABLE_META = ("config", "cfg")  # text that mmengine would run as Python when it resumes


def read_checkpoint(path: str | os.PathLike, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint file without executing anything that is in it.

    Args:
        path: A file written by :func:`save_checkpoint`, mmengine, ``torch.save`` or safetensors: a plain state dict, or
            one under ``state_dict``, ``model`` or another usual name (see :mod:`.containers`).
        map_location: Where the tensors go.

    Returns:
        The content, without objects that only describe a run (see :mod:`.ignored_objects`), and without
        ``meta['config']`` and ``meta['cfg']`` (text that mmengine executes on resume).

    Raises:
        UserError: The file is missing, cut short, damaged, not a checkpoint, or asks for a global that is not allowed;
            or it holds more than any network needs, see :mod:`mmrazor_lite.checkpoints.integrity`.
    """
    path = _existing_file(path)
    try:
        if _is_safetensors(path):
            content = load_file(path, device=str(map_location))
        else:
            check_archive(path)
            with torch.serialization.safe_globals(allowed_globals()):
                content = torch.load(str(path), map_location=map_location, weights_only=True)
        check_content(content, f"checkpoint {path}")
        content = without_inert(content)
    except UserError:
        kind = other_kind(path)
        if kind is None:
            raise
        raise UserError(f"checkpoint {path}: {kind}") from None
    except Exception as error:  # torch raises a dozen kinds for a file it cannot read
        raise UserError(f"checkpoint {path}: {_reason(error, path)}") from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, expected a dict of weights")
    content = check_digests(content, f"checkpoint {path}")
    if isinstance(content.get("meta"), dict):
        content["meta"] = {key: value for key, value in content["meta"].items() if key not in _EXECUTABLE_META}
    return content


def state_dict_of(
    checkpoint: Mapping[str, Any], where: str | os.PathLike, entry: str | None = None
) -> dict[str, Tensor]:
    """Return the weights in ``checkpoint``: those of ``entry``, or of the usual one (see :mod:`.containers`).

    Raises:
        UserError: There are none; ``where`` names the file.
    """
    name = taken_from(checkpoint, where, entry)
    return tensors_of(weights_in(checkpoint)[name])


def log_taken(checkpoint: Mapping[str, Any], where: str | os.PathLike, entry: str | None = None) -> None:
    """Say in the log which weights of a file with several are taken."""
    name = taken_from(checkpoint, where, entry)
    others = [short(other) for other in weights_in(checkpoint) if other != name]
    if others:
        chosen = "" if entry else f" ({OPTION} chooses)"
        note(f"{where}: the weights under {name!r} are taken, not {', '.join(others[:5])}{chosen}")


def load_weights(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    where: str | os.PathLike = "checkpoint",
    reset_head: bool = False,
) -> None:
    """Copy the weights of ``checkpoint`` into ``model``: every one of them or, on any difference, none.

    What was filled in or left out is logged. See :func:`fitting_weights` for arguments and errors.
    """
    found = fit(model, state_dict_of(checkpoint, where), str(where), reset_head)
    log_taken(checkpoint, where)
    put_weights(model, found, where)


def put_weights(model: nn.Module, found: Fit, where: str | os.PathLike) -> None:
    """Give ``model`` the weights found for it, and log how they were made to fit."""
    model.load_state_dict(found.weights, strict=True)
    for line in found.notes:
        note(f"{where}: {line}")
    if found.doubt:
        note(f"{where}: {found.doubt}", logging.WARNING)


def fitting_weights(
    model: nn.Module, checkpoint: Mapping[str, Any], where: str | os.PathLike = "checkpoint"
) -> OrderedDict[str, Tensor]:
    """Return the weights of ``checkpoint`` under the names of ``model``.

    The prefixes ``module.``, ``architecture.model.`` and ``architecture.`` are ignored on both sides, so a plain
    model, an algorithm around it and a wrapped algorithm read each other's files. The names of other projects are
    understood where they then fit exactly (see :mod:`.weight_names`).

    Args:
        model: The module that the weights are for; it is not changed.
        checkpoint: What :func:`read_checkpoint` returned, or a state dict.
        where: Names the source in errors.

    Raises:
        UserError: Missing or unexpected keys, or other shapes; the first five of each are shown. A weight or a
            statistic that is not finite.
    """
    return fit(model, state_dict_of(checkpoint, where), str(where)).weights


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write ``checkpoint`` so that the file appears whole or not at all; equal content gives equal bytes.

    Tensors go to the CPU, views get storage of their own, config objects become plain data.
    """
    content = _portable(checkpoint, {})
    content[DIGEST] = digests(content)
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


def _is_safetensors(path: pathlib.Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header in JSON, then its brace."""
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8


def _reason(error: Exception, path: pathlib.Path) -> str:
    refused = re.search(r"GLOBAL ([\w.]+)|(getattr\(.*\)) is not allowed", str(error))
    if refused:
        name = (refused.group(1) or refused.group(2))[:200]
        return (
            f"refused, it would run '{name}' while loading; only tensors and plain data are read. Where the code that "
            "made it is at hand and trusted, save the weights alone: torch.save(model.state_dict(), FILE)"
        )
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "not enough memory to read it"
    return other_kind(path, str(error)) or "not a checkpoint, or cut short; copy or write it again"


def _portable(value: Any, words: dict[str, str]) -> Any:
    """Return ``value`` with CPU tensors in storage of their own size, and plain containers.

    A pickle says of an object that it was there before. So that equal content gives equal bytes, containers are always
    new, and equal strings are one: the first of them, which ``words`` keeps.
    """
    if isinstance(value, str):
        return words.setdefault(value, value) if type(value) is str else words.setdefault(str(value), str(value))
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.clone() if value.untyped_storage().nbytes() > value.numel() * value.element_size() else value
    if isinstance(value, Mapping):
        result = OrderedDict() if type(value) is OrderedDict else {}
        result.update((_portable(key, words), _portable(item, words)) for key, item in value.items())
        if hasattr(value, "_metadata"):
            result._metadata = _portable(value._metadata, words)
        return result
    if type(value) in (list, tuple):
        return type(value)([_portable(item, words) for item in value])
    if isinstance(value, np.generic):
        return _portable(value.item(), words)
    return _portable(str(value), words) if isinstance(value, pathlib.PurePath) else value
