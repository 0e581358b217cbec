"""Data that depends on (seed, epoch, index) alone: the same in a resumed run, with any number of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mmrazor_lite.datasets.reading import read_item
from mmrazor_lite.randomness import seeded
from mmrazor_lite.registry import DATASETS


@DATASETS.register_module()
class SeededDataset(Dataset):
    """Wraps a dataset so that its random transforms are seeded by (seed, epoch, index).

    Index ``epoch * len(dataset) + i``, as :class:`SeededSampler` yields it, is item ``i`` as epoch ``epoch`` sees it.
    The states of ``random``, numpy and torch are restored after every item. A dataset with
    ``seeded_batch(indices, seed, epochs)`` is asked for all items of a batch at once.

    Args:
        dataset: The dataset, or its config.
        seed: Set by the sampler.
        where: Key of the loader in the config, for errors.

    Raises:
        UserError: An item cannot be made; the line names its file and the step of the pipeline.
    """

    def __init__(self, dataset: Dataset | Mapping[str, Any], seed: int = 0, where: str = "dataset") -> None:
        self.dataset = DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset
        self.seed, self.where = seed, where
        if hasattr(self.dataset, "full_init"):
            self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> Sequence:
        """The items of one batch; torch's loader asks for them."""
        whole = getattr(self.dataset, "seeded_batch", None)
        if whole is None:
            return [self[index] for index in indices]
        epochs, items = np.divmod(np.asarray(indices, dtype=np.int64), len(self.dataset))
        return whole(items, self.seed, epochs)

    def __getitem__(self, index: int) -> Any:
        if getattr(self.dataset, "seeded_batch", None) is not None:
            return self.__getitems__([index])[0]
        epoch, item = divmod(index, len(self.dataset))
        with seeded(self.seed, epoch, item):
            return read_item(self.dataset, item, self.where)

    @property
    def metainfo(self) -> dict:
        """What the dataset tells about itself, such as its classes."""
        return getattr(self.dataset, "metainfo", {})

    @property
    def CLASSES(self) -> list | None:
        """Names of the classes, as mmpretrain's datasets give them."""
        return self.metainfo.get("classes")
