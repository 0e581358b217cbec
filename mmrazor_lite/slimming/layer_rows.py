"""Rows: which outputs of a layer a fit looks at.

A place is an index into the outputs of one channel of a batch. The places are drawn by the name of the layer, the call
and the batch, so that both networks, and every run, look at the same.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .layer_flow import LayerFlow

ROWS_PER_INPUT = 30  # rows of a fit, for each number that makes an output
LEAST_ROWS = 4000  # of a fit with so many for each input
LEAST_IMAGES, MOST_IMAGES = 128, 500
SPARSE, DENSE = 0.1, 0.5  # of the places of an image that are looked at, before more images are taken
CHEAP = 1e8  # multiplications for an image: with so many, all images are run for a layer
BATCH = 64  # images at a time
CHECKED = 8  # one image of so many judges a fit and is not used for it


class Images:
    """Images in batches of the type that a network wants.

    Attributes:
        starts: How many images come before each batch, and how many there are.
    """

    def __init__(self, batches: Iterable[tuple[Tensor, Any]], like: Tensor) -> None:
        self._batches = [part for images, _ in batches if len(images) for part in images.split(BATCH)]
        self._like = like
        self.starts = [0, *np.cumsum([len(images) for images in self._batches]).tolist()]

    def first(self, batches: int) -> Iterator[tuple[int, Tensor]]:
        """(number of the batch, images) of the first batches."""
        for batch in range(len(self._batches[:batches])):
            yield batch, self[batch]

    def __getitem__(self, batch: int) -> Tensor:
        return self._batches[batch].to(self._like)

    def judges(self, flow: LayerFlow, index: int, batch: int, places: Tensor) -> Tensor:
        """Which places (P,) of a call in a batch are of images that judge a fit: bools (P,)."""
        size = self.starts[batch + 1] - self.starts[batch]
        image = self.starts[batch] + places * size // round(flow.places[index] * size)
        return image % CHECKED == CHECKED - 1

    def batches_with(self, count: float) -> int:
        """How many batches have so many images, all of them where there are fewer."""
        return min(int(np.searchsorted(self.starts, count)), len(self._batches))


@dataclass(frozen=True)
class RowPlan:
    """How many rows a layer gets, of how many batches and images."""

    rows: int
    batches: int
    images: int

    @staticmethod
    def all_of(flows: Mapping[str, LayerFlow], images: Images, rows: int = ROWS_PER_INPUT) -> dict[str, RowPlan]:
        """The plans of all layers, with so many rows for each input of a fit.

        The more a run of the network costs, the fewer images there are, and the more rows of each.
        """
        cost = sum(sum(flow.places) * flow.outputs * flow.inputs for flow in flows.values()) / CHEAP
        least = min(max(MOST_IMAGES / cost, LEAST_IMAGES), MOST_IMAGES)
        share = min(max(SPARSE * cost, SPARSE), DENSE)
        return {name: RowPlan._of(flow, images, least, share, rows) for name, flow in flows.items()}

    @staticmethod
    def _of(flow: LayerFlow, images: Images, least: float, share: float, per_input: int) -> RowPlan:
        each = sum(flow.places)
        rows = max(per_input * flow.inputs, LEAST_ROWS * per_input // ROWS_PER_INPUT)
        batches = images.batches_with(max(least, rows / (share * each)))
        used = images.starts[batches]
        return RowPlan(math.ceil(min(rows, each * used)), batches, used)

    def places(self, flow: LayerFlow, index: int, batch: int, images: int) -> Tensor:
        """Places (P,) of a call in a batch of so many images, in rising order."""
        total = round(flow.places[index] * images)
        count = min(total, math.ceil(self.rows / (sum(flow.places) * self.images) * total))
        if count == total:
            return torch.arange(total)
        rng = np.random.default_rng([zlib.crc32(flow.name.encode()), index, batch])
        return torch.from_numpy(np.sort(rng.choice(total, count, replace=False)))
