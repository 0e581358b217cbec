"""Cut a training set in two, so that a search scores subnets on images that training has not seen.

Letters: N images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from mmrazor_lite.datasets.facts import facts_of
from mmrazor_lite.errors import UserError, check_number, short
from mmrazor_lite.registry import DATASETS

PARTS = ("train", "held_out", "all")


def held_out_mask(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose about ``fraction`` of the images, stratified: a pure function of its arguments.

    Images are ordered by class, at random within a class, and every 1/fraction-th one is taken: the share of each
    class differs from ``fraction`` by less than one image, also where a class has fewer than 1/fraction images.

    Args:
        labels: (N,) class of each image.
        fraction: share to hold out, between 0 and 1.
        seed: of the order within a class and of the starting point.

    Returns:
        (N,) bool, True where the image is held out.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(labels)), labels))
    steps = np.floor(np.arange(len(labels) + 1) * fraction + rng.random())
    mask = np.zeros(len(labels), dtype=bool)
    mask[order] = np.diff(steps) > 0
    return mask


@DATASETS.register_module()
class HeldOut:
    """One part of a labelled dataset: the images to train on, or a stratified share held out of it.

    Two datasets with the same ``fraction`` and ``seed`` and different ``part`` are disjoint and together complete,
    whatever their pipelines are.

    Args:
        dataset: config of (or) the whole labelled dataset.
        part: ``"train"``, ``"held_out"``, or ``"all"`` for both.
        fraction: share held out. The official AutoSlim code holds out 50,000 of 1,281,167 images, about 0.04.
        seed: of the choice.

    Raises:
        UserError: unknown part, a fraction outside (0, 1), a part without images, or images without one label each.
    """

    def __init__(self, dataset: dict | BaseDataset, part: str = "train", fraction: float = 0.04, seed: int = 0) -> None:
        if part not in PARTS:
            raise UserError(f"HeldOut: part is '{part}', allowed are {', '.join(PARTS)}")
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction < 1:
            raise UserError(f"HeldOut: fraction={short(fraction)}: give a number between 0 and 1")
        check_number("HeldOut: seed", seed, 0, whole=True)
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.part, self.fraction, self.seed = part, fraction, seed
        self.indices = np.empty(0, dtype=int)
        self._ready = False

    def full_init(self) -> None:
        """Load the dataset and choose the part; mmengine calls it before the loader starts."""
        if self._ready:
            return
        self.dataset.full_init()
        total = len(self.dataset)
        if self.part == "all":
            self.indices = np.arange(total)
        else:
            labels = facts_of(self.dataset).labels
            if labels is None:
                raise UserError(
                    f"HeldOut: the images of {type(self.dataset).__name__} have no label, or several each; a share of "
                    "every class is held out, which takes one label per image"
                )
            mask = held_out_mask(labels, self.fraction, self.seed)
            self.indices = np.flatnonzero(mask if self.part == "held_out" else ~mask)
        if len(self.indices) == 0:
            raise UserError(
                f"HeldOut: no image in part '{self.part}' of {total} images with fraction={self.fraction}: "
                "give a fraction of at least one image, or more images"
            )
        self._ready = True

    @property
    def metainfo(self) -> dict:
        """Classes and other facts of the whole dataset."""
        return self.dataset.metainfo

    @property
    def CLASSES(self) -> list | None:
        """Names of the classes, as mmpretrain's datasets give them."""
        return self.metainfo.get("classes")

    def get_data_info(self, index: int) -> dict:
        """Return the record of image ``index`` of this part, before the pipeline."""
        self.full_init()
        return self.dataset.get_data_info(int(self.indices[index]))

    @property
    def seeded_batch(self) -> Callable | None:
        """Gives a whole batch at once, where the dataset does; see ``SeededDataset``."""
        whole = getattr(self.dataset, "seeded_batch", None)
        return whole and partial(self._seeded_batch, whole)

    def _seeded_batch(self, whole: Callable, indices: Sequence[int], seed: int, epochs: np.ndarray) -> Sequence:
        self.full_init()
        return whole(self.indices[np.asarray(indices)], seed, epochs)

    def __len__(self) -> int:
        self.full_init()
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        self.full_init()
        return self.dataset[int(self.indices[index])]

    def __getitems__(self, indices: Sequence[int]) -> Sequence:
        self.full_init()
        whole = getattr(self.dataset, "__getitems__", None)
        return whole(self.indices[indices].tolist()) if whole else [self[index] for index in indices]
