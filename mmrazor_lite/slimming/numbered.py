"""Batches of a dataset that know which of its images they hold. Letters: N images."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset


class Numbered:
    """Batches that know which images of the data they hold.

    Args:
        batches: What yields them.
        numbers: Of the images of each batch, as far as they were asked for.
    """

    def __init__(self, batches: Iterable[Any], numbers: list[Sequence[int]]) -> None:
        self._batches, self._numbers = batches, numbers

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)

    def numbers_of(self, batches: Sequence[tuple[Tensor, Any]]) -> list[int] | None:
        """The numbers of the images of these first batches; None where the loader did not say them one by one."""
        given = self._numbers[: len(batches)]
        if [len(numbers) for numbers in given] != [len(images) for images, _ in batches]:
            return None  # what makes batches has left out images, or has made some
        try:
            numbers = [operator.index(number) for part in given for number in part]
        except TypeError:  # of a dataset that is asked for something else
            return None
        return numbers if min(numbers) >= 0 else None


class _Noted:
    """A batch sampler that writes down what it gives."""

    def __init__(self, sampler: Iterable[Sequence[int]], numbers: list[Sequence[int]]) -> None:
        self._sampler, self._numbers = sampler, numbers

    def __iter__(self) -> Iterator[Sequence[int]]:
        self._numbers.clear()
        for numbers in self._sampler:
            self._numbers.append(list(numbers))
            yield numbers

    def __len__(self) -> int:
        return len(self._sampler)


def makes_its_own_batches(loader: DataLoader) -> bool:
    """Whether batches of a loader come from no dataset by numbers: what it yields is all that can be known of it."""
    is_own = type(loader).__iter__ is not DataLoader.__iter__  # such as one that normalises what it has read
    return is_own or isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None


def numbered(data: Any) -> Any:
    """The same batches with the numbers of their images, where it is a loader that asks a dataset for them."""
    if not isinstance(data, DataLoader) or makes_its_own_batches(data):
        return data
    numbers: list[Sequence[int]] = []
    return Numbered(like(data, batch_sampler=_Noted(data.batch_sampler, numbers), generator=data.generator), numbers)


def like(loader: DataLoader, **order: Any) -> DataLoader:
    """A loader of the same dataset that reads as this one does, in the order that is given."""
    names = ("num_workers", "collate_fn", "timeout", "worker_init_fn", "multiprocessing_context")
    return DataLoader(loader.dataset, **order, **{name: getattr(loader, name) for name in names})
