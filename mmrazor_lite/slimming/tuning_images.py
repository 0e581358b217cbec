"""The images that a network is tuned on: all that the data has, but those held out.

Letters: N images, C channels, H W space.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset
from torch.utils.data import default_collate as stacked

from mmrazor_lite.datasets.resident import free_bytes
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.importance import Batches
from mmrazor_lite.randomness import seeded

from .images import as_batches, checked, parts, together

BATCH = 64  # images of a step
MOST_HELD_OUT, FEW_HELD_OUT = 1000, 250  # images that decide: at most, and where a tenth would be fewer
MEMORY_SHARE = 0.5  # of the free memory, for images that can be read once only


class MemoryImages(Dataset):
    """Images in memory, with targets or without, a batch at a time.

    Args:
        images: (N, C, H, W).
        targets: Tensors of N rows in any structure; or None.
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
        return {"inputs": self.images[places.to(self.images.device)], "data_samples": _rows(self.targets, places)}

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
    """

    dataset: Dataset
    collate: Callable[[Any], dict[str, Any]]
    batch_size: int
    held_out: Batches
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def tuning_images(
    data: Any, like: Tensor, batch_size: int | None = None, held_out: Batches | None = None, seed: int = 0
) -> TuningImages:
    """Share all images of some data between tuning and the decision on it.

    A loader of a dataset and a dataset stay what they are: images are read when they are wanted. Everything else is
    read into memory, once.

    Args:
        data: As for :func:`.read_images`.
        like: Images get its type.
        batch_size: Images of a step; by default 64, or that of a loader where it is smaller.
        held_out: Batches that decide, where there are some already; images equal to one of them are left out.
        seed: Which images are held out otherwise, and what the dataset draws for them.

    Raises:
        UserError: Fewer than two images, or a batch that is none.
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
    if held_out is not None:
        dataset, collate = _without(dataset, collate, held_out)
    else:
        places = _places(len(dataset), seed)
        held_out = _read(dataset, collate, places, seed)
        rest = np.delete(np.arange(len(dataset)), places)
        dataset = dataset.chosen(rest) if isinstance(dataset, MemoryImages) else Subset(dataset, rest.tolist())
    return TuningImages(dataset, collate, min(size, len(dataset)), held_out, options, tuple(notes))


def _source(data: Any) -> tuple[DataLoader | None, Dataset | None, Callable | None, list[str]]:
    """The loader, the dataset that can be read in any order, what makes batches of its items, and notes."""
    loader = data if isinstance(data, DataLoader) else None
    dataset = loader.dataset if loader is not None else data
    if not isinstance(dataset, Dataset) and not (loader is not None and hasattr(dataset, "__getitem__")):
        return loader, None, None, []
    makes_no_batches = loader is not None and loader.batch_size is None and loader.batch_sampler is None
    if isinstance(dataset, IterableDataset) or makes_no_batches or not hasattr(dataset, "__len__"):
        return loader, None, None, []
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
        images = images.to(like.dtype)
        room -= images.numel() * images.element_size()
        if found and room < 0:
            count = sum(len(images) for images, _ in found)
            return _joined(found), [f"tune: the first {count:,} images are used, further ones do not fit in the memory"]
        found.append((images, targets))
    if not found:
        raise UserError("data: it yields no image")
    return _joined(found), []


def _joined(batches: Sequence[tuple[Tensor, Any]]) -> MemoryImages:
    images, targets = zip(*batches, strict=True)
    if len(batches) == 1:
        return MemoryImages(images[0], targets[0])
    return MemoryImages(torch.cat(images), together(targets))


class _Collate:
    """What a loader makes of items, as a batch of ours; images that decide are replaced by others of the batch.

    A batch keeps its size that way. It may travel to worker processes.
    """

    def __init__(self, collate: Callable, dtype: torch.dtype, left_out: frozenset[bytes] = frozenset()) -> None:
        self.collate, self.dtype, self.left_out = collate, dtype, left_out

    def __call__(self, items: Any) -> dict[str, Any]:
        images, targets = parts(self.collate(items))
        checked(images, None, 0)
        images = images.to(self.dtype)
        if self.left_out:
            stay = [place for place, key in enumerate(_keys(images)) if key not in self.left_out]
            if stay and len(stay) < len(images):
                places = torch.tensor([stay[index % len(stay)] for index in range(len(images))])
                images, targets = images[places], _rows(targets, places)
        return {"inputs": images, "data_samples": targets}


def _as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    return batch


def _without(dataset: Dataset, collate: Callable, held_out: Batches) -> tuple[Dataset, Callable]:
    """Leave out the images that decide: of those in memory before the start, of others when they are read."""
    keys = frozenset(key for images, _ in held_out for key in _keys(images))
    if not isinstance(dataset, MemoryImages):
        return dataset, _Collate(collate.collate, collate.dtype, keys)
    stay = [place for place, key in enumerate(_keys(dataset.images)) if key not in keys]
    return (dataset.chosen(np.array(stay)) if stay else dataset), collate


def _keys(images: Tensor) -> Iterable[bytes]:
    return (
        hashlib.blake2b(image.contiguous().view(torch.uint8).numpy().tobytes(), digest_size=16).digest()
        for image in images.detach().cpu()
    )


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


def _rows(targets: Any, places: Tensor) -> Any:
    """The targets of the images at ``places``."""
    if isinstance(targets, list) and targets and not isinstance(targets[0], Tensor):
        return [targets[int(place)] for place in places]
    return tree_map(lambda leaf: leaf[places.to(leaf.device)] if isinstance(leaf, Tensor) else leaf, targets)
