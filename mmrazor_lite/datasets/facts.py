"""What can be said about any dataset without reading its images: labels, names of classes, which images they are.

Letters: N images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_PLACE = 3  # parts of a path that name an image wherever its data_root is unknown: SPLIT/CLASS/NAME


@dataclass(frozen=True)
class Facts:
    """Of one dataset, through all its wrappers.

    Attributes:
        labels: (N,) int64; None where an image has no label, or several.
        keys: (N,) uint64, the same for the same image whatever folder the data are in; None where nobody can tell.
        several: Whether images have more than one label each.
        unlabelled: Whether they are meant to have none.
        classes: Names that the labels stand for; None where the dataset does not say.
        folders: Names of the class folders, in the order of the labels; None where the images are not in such.
    """

    labels: np.ndarray | None = None
    keys: np.ndarray | None = None
    several: bool = False
    unlabelled: bool = False
    classes: tuple[str, ...] | None = None
    folders: tuple[str, ...] | None = None


def facts_of(dataset: Any) -> Facts:
    """Return the facts of ``dataset``, of whatever class it is."""
    parts = [_of_leaf(leaf, items) for leaf, items in leaves(dataset)]
    metainfo = getattr(dataset, "metainfo", None) or {}
    folders = {part.folders for part in parts}
    classes = metainfo.get("classes")
    return Facts(
        labels=_joined([part.labels for part in parts]),
        keys=_joined([part.keys for part in parts]),
        several=any(part.several for part in parts),
        unlabelled=any(getattr(leaf, "with_label", True) is False for leaf, _ in leaves(dataset)),
        classes=None if classes is None or isinstance(classes, str) else tuple(map(str, classes)),
        folders=folders.pop() if len(folders) == 1 else None,
    )


def leaves(dataset: Any) -> list[tuple[Any, np.ndarray]]:
    """Return the datasets that hold the images of ``dataset``, and which of their items it shows, in its order."""
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    size, chosen = len(dataset), _choice(dataset)
    if chosen is not None:
        return [(leaf, items[chosen]) for leaf, items in leaves(dataset.dataset)]
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, Sequence) and parts:
        found = [leaf for part in parts for leaf in leaves(part)]
        if sum(len(items) for _, items in found) == size:
            return found
    return [(dataset, np.arange(size))]


def locate(dataset: Any, index: int) -> tuple[Any, int]:
    """Return the dataset that holds item ``index`` of ``dataset``, and its index there."""
    while True:
        chosen = _choice(dataset)
        parts = getattr(dataset, "datasets", None)
        if chosen is not None:
            dataset, index = dataset.dataset, int(chosen[index])
        elif isinstance(parts, Sequence) and parts and hasattr(dataset, "cumulative_sizes"):
            part = int(np.searchsorted(dataset.cumulative_sizes, index, side="right"))
            index -= int(dataset.cumulative_sizes[part - 1]) if part else 0
            dataset = parts[part]
        else:
            return dataset, index


def name_of(dataset: Any, index: int) -> str:
    """Name one item for people: its file where it is one."""
    leaf, item = locate(dataset, index)
    try:
        info = leaf.get_data_info(item)
    except Exception:  # a dataset of the user's own; the error to be told is another one
        info = {}
    path = info.get("img_path") if isinstance(info, dict) else None
    return f"'{path}'" if path else f"item {item} of {type(leaf).__name__}"


def _choice(dataset: Any) -> np.ndarray | None:
    """Which items of ``dataset.dataset`` a wrapper shows; None where it is no wrapper of one dataset."""
    inner = getattr(dataset, "dataset", None)
    if inner is None or not hasattr(inner, "__len__") or not hasattr(inner, "__getitem__") or isinstance(inner, dict):
        return None
    if hasattr(dataset, "full_init"):
        dataset.full_init()
        inner = dataset.dataset
    for name in ("indices", "repeat_indices"):  # HeldOut and torch's Subset; ClassBalancedDataset
        items = getattr(dataset, name, None)
        if items is not None:
            return np.asarray(items, dtype=np.int64)
    size = len(inner)
    return np.arange(len(dataset)) % size if size else np.arange(0)  # as it is, or repeated


def _of_leaf(leaf: Any, items: np.ndarray) -> Facts:
    folders = getattr(leaf, "folders", None)
    labels, keys = getattr(leaf, "records", None) or (None, None)
    if keys is not None and len(keys) == len(leaf):  # one of ours, which knows them without unpacking each record
        return Facts(None if labels is None else labels[items], keys[items], folders=folders)
    if not hasattr(leaf, "get_data_info"):
        return Facts(folders=folders)
    infos = [leaf.get_data_info(int(index)) for index in items]
    labels = [info.get("gt_label") for info in infos]
    several = any(isinstance(label, Sequence | np.ndarray) and np.size(label) != 1 for label in labels)
    known = bool(labels) and not several and all(label is not None for label in labels)
    return Facts(
        labels=np.array([int(np.asarray(label).reshape(())) for label in labels], dtype=np.int64) if known else None,
        keys=_keys(leaf, infos, items),
        several=several,
        folders=folders,
    )


def _keys(leaf: Any, infos: list[dict], items: np.ndarray) -> np.ndarray:
    own, about = getattr(leaf, "_indices", None), f"{type(leaf).__name__} {getattr(leaf, 'split', '')}"
    places = np.asarray(own)[items] if isinstance(own, Sequence) else items  # as they are numbered in the whole set
    root = str(getattr(leaf, "data_root", "") or "")
    named = zip(infos, places.tolist(), strict=True)
    return np.array(
        [
            key_of_path(info["img_path"], root) if "img_path" in info else _hash(f"{about} {info.get('index', place)}")
            for info, place in named
        ],
        dtype=np.uint64,
    )


def keys_of_paths(paths: Sequence[str], root: str) -> np.ndarray:
    """The numbers (N,) that image files go by, see :func:`key_of_path`."""
    return np.array([key_of_path(path, root) for path in paths], dtype=np.uint64)


def key_of_path(path: str, root: str) -> int:
    """Return the number that an image file goes by: of its path below the folder of the data, ``SPLIT/CLASS/NAME``.

    Where the folder of the data is that of a split, its own name counts too.
    """
    path = path.replace("\\", "/")
    below = path[len(root) :].strip("/") if root and path.startswith(root) else path
    if below.count("/") < _PLACE - 1 or below is path:
        below = "/".join(os.path.abspath(path).rsplit("/", _PLACE)[-_PLACE:])
    return _hash(below)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    return np.concatenate(parts) if parts and all(part is not None for part in parts) else None
