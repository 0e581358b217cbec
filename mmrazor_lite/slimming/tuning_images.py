"""The images that a network is tuned on: all that the data has, but those held out.

Letters: N images, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset
from torch.utils.data import default_collate as stacked

from mmrazor_lite.datasets.resident import free_bytes
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.importance import Batches
from mmrazor_lite.randomness import seeded

from .batch_targets import joined, picked, sliced
from .images import Images, as_batches, checked, parts, pixel_keys
from .numbered import makes_its_own_batches

BATCH = 64  # images of a step
LOOKED_AT = 16  # images that are read twice, to see whether they are the same then
MOST_HELD_OUT, FEW_HELD_OUT = 1000, 250  # images that decide: at most, and where a tenth would be fewer
MEMORY_SHARE = 0.5  # of the free memory, for images that can be read once only
LEFT = "data: all its images are held out, none is left to tune on: give more images, or fewer as held_out"
OWN = "tune: the loader makes batches by itself: they are read once, and kept"
FEW = "tune: the images that decide are trained on too: there are too few to hold some out"
UNTOLD = (
    "tune: images come otherwise each time that they are read, so those held out cannot be told by their pixels: some "
    "may be trained on, which flatters; those that read_images takes of a torch Dataset are told by numbers"
)


class MemoryImages(Dataset):
    """Images in memory, with targets or without, a batch at a time.

    Args:
        images: (N, C, H, W).
        targets: Of N images, as :mod:`.batch_targets` has them; or None.
        places: Which of them are shown; all by default.
    """

    def __init__(self, images: Tensor, targets: Any, places: np.ndarray | None = None) -> None:
        self.images, self.targets = images, targets
        self.places = np.arange(len(images)) if places is None else places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.seeded_batch([index], 0, [0])

    def seeded_batch(self, indices: Sequence[int], seed: int, epochs: Sequence[int]) -> dict[str, Any]:
        """The images of these numbers; nothing is drawn."""
        places = torch.from_numpy(self.places[np.asarray(indices, dtype=np.int64)])
        targets = picked(self.targets, places, len(self.images))
        return {"inputs": self.images[places.to(self.images.device)], "data_samples": targets}

    def chosen(self, indices: np.ndarray) -> MemoryImages:
        """Those images alone, in the same memory."""
        return MemoryImages(self.images, self.targets, self.places[indices])


@dataclass(frozen=True, eq=False)
class TuningImages:
    """Where the batches of a tuning come from, and those that decide on it.

    Attributes:
        dataset: Gives what ``collate`` makes batches of; none of the images held out, as far as they can be told.
        collate: Makes a dict of ``inputs`` (N, C, H, W) and ``data_samples``, which may be None.
        batch_size: Images of a step.
        held_out: (images, targets or None).
        options: Of the loader: worker processes and the like.
        notes: What is to be said, a line each.
        is_held_out: Whether it is sure that no image of ``held_out`` is among those of ``dataset``.
    """

    dataset: Dataset
    collate: Callable[[Any], dict[str, Any]]
    batch_size: int
    held_out: Batches
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_held_out: bool = True


def tuning_images(
    data: Any, like: Tensor, batch_size: int | None = None, held_out: Batches | Images | None = None, seed: int = 0
) -> TuningImages:
    """Share all images of some data between tuning and the decision on it.

    A loader of a dataset and a dataset stay what they are: images are read when they are wanted. Everything else is
    read into memory, once.

    Args:
        data: As for :func:`.read_images`.
        like: Images get its type.
        batch_size: Images of a step; by default 64, or that of a loader where it is smaller.
        held_out: Batches that decide, where there are some already: images equal to one of them are left out. Of what
            was read of the same data, those held out are left out by their numbers, where it has some.
        seed: Which images are held out otherwise, and what the dataset draws for them.

    Raises:
        UserError: Fewer than two images, or a batch that is none; or all of them are held out.
    """
    loader, dataset, collate, notes = _source(data)
    size = batch_size or min(BATCH, getattr(loader, "batch_size", None) or BATCH)
    options = _options(loader)
    if dataset is None:
        dataset, more = _in_memory(data, like)
        collate, notes = _as_it_is, [*notes, *more]
    else:
        collate = _Collate(collate, like.dtype)
    if len(dataset) < 2:
        raise UserError(f"data: {len(dataset)} image is too few to tune on; give hundreds, or leave out tune")
    told = ""
    if held_out is None:
        places = _places(len(dataset), seed)
        held_out = _read(dataset, collate, places, seed)
        rest = np.delete(np.arange(len(dataset)), places)
        dataset = _chosen(dataset, rest)
    elif isinstance(held_out, Images):
        by_number = held_out.places is not None and (loader is None or not isinstance(dataset, MemoryImages))
        dataset, collate, told = _apart(dataset, collate, held_out, by_number, seed)
        held_out = held_out.held_out
    else:
        dataset, collate, told = _unlike(dataset, collate, held_out, seed)
    if len(dataset) == 0:
        raise UserError(LEFT)
    notes += [told] if told else []
    return TuningImages(dataset, collate, min(size, len(dataset)), held_out, options, tuple(notes), not told)


def _chosen(dataset: Dataset, places: np.ndarray) -> Dataset:
    """Some images of a dataset."""
    return dataset.chosen(places) if isinstance(dataset, MemoryImages) else Subset(dataset, places.tolist())


def _source(data: Any) -> tuple[DataLoader | None, Dataset | None, Callable | None, list[str]]:
    """The loader, the dataset that can be read in any order, what makes batches of its items, and notes."""
    loader = data if isinstance(data, DataLoader) else None
    dataset = loader.dataset if loader is not None else data
    if not isinstance(dataset, Dataset) and not (loader is not None and hasattr(dataset, "__getitem__")):
        return loader, None, None, []
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        return loader, None, None, []
    if loader is not None and makes_its_own_batches(loader):
        return loader, None, None, [OWN]
    sampler = getattr(loader, "sampler", None)
    notes = []
    if sampler is not None and not isinstance(sampler, RandomSampler | SequentialSampler):
        notes = [f"tune: images are drawn evenly, {type(sampler).__name__} of the loader has no say"]
    return loader, dataset, loader.collate_fn if loader is not None else stacked, notes


def _options(loader: DataLoader | None) -> dict[str, Any]:
    """What a loader says of how it reads, for another one."""
    if loader is None or not loader.num_workers:
        return {}
    names = ("num_workers", "prefetch_factor", "worker_init_fn", "multiprocessing_context", "timeout")
    return {**{name: getattr(loader, name) for name in names}, "persistent_workers": True}


def _in_memory(data: Any, like: Tensor) -> tuple[MemoryImages, list[str]]:
    room, shape, found = MEMORY_SHARE * free_bytes(torch.device("cpu")), None, []
    for number, batch in enumerate(as_batches(data)):
        images, targets = parts(batch)
        shape = checked(images, shape, number)
        images, targets = images.to(like.dtype), sliced(targets, 0, len(images), len(images))
        room -= images.numel() * images.element_size()
        if found and room < 0:
            count = sum(len(images) for images, _ in found)
            return _joined(found), [f"tune: the first {count:,} images are used, further ones do not fit in the memory"]
        found.append((images, targets))
    if not found:
        raise UserError("data: it yields no image")
    return _joined(found), []


def _joined(batches: Sequence[tuple[Tensor, Any]]) -> MemoryImages:
    return MemoryImages(*(batches[0] if len(batches) == 1 else joined(batches)))


class _Collate:
    """What a loader makes of items, as a batch of ours.

    Images that decide are replaced by others of the batch, or of the dataset where the batch has no others: a batch
    keeps its size. It may travel to worker processes.

    Args:
        collate: Of the loader.
        dtype: Of the images.
        left_out: Keys of the images that decide.
        dataset: Where others come from.
    """

    def __init__(
        self,
        collate: Callable,
        dtype: torch.dtype,
        left_out: frozenset[bytes] = frozenset(),
        dataset: Dataset | None = None,
    ) -> None:
        self.collate, self.dtype, self.left_out, self.dataset = collate, dtype, left_out, dataset

    def __call__(self, items: Any) -> dict[str, Any]:
        images, targets = self._batch(items)
        if self.left_out:
            stay = [place for place, key in enumerate(pixel_keys(images)) if key not in self.left_out]
            if not stay:
                images, targets = self._batch([self._other(key) for key in pixel_keys(images)])
            elif len(stay) < len(images):
                places = torch.tensor([stay[index % len(stay)] for index in range(len(images))])
                images, targets = images[places], picked(targets, places, len(images))
        return {"inputs": images, "data_samples": targets}

    def _batch(self, items: Any) -> tuple[Tensor, Any]:
        images, targets = parts(self.collate(items))
        checked(images, None, 0)
        return images.to(self.dtype), targets

    def _other(self, key: bytes) -> Any:
        """An item in the place of the image of this key, always the same: a run that is resumed takes it too."""
        seed = int.from_bytes(key, "little")
        for number in np.random.default_rng(seed).permutation(len(self.dataset)):
            with seeded(seed):
                item = self.dataset[int(number)]
                images, _ = self._batch([item])
            if not self.left_out.issuperset(pixel_keys(images)):
                return item
        raise UserError(LEFT)


def _as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    return batch


def _apart(
    dataset: Dataset, collate: Callable, images: Images, by_number: bool, seed: int
) -> tuple[Dataset, Callable, str]:
    """Leave out the images held out of those that were read of the same data.

    Returns:
        The dataset, what makes its batches, and why it is not sure that all are left out; '' where it is.
    """
    if by_number:
        apart = _chosen(dataset, np.setdiff1d(np.arange(len(dataset)), images.places)), collate, ""
    elif images.is_held_out or isinstance(dataset, MemoryImages):
        apart = _unlike(dataset, collate, images.held_out, seed, are_inside=True)
    else:
        apart = dataset, collate, FEW
    return apart if len(apart[0]) or images.is_held_out else (dataset, collate, FEW)


def _unlike(
    dataset: Dataset, collate: Callable, held_out: Batches, seed: int, are_inside: bool = False
) -> tuple[Dataset, Callable, str]:
    """Leave out images by their pixels: of those in memory before the start, of others when they are read.

    Args:
        are_inside: They were read of the same data, so that each must be met.

    Returns:
        As :func:`_apart`.
    """
    keys = frozenset(key for images, _ in held_out for key in pixel_keys(images))
    if not isinstance(dataset, MemoryImages):
        told = UNTOLD if _changes(dataset, collate, seed) else ""
        return dataset, _Collate(collate.collate, collate.dtype, keys, dataset), told
    own = list(pixel_keys(dataset.images))
    stay = [place for place, key in enumerate(own) if key not in keys]
    return dataset.chosen(np.array(stay, dtype=np.int64)), collate, UNTOLD if are_inside and keys - set(own) else ""


def _changes(dataset: Dataset, collate: Callable, seed: int) -> bool:
    """Whether images are others when they are read again, as where a dataset draws crops of them."""
    places = np.arange(min(len(dataset), LOOKED_AT))
    (first, _), (again, _) = (_read(dataset, collate, places, each)[0] for each in (seed, seed + 1))
    return not torch.equal(first, again)


def _places(count: int, seed: int) -> np.ndarray:
    """Which images are held out: a tenth, up to a fifth where they are few."""
    number = max(1, min(MOST_HELD_OUT, max(count // 10, min(count // 5, FEW_HELD_OUT))))
    return np.sort(np.random.default_rng([seed, count]).choice(count, number, replace=False))


def _read(dataset: Dataset, collate: Callable, places: np.ndarray, seed: int) -> list[tuple[Tensor, Any]]:
    batches = []
    for part in np.array_split(places, -(-len(places) // BATCH)):
        with seeded(seed, int(part[0])):
            whole = isinstance(dataset, MemoryImages)
            items = dataset.seeded_batch(part, seed, part) if whole else [dataset[int(place)] for place in part]
            batch = collate(items)
        batches.append((batch["inputs"], batch["data_samples"]))
    return batches
