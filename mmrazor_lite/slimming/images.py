"""The images that a network is slimmed with: from whatever holds some, a sample, and as many others held out.

Letters: N images, C channels, H W space.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from mmrazor_lite import mm_packages
from mmrazor_lite.errors import UserError, check_number, failing, short
from mmrazor_lite.models.importance import Batches
from mmrazor_lite.randomness import seeded
from mmrazor_lite.shapes import image_shape

from .batch_targets import BATCH, joined, moved, picked, sliced
from .numbered import Numbered, like, makes_its_own_batches, numbered

HELD_OUT = 5  # one image of so many is held out where the data has no further ones
FEWEST = 10  # images of which none is held out
IMAGE_KEYS = ("images", "image", "inputs", "input", "img", "pixel_values", "x")
TARGET_KEYS = ("targets", "target", "labels", "label", "y")
ALLOWED = (
    "a DataLoader or other batches (images, (images, targets) or a dict of them), a tensor, (images, targets), a torch "
    "Dataset or a config of a data set"
)


@dataclass(frozen=True, eq=False)
class Images:
    """What a network is slimmed with.

    Attributes:
        seen: Batches that the steps work with: (images (N, C, H, W), targets or None), on the network's device.
        held_out: Batches that only measure what came of it; those seen where there are too few to share.
        notes: What is to be said of them, a line each.
        places: Of the images held out, their numbers in the data (of a loader: in its dataset); None where nothing says
            them.
    """

    seen: list[tuple[Tensor, Any]]
    held_out: list[tuple[Tensor, Any]]
    notes: tuple[str, ...] = ()
    places: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.seen[0][0].shape[1:])

    @property
    def have_targets(self) -> bool:
        return self.seen[0][1] is not None

    @property
    def is_held_out(self) -> bool:
        """Whether those that are held out are other ones than those seen."""
        return self.held_out is not self.seen

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Say of a network that cannot run on signals (C, L) that single images are read as batches of them."""
        try:
            yield
        except UserError as error:
            if len(self.shape) != 2 or " traced" not in str(error):
                raise
            size = tuple(self.seen[0][0].shape)
            raise UserError(
                f"data: what it yields is read as batches of signals (N, C, L), here {size}; a single image "
                f"(C, H, W) is no batch: give images (N, C, H, W), or "
                f"DataLoader(list_of_images, batch_size={BATCH}); {error}"
            ) from error

    def first(self, count: int) -> Batches:
        """About so many of the images seen, the first ones, in whole batches."""
        return self.seen[: self._batches_of(count)]

    def behind(self, count: int) -> Batches:
        """The images seen that are not in :meth:`first`."""
        return self.seen[self._batches_of(count) :]

    def _batches_of(self, count: int) -> int:
        sums = itertools.accumulate((len(images) for images, _ in self.seen), initial=0)
        return sum(before < count for before, _ in zip(sums, self.seen, strict=False))


def read_images(
    data: Any, network: nn.Module, images: int = 500, input_shape: Sequence[int] | None = None, seed: int = 0
) -> Images:
    """Read some images of some data, and up to as many others, which are held out.

    They are drawn at random where the data can be asked for any of its images: tensors, a Dataset, a config, a loader
    that goes through a Dataset from its beginning (which may be sorted by class). Other batches are taken as they come.
    Where there are too few further images, a fifth is held out. An image that comes again, as a sampler with
    replacement or a loader that begins anew gives it, is taken once: else it might be seen and held out.

    Args:
        data: A DataLoader or any iterable of batches, each ``images`` (N, C, H, W), ``(images, targets)`` or a dict; a
            tensor, or a pair of tensors; a torch Dataset; a config of a data set or of a data loader, which may have a
            ``data_preprocessor``. Images are normalised already, as the network takes them.
        network: They are put on its device, in its precision.
        images: How many, at most.
        input_shape: (C, H, W) that they must have; ``None``: that of the first one.
        seed: Of the draw, and of a loader that shuffles.

    Raises:
        UserError: The data is none of these, yields nothing, images of several shapes, or what is no image.
    """
    check_number("images", images, 2, whole=True)
    shape = None if input_shape is None else image_shape(input_shape)
    given = as_batches(data, 2 * images, seed)
    which, given = "the last of them" if given is data else "drawn at random", numbered(given)
    with seeded(seed):
        batches = _taken(given, 2 * images, shape)
    if not batches:
        raise UserError("data: it yields no image")
    numbers = given.numbers_of(batches) if isinstance(given, Numbered) else None
    kind = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    found, targets = joined([(part.to(kind), moved(beside, kind.device)) for part, beside in batches], 2 * images)
    count = len(found)
    if all(torch.equal(image, found[0]) for image in found):
        told = "one image" if count < 2 else f"{count} times the same image"
        raise UserError(f"data: it yields {told}, which tells no channels apart; give 2 different ones, better 500")
    numbers = None if numbers is None else tuple(numbers[:count])
    once, notes = _once(found, numbers), ()
    if len(once) < count:
        notes = (f"{count - len(once)} of {count} images came more than once: each is taken once",)
        found, targets = found[once], picked(targets, once, count)
        numbers = None if numbers is None else tuple(numbers[place] for place in once.tolist())
        count = len(once)
    if count < FEWEST:
        every = _cut(found, targets, 0, count)
        return Images(every, every, (*notes, f"{count} images: none is held out"), numbers)
    held_out = max(count - images, min(count, images) // HELD_OUT, 1)
    seen = count - held_out
    if seen != images:
        notes += (f"the data has {count} images: {held_out}, {which}, are held out",)
    places = None if numbers is None else numbers[seen:]
    return Images(_cut(found, targets, 0, seen), _cut(found, targets, seen, count), notes, places)


def as_batches(data: Any, most: int | None = None, seed: int = 0) -> Iterable[Any]:
    """What yields batches of the data: all of it, or up to so many images, drawn where the data allows it."""
    if isinstance(data, Mapping) and ("type" in data or "dataset" in data):
        return _of_config(data, most, seed)
    if isinstance(data, (Tensor, np.ndarray, Mapping)) or (
        isinstance(data, tuple) and len(data) == 2 and _is_images(data[0])
    ):
        return [data] if most is None else _drawn(data, most, seed)
    if isinstance(data, DataLoader):
        return data if most is None else _redrawn(data, most, seed)
    if isinstance(data, Dataset):
        drawn = most is not None and not isinstance(data, IterableDataset)
        sampler = _order(len(data), seed)[:most] if drawn else None
        return numbered(DataLoader(data, batch_size=BATCH, sampler=sampler))
    if isinstance(data, (str, bytes, PurePath)):
        raise UserError(
            f"data={short(data)}: of a folder give image_folder(folder, 'torchvision.resnet50') of "
            "mmrazor_lite.slimming, which reads its images as that network takes them"
        )
    if not isinstance(data, Iterable):
        raise UserError(f"data={short(data)}: give {ALLOWED}")
    return data


def _redrawn(loader: DataLoader, most: int, seed: int) -> Iterable[Any]:
    """A loader that goes through a dataset in its order, which is often that of the classes, with an order drawn."""
    is_plain = type(loader.sampler) is SequentialSampler and type(loader.batch_sampler) is BatchSampler
    if not is_plain or makes_its_own_batches(loader):
        return loader
    sampler = _order(len(loader.dataset), seed)[:most]
    return numbered(like(loader, batch_size=loader.batch_size, sampler=sampler))


def _is_images(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) and value.ndim >= 3


def _order(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(count).tolist()


def _drawn(batch: Any, most: int, seed: int, numbers: Sequence[int] | None = None) -> Numbered:
    """Images of one large batch, and their targets, drawn once; ``numbers`` are theirs in the data."""
    images, targets = parts(batch)
    checked(images, None, 0)
    order = _order(len(images), seed)[:most]
    places = torch.tensor(order, dtype=torch.int64, device=images.device)
    numbers = order if numbers is None else [int(numbers[place]) for place in order]
    return Numbered([(images[places], picked(targets, places, len(images)))], [numbers])


def _of_config(config: Mapping, most: int | None, seed: int) -> Iterable[Any]:
    """The batches of a config of mmengine's kind, which alone needs mmengine."""
    mm_packages.require("data of a config")
    from mmengine.registry import DefaultScope

    from mmrazor_lite.config.build import register_quietly
    from mmrazor_lite.engine.batches import FixedBatches
    from mmrazor_lite.registry import MODELS

    register_quietly()
    loader = copy.deepcopy(dict(config) if "dataset" in config else {"dataset": dict(config), "batch_size": BATCH})
    preprocessor = loader["dataset"].pop("data_preprocessor", None) or loader.pop("data_preprocessor", None) or {}
    with DefaultScope.overwrite_default_scope("mmpretrain"), failing("data: it cannot be built"):
        preprocessor = MODELS.build({"type": "ClsDataPreprocessor", **preprocessor})
        batches = FixedBatches(loader, preprocessor, where="data")
        if most is None:
            return batches
        if batches.num_images > most:
            batches = FixedBatches({**loader, "dataset": batches.dataset}, preprocessor, most, seed, where="data")
    return _drawn(joined([parts(batch) for batch in batches]), most, seed, batches.indices)


def _taken(batches: Iterable[Any], most: int, shape: tuple[int, ...] | None) -> list[tuple[Tensor, Any]]:
    """The first whole batches that hold so many images, checked."""
    found, left = [], most
    iterator = iter(batches)
    while left > 0:
        with failing("data: a batch cannot be read"):
            batch = next(iterator, None)
        if batch is None:
            break
        images, targets = parts(batch)
        shape = checked(images, shape, len(found))
        if found and (found[0][1] is None) != (targets is None):
            raise UserError(f"data: batch {len(found)} has {'no ' * (targets is None)}targets, the first one is other")
        found.append((images, sliced(targets, 0, len(images), len(images))))
        left -= len(images)
    return [batch for batch in found if len(batch[0])]


def parts(batch: Any) -> tuple[Tensor, Any]:
    """Images and targets of a batch."""
    if isinstance(batch, Mapping):
        keys = [key for key in IMAGE_KEYS if key in batch]
        if not keys:
            raise UserError(f"data: a batch has {short(list(batch))}, and no images under {', '.join(IMAGE_KEYS)}")
        targets = next((batch[key] for key in TARGET_KEYS if batch.get(key) is not None), None)
        images = batch[keys[0]]
        if targets is None and "data_samples" in batch:
            targets = _labels(batch["data_samples"])
    elif isinstance(batch, (tuple, list)) and len(batch) in (1, 2):
        images, targets = (*batch, None)[:2]
    else:
        images, targets = batch, None
    if isinstance(images, np.ndarray):
        images = torch.as_tensor(images)
    if not isinstance(images, Tensor):
        raise UserError(f"data: a batch is {short(batch)}, a {type(batch).__name__}: give {ALLOWED}")
    return images.detach(), torch.as_tensor(targets) if isinstance(targets, np.ndarray) else targets


def pixel_keys(images: Tensor) -> Iterator[bytes]:
    """What tells each of the images from others."""
    for image in images.detach().cpu():
        yield hashlib.blake2b(image.contiguous().view(torch.uint8).numpy().tobytes(), digest_size=16).digest()


def _once(images: Tensor, numbers: Sequence[int] | None) -> Tensor:
    """Where each of the images comes first, by its number in the data, where it has one, and by its pixels."""
    known: set[int | bytes] = set()
    places = []
    for place, key in enumerate(pixel_keys(images)):
        names = {key} if numbers is None else {key, numbers[place]}
        if not names & known:
            places.append(place)
        known |= names
    return torch.tensor(places, device=images.device)


def _labels(samples: Any) -> Tensor | None:
    """Labels of mmpretrain's data samples."""
    labels = [sample.get("gt_label") for sample in samples or ()]
    return None if not labels or any(label is None for label in labels) else torch.cat([x.flatten() for x in labels])


def checked(images: Tensor, shape: tuple[int, ...] | None, number: int) -> tuple[int, ...]:
    where = f"data: batch {number}"
    if images.dim() < 3:
        raise UserError(f"{where} has the shape {tuple(images.shape)}: give images (N, C, H, W)")
    if not images.is_floating_point():
        raise UserError(
            f"{where} is {str(images.dtype).removeprefix('torch.')}: give floats, normalised as the network takes them"
        )
    if shape is not None and tuple(images.shape[1:]) != shape:
        raise UserError(f"{where} has images of {tuple(images.shape[1:])}, wanted are {shape}: give images of one size")
    bad = ~torch.isfinite(images).flatten(1).all(1)
    if bad.any():
        raise UserError(f"{where}: image {int(bad.nonzero()[0])} holds what is no finite number (NaN or infinity)")
    return tuple(images.shape[1:])


def _cut(images: Tensor, targets: Any, start: int, stop: int) -> list[tuple[Tensor, Any]]:
    """The images from start to stop, in batches of about equal size."""
    ends = np.linspace(start, stop, -(-(stop - start) // BATCH) + 1).round().astype(int).tolist()
    return [(images[a:b], sliced(targets, a, b, len(images))) for a, b in itertools.pairwise(ends)]
