"""Random images in the place of a data set: what is timed does not depend on what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

NAME, DIFFERENT = "BenchmarkImages", 64


class BenchmarkImages(torch.utils.data.Dataset):
    """Random images (C, H, W) as bytes, with labels: some different ones, again and again.

    Args:
        number: How many.
        shape: (C, H, W).
        classes: Number of labels.
        split: Those of two splits are other images.
    """

    def __init__(self, number: int, shape: Sequence[int], classes: int = 10, split: str = "train") -> None:
        generator = torch.Generator().manual_seed(len(split))
        self._images = torch.randint(256, (DIFFERENT, *shape), generator=generator, dtype=torch.uint8)
        self.number, self.classes, self.split = number, classes, split
        self.metainfo = {"classes": tuple(map(str, range(classes)))}

    def __len__(self) -> int:
        return self.number

    def get_data_info(self, index: int) -> dict[str, int]:
        """The label of an image."""
        return {"gt_label": index % self.classes}

    def __getitem__(self, index: int) -> dict[str, Any]:
        from mmpretrain.structures import DataSample

        sample = DataSample().set_gt_label(index % self.classes)
        return {"inputs": self._images[index % DIFFERENT], "data_samples": sample}


def random_images(number: int, shape: Sequence[int], classes: int = 10, split: str = "train") -> dict[str, Any]:
    """The config of such images."""
    from mmrazor_lite.registry import DATASETS

    if NAME not in DATASETS.module_dict:
        DATASETS.register_module(module=BenchmarkImages)
    return {"type": f"mmrazor_lite.{NAME}", "number": number, "shape": tuple(shape), "classes": classes, "split": split}


def random_loader(loader: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The config of a data loader of CIFAR-10 with random images in the innermost place."""
    return {**loader, "dataset": _inside(loader["dataset"], number)}


def _inside(dataset: Mapping[str, Any], number: int) -> dict[str, Any]:
    if isinstance(dataset.get("dataset"), Mapping):
        return {**dataset, "dataset": _inside(dataset["dataset"], number)}
    return random_images(number, (3, 32, 32), 10, dataset.get("split", "train"))
