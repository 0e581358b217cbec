"""Targets beside images: those of some of the images, and those of several batches as one.

They are a tensor of N rows, a list of an item for each image, or dicts, tuples and lists of such. Letters: N images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from mmrazor_lite.errors import UserError, failing, short

BATCH = 50  # images at once


def sliced(targets: Any, start: int, stop: int, count: int) -> Any:
    """Targets of the images from start to stop, of so many."""
    return picked(targets, slice(start, stop), count)


def picked(targets: Any, places: slice | Tensor, count: int) -> Any:
    """Targets of some of so many images, in the same structure.

    Args:
        targets: As a loader gives them, or None.
        places: Which images: a slice, or their numbers (M,).
        count: N.

    Raises:
        UserError: Something holds no target for each image.
    """
    if targets is None:
        return None
    if isinstance(targets, Mapping):
        return {key: picked(part, places, count) for key, part in targets.items()}
    if isinstance(targets, list) and _is_by_image(targets, count):
        return targets[places] if isinstance(places, slice) else [targets[place] for place in places.tolist()]
    if isinstance(targets, (tuple, list)):
        return _as(targets, (picked(part, places, count) for part in targets))
    if not isinstance(targets, Tensor) or targets.dim() == 0:
        _refuse(targets)
    if len(targets) != count:
        raise UserError(f"data: targets of shape {tuple(targets.shape)} beside {count} images: give one for each")
    return targets[places if isinstance(places, slice) else places.to(targets.device)]


def joined(batches: Sequence[tuple[Tensor, Any]], most: int | None = None) -> tuple[Tensor, Any]:
    """Batches (images, targets) as one; of the last one so many that there are ``most`` images at most.

    Raises:
        UserError: Their targets are of several structures.
    """
    parts, targets = zip(*batches, strict=True)
    counts = [len(part) for part in parts]
    with failing("data: targets of batches do not fit together"):
        whole = _together(targets, counts)
    count = sum(counts) if most is None else min(sum(counts), most)
    last = counts[-1] - sum(counts) + count
    return torch.cat([*parts[:-1], parts[-1][:last]]), sliced(whole, 0, count, sum(counts))


def moved(targets: Any, device: torch.device) -> Any:
    """Targets with all tensors on a device."""
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, targets)


def _together(parts: Sequence[Any], counts: Sequence[int]) -> Any:
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, Mapping):
        return {key: _together([part[key] for part in parts], counts) for key in first}
    if isinstance(first, list) and any(map(_is_by_image, parts, counts)):
        return [item for part in parts for item in part]
    if isinstance(first, (tuple, list)):
        return _as(first, (_together(column, counts) for column in zip(*parts, strict=True)))
    _refuse(first)


def _is_by_image(targets: list, count: int) -> bool:
    """Whether a list holds an item for each of so many images; else its items are of all, as those of a tuple.

    A list of N items does, unless each item is a tensor of N rows, or dicts, tuples and lists of such alone: that is
    what torch's loader makes of samples (image, (a, b)). A batch of N images with N boxes each looks like that too; of
    several batches one that does not is enough to tell.
    """
    return len(targets) == count and not all(_has_rows(part, count) for part in targets)


def _has_rows(part: Any, count: int) -> bool:
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, (tuple, list)):
        return bool(part) and all(_has_rows(leaf, count) for leaf in part)
    return isinstance(part, Tensor) and part.dim() > 0 and len(part) == count


def _as(like: tuple | list, items: Iterable[Any]) -> Any:
    """Items in a list or tuple of the same kind; one with names is called with them one by one."""
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


def _refuse(targets: Any) -> NoReturn:
    if isinstance(targets, (int, float, np.generic, Tensor)):
        raise UserError(
            f"data: targets are {short(targets)}, of a single sample: samples in a list become batches by "
            f"DataLoader(samples, batch_size={BATCH})"
        )
    raise UserError(f"data: targets are {short(targets)}: give tensors, or tuples, lists and dicts of them")
