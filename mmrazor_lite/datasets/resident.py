"""All images of a dataset in one tensor of bytes, on the device where they fit.

Letters: N images, B images of a batch, C channels, H W space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrazor_lite.datasets.facts import facts_of
from mmrazor_lite.datasets.reading import read_item
from mmrazor_lite.errors import UserError
from mmrazor_lite.plain_data import plain
from mmrazor_lite.registry import DATASETS

KEPT = 4  # sets of images that a process keeps for its next loaders
_KEPT: dict[str, ResidentImages] = {}


class ResidentImages:
    """The images and labels of a dataset.

    Args:
        dataset: A labelled dataset whose items have ``inputs`` (C, H, W) uint8 and ``data_samples``.
        device: Where batches are wanted.
        memory_fraction: Share of the free memory that the images may take.
        fallback: Use the host's memory, then none, where they do not fit.

    Attributes:
        labels: (N,) int64, in the host's memory: what reads them first is Python.
        facts: What is known of the dataset.
        home: Where the images are; None where they are read for every batch.
        shape: (C, H, W) of one image.

    Raises:
        UserError: See :class:`~mmrazor_lite.datasets.device_images.DeviceImages`.
    """

    def __init__(self, dataset: Any, device: torch.device, memory_fraction: float, fallback: bool) -> None:
        if hasattr(dataset, "full_init"):
            dataset.full_init()
        if len(dataset) == 0:
            raise UserError("DeviceImages: the dataset has no images")
        self.device = device
        self.dataset: Any = dataset
        self.metainfo = dict(getattr(dataset, "metainfo", None) or {})
        self.shape = tuple(_image(dataset, 0, None).shape)
        self.bytes = len(dataset) * math.prod(self.shape)
        self.home = self._place(memory_fraction, fallback)
        labels = np.empty(len(dataset), dtype=np.int64)
        images = torch.empty((len(dataset), *self.shape), dtype=torch.uint8) if self.home else None
        for index in range(len(dataset)):
            if images is None:
                labels[index] = dataset.get_data_info(index)["gt_label"]
                continue
            item = read_item(dataset, index, "DeviceImages")
            images[index] = _image(item, index, self.shape)
            labels[index] = int(item["data_samples"].gt_label)
        self.labels = torch.from_numpy(labels)
        self.facts = facts_of(dataset)
        self._images = None if images is None else images.to(self.home)
        if self._images is not None:
            self.dataset = None  # it may hold as much memory again

    def take(self, indices: np.ndarray) -> Tensor:
        """Return images ``indices`` (B,) as (B, C, H, W) uint8 on the device."""
        if self._images is None:
            images = torch.stack([_image(self.dataset, int(index), self.shape) for index in indices])
        else:
            images = self._images.index_select(0, torch.from_numpy(indices).to(self._images.device))
        return images.to(self.device, non_blocking=True)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        where = f"{gib(self.bytes)} on {self.home}" if self.home else "read for every batch"
        return f"{len(self.labels):,} images of {size}, {where}"

    def _place(self, memory_fraction: float, fallback: bool) -> torch.device | None:
        places = [self.device] if self.device.type == "cpu" else [self.device, torch.device("cpu")]
        for place in places:
            if self.bytes <= memory_fraction * free_bytes(place):
                return place
            if not fallback:
                size = "x".join(map(str, self.shape))
                raise UserError(
                    f"DeviceImages: {len(self.dataset):,} images of {size} take {gib(self.bytes)}, {place} has "
                    f"{gib(free_bytes(place))} free, of which memory_fraction={memory_fraction:g} may be used: give "
                    "smaller or fewer images, or fallback=True, which keeps them in the host's memory or reads them "
                    "for every batch"
                )
        return None


def resident(dataset: Any, device: torch.device, memory_fraction: float, fallback: bool) -> ResidentImages:
    """Return the images of a dataset or of its config; those of an equal config are read once in a process."""
    if not isinstance(dataset, Mapping):
        return ResidentImages(dataset, device, memory_fraction, fallback)
    key = repr((plain(dataset), device, memory_fraction, fallback))
    if key not in _KEPT:
        while len(_KEPT) >= KEPT:
            del _KEPT[next(iter(_KEPT))]
        _KEPT[key] = ResidentImages(DATASETS.build(plain(dataset)), device, memory_fraction, fallback)
    return _KEPT[key]


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else 1 << 62  # no way to know: as the ordinary pipeline, which asks for nothing


def gib(size: float) -> str:
    """A number of bytes for people."""
    return f"{size / 2**30:,.2f} GiB"


def _image(source: Any, index: int, shape: tuple[int, ...] | None) -> Tensor:
    """The image of item ``index`` of a dataset, or of the item itself."""
    item = source if isinstance(source, Mapping) else read_item(source, index, "DeviceImages")
    image = item.get("inputs") if isinstance(item, Mapping) else None
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.dim() != 3:
        found = f"{image.dtype} of {image.dim()} dimensions" if isinstance(image, Tensor) else type(image).__name__
        raise UserError(
            f"DeviceImages: image {index} is {found}, needed is a uint8 tensor of three: end the pipeline of its "
            "dataset in dict(type='PackInputs') and leave normalising to the preprocessor"
        )
    if shape is not None and tuple(image.shape) != shape:
        sizes = ["x".join(map(str, size)) for size in (image.shape, shape)]
        raise UserError(
            f"DeviceImages: image {index} has {sizes[0]}, image 0 has {sizes[1]}: all must have one size, add "
            "dict(type='Resize', ...) to the pipeline of its dataset"
        )
    return image
