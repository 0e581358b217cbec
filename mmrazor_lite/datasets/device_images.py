"""Small images at the speed of the device: kept there as bytes, cropped and flipped there, a batch at a time.

Letters: N images of the set, B images of a batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import get_worker_info

from mmrazor_lite.datasets.resident import ResidentImages, resident
from mmrazor_lite.datasets.shifts import shifted
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import DATASETS

PADDINGS = ("constant", "reflect")


class ImageBatch(Sequence):
    """A batch that is one tensor already, and to whoever asks for single items a sequence of them.

    Attributes:
        inputs: (B, C, H, W) uint8.
        data_samples: B data samples with ``gt_label``.
    """

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs = inputs
        self.data_samples = [DataSample(gt_label=label) for label in labels.split(1)]

    def __len__(self) -> int:
        return len(self.data_samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"inputs": self.inputs[index], "data_samples": self.data_samples[index]}


@FUNCTIONS.register_module()
def whole_batch(items: Sequence) -> dict[str, Any]:
    """The ``collate_fn`` for :class:`DeviceImages`: the tensor as it is; others as ``pseudo_collate`` does."""
    if isinstance(items, ImageBatch):
        return {"inputs": items.inputs, "data_samples": items.data_samples}
    return pseudo_collate(items)


@DATASETS.register_module()
class DeviceImages:
    """A dataset of small images that lives on the device as uint8; crop and flip happen there, for a whole batch.

    Takes the place of a dataset in any config. Its images pass once through the pipeline of ``dataset``, which ends in
    ``PackInputs`` and draws nothing at random; the model's preprocessor normalises the batch where it is. With
    ``collate_fn=dict(type='whole_batch')`` a batch stays one tensor on its way; ``num_workers`` is 0.

    What is drawn depends on (seed, epoch, index) alone, on every device. Loaders of one process over equal datasets
    share the images.

    Args:
        dataset: Config of (or) the labelled dataset.
        crop_padding: Pixels by which images are padded on each side before a crop of their own size; 0 for no crop.
        padding_mode: ``"constant"`` (zeros) or ``"reflect"``.
        flip_prob: Share of images that are mirrored left to right.
        device: Where the images live; by default where the model runs.
        memory_fraction: Share of the free memory that they may take.
        fallback: Where they do not fit on the device: keep them in the host's memory, and where they do not fit there
            either, read them from ``dataset`` for every batch. The batches are the same. By default that is refused.

    Raises:
        UserError: An option out of its range; images that are no uint8 tensors of one size, or that do not fit in
            memory (when they are read).
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | Any,
        crop_padding: int = 0,
        padding_mode: str = "constant",
        flip_prob: float = 0.0,
        device: str | None = None,
        memory_fraction: float = 0.5,
        fallback: bool = False,
    ) -> None:
        if type(crop_padding) is not int or crop_padding < 0:
            raise UserError(f"DeviceImages: crop_padding={crop_padding!r}, allowed is a whole number, 0 or more")
        if padding_mode not in PADDINGS:
            raise UserError(f"DeviceImages: padding_mode={padding_mode!r}, allowed are {' and '.join(PADDINGS)}")
        for name, value in (("flip_prob", flip_prob), ("memory_fraction", memory_fraction)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"DeviceImages: {name}={value!r}, allowed is a number from 0 to 1")
        self.dataset = dataset
        self.crop_padding, self.padding_mode, self.flip_prob = crop_padding, padding_mode, flip_prob
        self.device = torch.device(device or get_device())
        self.memory_fraction, self.fallback = memory_fraction, fallback
        self._images: ResidentImages | None = None

    def full_init(self) -> None:
        """Read the images; mmengine calls it before the loader starts."""
        if self._images is not None:
            return
        self._images = resident(self.dataset, self.device, self.memory_fraction, self.fallback)
        height, width = self._images.shape[1:]
        if self.padding_mode == "reflect" and self.crop_padding >= min(height, width):
            raise UserError(
                f"DeviceImages: crop_padding={self.crop_padding} with padding_mode='reflect' needs images of more than "
                f"{self.crop_padding} pixels, these have {height}x{width}"
            )
        print_log(f"DeviceImages: {self._images}", logger="current")

    @property
    def images(self) -> ResidentImages:
        """The images and where they are."""
        self.full_init()
        return self._images

    @property
    def CLASSES(self) -> list | None:
        """Names of the classes, as mmpretrain's datasets give them."""
        return self.metainfo.get("classes")

    @property
    def metainfo(self) -> dict:
        """What the dataset tells about itself, such as its classes."""
        return self.images.metainfo

    @property
    def records(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels and keys of the images, see :mod:`mmrazor_lite.datasets.facts`."""
        return self.images.labels.numpy(), self.images.facts.keys

    @property
    def folders(self) -> tuple[str, ...] | None:
        """Names of the class folders, where the images are in such."""
        return self.images.facts.folders

    def get_data_info(self, index: int) -> dict:
        """Return the label of one image."""
        return {"gt_label": int(self.images.labels[index])}

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        """A batch whose crops and flips are drawn from numpy's random state, for loaders without a seed of ours."""
        seed = int(np.random.randint(2**31)) if self.crop_padding or self.flip_prob else 0
        return self.seeded_batch(indices, seed, np.zeros(len(indices), dtype=np.int64))

    def seeded_batch(self, indices: Sequence[int] | np.ndarray, seed: int, epochs: np.ndarray) -> ImageBatch:
        """Return images ``indices`` (B) as epochs ``epochs`` (B) of a run with ``seed`` see them."""
        if self.device.type != "cpu" and get_worker_info() is not None:
            raise UserError(f"DeviceImages: its images are on {self.device}: set num_workers=0 in this data loader")
        indices = np.asarray(indices, dtype=np.int64)
        images = self.images.take(indices)
        if self.crop_padding or self.flip_prob:
            images = self._augmented(images, uniform(seed, np.asarray(epochs), indices, count=3))
        return ImageBatch(images, self.images.labels[indices])

    def _augmented(self, images: Tensor, draws: np.ndarray) -> Tensor:
        """Crop and flip."""
        pad = self.crop_padding
        starts = (draws[:, :2] * (2 * pad + 1)).astype(np.int64) - pad
        numbers = np.column_stack([starts, draws[:, 2] < self.flip_prob])
        return shifted(images, *torch.from_numpy(numbers).to(images.device, non_blocking=True).T, self.padding_mode)


def uniform(seed: int, epochs: np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """Return (B, count) numbers in [0, 1), a pure function of (seed, epoch, index).

    A generator per image would cost more than the batch: this mixes the bits of the key and of a counter (the finaliser
    of splitmix64, Steele, Lea and Flood, OOPSLA 2014), for all images at once.
    """
    key = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    mixed = np.zeros(len(indices), dtype=np.uint64)
    for part in (np.full(len(indices), key), epochs.astype(np.uint64), indices.astype(np.uint64)):
        mixed = _mix(mixed ^ part)
    numbers = _mix(mixed[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return (numbers >> np.uint64(11)).astype(np.float64) / 2**53


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
