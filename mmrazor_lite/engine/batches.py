"""The same batches every time: what subnets are calibrated and scored on, on every process, without shuffling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.registry import FUNCTIONS
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from mmrazor_lite.datasets.reading import GuardedCollate
from mmrazor_lite.engine.first_use import probe_batch
from mmrazor_lite.engine.seeding import SeededDataset
from mmrazor_lite.errors import UserError, check_number, failing, short
from mmrazor_lite.registry import DATASETS

CALIBRATION_IMAGES = 4096  # that batch norm is recalibrated on unless the config says how many

_LOADER_KEYS = (
    "num_workers", "pin_memory", "pin_memory_device", "prefetch_factor", "timeout", "multiprocessing_context",
)  # fmt: skip
_TRAINING_KEYS = (
    "sampler", "batch_sampler", "persistent_workers", "drop_last", "worker_init_fn", "num_batch_per_epoch",
    "disable_subprocess_warning",
)  # fmt: skip


def without_worker_options(dataloader: Mapping[str, Any]) -> dict[str, Any]:
    """A data loader config for ``torch``, which refuses options of worker processes where ``num_workers`` is 0."""
    vain = () if dataloader.get("num_workers") else ("persistent_workers", "prefetch_factor")
    return {key: value for key, value in dataloader.items() if key not in vain}


class FixedBatches:
    """A data loader config as a fixed list of preprocessed batches, kept in memory when they fit.

    Every process gets all images, in the same order and with the same augmentation: the config's sampler and the like
    decide how training walks through the data, they have no say here. Batches differ by at most one image in size, so
    that an average over batches weighs the images equally.

    Args:
        dataloader: A data loader config (``dataset``, ``batch_size``, ``num_workers``, ...).
        preprocessor: The model's data preprocessor.
        num_images: Take so many images, chosen at random by ``seed``; ``None`` takes all, in order, and so does the
            default of the loops, :data:`CALIBRATION_IMAGES`, where there are fewer.
        seed: Of the choice and of random augmentation.
        cache_bytes: Images up to this size altogether stay in memory after the first pass.
        where: The config key, for errors.

    Attributes:
        dataset: Where the images come from.
        indices: Which of its items they are.

    Raises:
        UserError: No dataset or batch size given, an unknown key, or no images.
    """

    def __init__(
        self,
        dataloader: Mapping[str, Any],
        preprocessor: nn.Module,
        num_images: int | None = None,
        seed: int = 0,
        cache_bytes: int = 2 << 30,
        where: str = "dataloader",
    ) -> None:
        config = without_worker_options(dataloader)
        for key in ("dataset", "batch_size"):
            if key not in config:
                raise UserError(f"{where}: the key '{key}' is missing")
        dataset = config.pop("dataset")
        dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        if hasattr(dataset, "full_init"):
            dataset.full_init()
        if len(dataset) == 0:
            raise UserError(f"{where}: the dataset {type(dataset).__name__} has no images")
        self.dataset = dataset
        self.metainfo = getattr(dataset, "metainfo", None)
        self.preprocessor = preprocessor
        self.cache_bytes = cache_bytes
        self.batch_size = config.pop("batch_size")
        check_number(f"{where}: batch_size", self.batch_size, 1, whole=True)
        if num_images is not None and num_images > len(dataset) and num_images != CALIBRATION_IMAGES:
            raise UserError(
                f"{where}: calibrate_sample_num={short(num_images)}, the dataset has {len(dataset)} images; give "
                "so many at most"
            )
        indices = np.arange(len(dataset))
        if num_images is not None and num_images < len(dataset):
            indices = np.sort(np.random.default_rng(seed).choice(indices, num_images, replace=False))
        self.indices = indices
        self.num_images = len(indices)
        self._where = where
        self._loader = self._build_loader(config, SeededDataset(dataset, seed, where), indices, where)
        self._cache: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield ``{'inputs': (N, C, H, W) on the model's device, 'data_samples': list or None}``."""
        if self._cache is not None:
            yield from self._cache
            return
        kept: list[dict[str, Any]] | None = []
        room = self.cache_bytes
        for raw in self._loader:
            batch = self.preprocessor(raw, False)
            if kept is not None:
                room -= _size(batch)
                kept = [*kept, batch] if room >= 0 else None
            yield batch
        self._cache = kept

    def probe(self) -> dict[str, Any]:
        """A preprocessed batch of a few images, spread over the dataset.

        Raises:
            UserError: There is none for the model; names the section.
        """
        raw = probe_batch(self._loader.dataset, self._loader.collate_fn, self._where)
        with failing(f"{self._where}: the model cannot take its images"):
            return self.preprocessor(raw, False)

    def _build_loader(self, config: dict[str, Any], dataset: Dataset, indices: np.ndarray, where: str) -> DataLoader:
        collate = config.pop("collate_fn", {"type": "pseudo_collate"})
        if isinstance(collate, Mapping):
            collate = FUNCTIONS.get(collate["type"])
        options = {key: config.pop(key) for key in _LOADER_KEYS if key in config}
        unknown = [key for key in config if key not in _TRAINING_KEYS]
        if unknown:
            allowed = ", ".join(("dataset", "batch_size", "collate_fn", *_LOADER_KEYS, *_TRAINING_KEYS))
            raise UserError(f"{where}: unknown key '{unknown[0]}' (allowed: {allowed})")
        batches = [part.tolist() for part in np.array_split(np.arange(len(indices)), len(self))]
        collate = GuardedCollate(collate, where)
        return DataLoader(Subset(dataset, indices.tolist()), batch_sampler=batches, collate_fn=collate, **options)


def _size(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(_size(item) for item in value.values())
    return sum(_size(item) for item in value) if isinstance(value, (list, tuple)) else 0
