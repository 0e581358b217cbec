"""Images in class folders or in a list: mmpretrain's two datasets, with every label said by a name.

Letters: N images.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset as PlainCustomDataset
from mmpretrain.datasets import ImageNet as PlainImageNet
from mmpretrain.datasets.custom import find_folders, get_samples

from mmrazor_lite.datasets.facts import keys_of_paths
from mmrazor_lite.datasets.image_list import read_list
from mmrazor_lite.datasets.unreadable import say_skipped, without_unreadable
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import is_hidden
from mmrazor_lite.registry import DATASETS

_SHOWN = 5


@DATASETS.register_module()
class CustomDataset(PlainCustomDataset):
    """Images in class folders, or in a list of images and labels.

    As mmpretrain's, but for these: hidden folders are no classes and hold no images; where the names of the classes
    are given (``classes`` or ``metainfo``), a folder gets the label of its name, so that some may be missing; a list
    is read by :func:`~mmrazor_lite.datasets.image_list.read_list`.

    Args:
        data_root: Folder that the others are in.
        data_prefix: Folder of the class folders, or of the images of a list.
        ann_file: The list; by default the class folders are read.
        with_label: False for images without labels.
        skip_unreadable: Leave out the images that cannot be decoded. Every image is read once for that.
        **kwargs: As for mmpretrain's ``CustomDataset``: ``classes``, ``metainfo``, ``pipeline``, ``extensions`` ...

    Attributes:
        folders: Names of the class folders in the order of the labels; None for a list.
        records: Labels (N,), if there are, and keys (N,) of all images, see :mod:`mmrazor_lite.datasets.facts`.
        skipped: Paths of the images left out.

    Raises:
        UserError: No images, class folders that are not the given classes, or what the list gets wrong.
    """

    folders: tuple[str, ...] | None = None
    records: tuple[np.ndarray | None, np.ndarray] | None = None

    def __init__(self, *args: Any, skip_unreadable: bool = False, **kwargs: Any) -> None:
        self.skip_unreadable = skip_unreadable
        self.skipped: list[str] = []
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return path and label of every image."""
        if not self.ann_file and self.with_label:
            return self._of_folders()
        folder, backend = self.img_prefix, get_file_backend(self.img_prefix, enable_singleton=True)
        if self.ann_file:
            samples = read_list(self.ann_file, folder, self.with_label, "ann_file")
        else:
            samples = [(name, None) for name in self._find_samples() if not _hidden(name)]
        paths = [backend.join_path(folder, name) for name, _ in samples]
        labels = [{} if label is None else {"gt_label": label} for _, label in samples]
        return [{"img_path": path, **label} for path, label in zip(paths, labels, strict=True)]

    def filter_data(self) -> list[dict]:
        """Leave out what cannot be read, where that is asked for."""
        records = super().filter_data()
        if not self.skip_unreadable:
            return records
        kept, self.skipped = without_unreadable(records, self.pipeline.transforms)
        say_skipped(self.skipped, len(records), self.img_prefix)
        return kept

    def _serialize_data(self) -> Any:
        paths, labels = [record["img_path"] for record in self.data_list], None
        if self.with_label:
            labels = np.array([record["gt_label"] for record in self.data_list], dtype=np.int64)
        self.records = labels, keys_of_paths(paths, str(self.data_root or ""))
        return super()._serialize_data()

    def _of_folders(self) -> list[dict]:
        root, backend = self.img_prefix, get_file_backend(self.img_prefix, enable_singleton=True)
        names = [name for name in find_folders(root)[0] if not _hidden(name)]
        self.folders, numbers = _numbered(names, self.CLASSES, root)
        samples, _ = get_samples(root, {name: numbers[name] for name in names}, self.is_valid_file)
        samples = [(name, label) for name, label in samples if not _hidden(name)]
        if not samples:
            found = f"has {len(names)} class folders" if names else "has no class folders"
            raise UserError(f"data folder '{root}' {found} and no image in them ({', '.join(sorted(self.extensions))})")
        there = {label for _, label in samples}
        empty = [name for number, name in enumerate(self.folders) if number not in there]
        if empty:
            print_log(
                f"'{root}': no image of {_listed(empty)} ({len(empty)} of {len(self.folders)} classes)",
                logger="current",
                level=logging.WARNING,
            )
        if self.CLASSES is None:
            self._metainfo["classes"] = self.folders
        return [{"img_path": backend.join_path(root, name), "gt_label": label} for name, label in samples]


@DATASETS.register_module()
class ImageNet(CustomDataset):
    """ImageNet-1k in class folders, or in a flat folder with a list in ``meta``; see :class:`CustomDataset`.

    Args:
        data_root: Folder that holds ``train``, ``val`` and ``meta``.
        split: ``train``, ``val`` or ``test`` (which has no labels): the folder, and the list ``meta/SPLIT.txt`` where
            there is one.
        data_prefix: Another folder than that of the split.
        ann_file: Another list.
        **kwargs: As for :class:`CustomDataset`.

    Raises:
        UserError: As for :class:`CustomDataset`.
    """

    METAINFO = PlainImageNet.METAINFO

    def __init__(
        self, data_root: str = "", split: str = "", data_prefix: Any = "", ann_file: str = "", **kwargs: Any
    ) -> None:
        if split not in ("", "train", "val", "test"):
            raise UserError(f"ImageNet: split is '{split}', allowed are train, val and test")
        if split == "test":
            kwargs["with_label"] = False
        if split and not ann_file and Path(data_root, "meta", f"{split}.txt").is_file():
            ann_file = f"meta/{split}.txt"
        kwargs = {"extensions": PlainImageNet.IMG_EXTENSIONS, **kwargs}
        super().__init__(data_root=data_root, data_prefix=data_prefix or split, ann_file=ann_file, **kwargs)


def _hidden(name: str) -> bool:
    return any(is_hidden(part) for part in Path(name).parts)


def _numbered(folders: Sequence[str], classes: Sequence[str] | None, root: str) -> tuple[tuple, dict[str, int]]:
    """The names that labels stand for, in their order, and the label of each folder.

    Folders are numbered by the names of the classes where they have these, else in the order of their own names.
    """
    if classes is None or not set(folders) & set(classes):
        if classes is not None and len(folders) != len(classes):
            raise UserError(
                f"'{root}' has {len(folders)} class folders ({_listed(folders)}), the dataset has {len(classes)} "
                f"classes of other names ({_listed(classes)}): name the folders so, or give their names as "
                "metainfo=dict(classes=[...])"
            )
        return tuple(folders), {name: number for number, name in enumerate(folders)}
    foreign = [name for name in folders if name not in set(classes)]
    if foreign:
        raise UserError(
            f"'{root}' has class folders that are none of the {len(classes)} classes: {_listed(foreign)}; the classes "
            f"are {_listed(classes)}: rename or remove these folders"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return tuple(classes), {name: numbers[name] for name in folders}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
