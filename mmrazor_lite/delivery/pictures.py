"""The images that a delivery is proven and calibrated with: read batch by batch, or drawn where there are none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmrazor_lite.errors import UserError, failing
from mmrazor_lite.randomness import seeded
from mmrazor_lite.slimming.batch_targets import sliced
from mmrazor_lite.slimming.images import as_batches, checked, parts

BATCH = 50
Batch = tuple[Tensor, Any]  # images (N, C, H, W), and targets or None


def read(data: Any, count: int, shape: tuple[int, ...] | None, seed: int, what: str) -> Iterator[Batch]:
    """Yield batches of up to so many images, as :func:`mmrazor_lite.slim` takes them.

    Args:
        data: See :func:`mmrazor_lite.slimming.read_images`.
        count: How many images at most.
        shape: (C, H, W) that they must have; None: that of the first one.
        seed: Of the draw.
        what: Names the data in errors.

    Raises:
        UserError: There is no image, or one that is none or of another shape.
    """
    left, number = count, 0
    with seeded(seed):
        batches = iter(as_batches(data, count, seed))
    while left > 0:
        with failing(f"{what}: a batch cannot be read"):
            batch = next(batches, None)
        if batch is None:
            break
        images, targets = parts(batch)
        shape = checked(images, shape, number)
        kept, targets = images[:left], sliced(targets, 0, left, len(images))
        left, number = left - len(kept), number + 1
        if len(kept):
            yield kept, targets
    if left == count:
        raise UserError(f"{what}: it yields no image")


def drawn(count: int, shape: tuple[int, ...], seed: int) -> Iterator[Batch]:
    """Yield batches of normal noise."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, BATCH):
        yield torch.randn((min(BATCH, count - start), *shape), generator=generator), None


def peeked(batches: Iterator[Batch]) -> tuple[tuple[int, ...], Iterator[Batch]]:
    """(C, H, W) of the images, and all of them again."""
    first = next(batches)
    return tuple(first[0].shape[1:]), itertools.chain([first], batches)
