"""The order of the training images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmrazor_lite.engine.seeding import SeededDataset
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler):
    """Walks through a :class:`SeededDataset` in an order that depends on (seed, epoch) alone.

    Yields ``epoch * len(dataset) + i``, so that the dataset knows the epoch whatever process reads it, and can start
    anywhere, so that a resumed run reads on where the interrupted one stopped.

    Args:
        dataset: A :class:`SeededDataset`; gets the seed of this sampler.
        shuffle: Draw a new order for every epoch.
        seed: By default one is drawn, the same on all ranks.
        round_up: Repeat images so that all ranks get as many.
        infinite: Go on with the next epoch instead of stopping; for loops that count iterations.
    """

    def __init__(
        self,
        dataset: SeededDataset,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
        infinite: bool = False,
    ) -> None:
        if not isinstance(dataset, SeededDataset):
            raise UserError(
                f"SeededSampler needs its dataset wrapped: dataset=dict(type='SeededDataset', dataset=...), "
                f"got {type(dataset).__name__}"
            )
        if len(dataset) == 0:
            raise UserError(f"the dataset {type(dataset.dataset).__name__} has no images")
        self.dataset = dataset
        self.shuffle = shuffle
        self.infinite = infinite
        self.rank, self.world_size = get_dist_info()
        size = len(dataset)
        self.num_samples = math.ceil(size / self.world_size if round_up else (size - self.rank) / self.world_size)
        self.total_size = self.num_samples * self.world_size if round_up else size
        self.epoch = 0
        self._offset = 0
        self.seed = sync_random_seed() if seed is None else seed

    @property
    def seed(self) -> int:
        """Seed of the order and, through the dataset, of the random transforms."""
        return self.dataset.seed

    @seed.setter
    def seed(self, value: int) -> None:
        self.dataset.seed = value

    def __len__(self) -> int:
        """Images of this rank in one epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        offset, self._offset = self._offset, 0  # a start in the middle is for the first pass only
        if not self.infinite:
            return iter(self._indices(self.epoch)[offset:])
        epochs = (self._indices(epoch) for epoch in itertools.count(self.epoch))
        return itertools.islice(itertools.chain.from_iterable(epochs), offset, None)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; a position set by :meth:`skip` in that epoch is kept."""
        if self.infinite:
            return  # it counts itself
        if epoch != self.epoch:
            self._offset = 0
        self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Start after ``num_samples`` images of this rank, counted from the beginning of the training."""
        self.start_at(*divmod(num_samples, self.num_samples))

    def start_at(self, epoch: int, num_samples: int) -> None:
        """Start in ``epoch`` after ``num_samples`` images of this rank; after all of them, that epoch has none left."""
        self.epoch, self._offset = epoch, num_samples

    def _indices(self, epoch: int) -> list[int]:
        size = len(self.dataset)
        if self.shuffle:
            order = torch.randperm(size, generator=torch.Generator().manual_seed(self.seed + epoch))
        else:
            order = torch.arange(size)
        order = order.repeat(math.ceil(self.total_size / size))[: self.total_size]
        return (order[self.rank :: self.world_size] + epoch * size).tolist()
