"""Rows: which outputs of a layer a fit looks at, and what the full network gives there.

A place is an index into the outputs of one channel of a batch. The places are drawn by the name of the layer, the call
and the batch, so that both networks, and every run, look at the same.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.models.calls import Call

from .follower import Finish, Follower, run_until
from .layer_flow import LayerFlow

ROWS_PER_INPUT = 30  # rows of a fit, for each number that makes an output
LEAST_ROWS = 4000
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
    def all_of(flows: Mapping[str, LayerFlow], images: Images) -> dict[str, RowPlan]:
        """The plans of all layers: the more a run of the network costs, the fewer images and the more of each."""
        cost = sum(sum(flow.places) * flow.outputs * flow.inputs for flow in flows.values()) / CHEAP
        least = min(max(MOST_IMAGES / cost, LEAST_IMAGES), MOST_IMAGES)
        share = min(max(SPARSE * cost, SPARSE), DENSE)
        return {name: RowPlan._of(flow, images, least, share) for name, flow in flows.items()}

    @staticmethod
    def _of(flow: LayerFlow, images: Images, least: float, share: float) -> RowPlan:
        each = sum(flow.places)
        rows = max(ROWS_PER_INPUT * flow.inputs, LEAST_ROWS)
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


@dataclass(eq=False)
class Target:
    """Rows of one call in one batch: where they are, which of them judge, and what there should be."""

    places: Tensor
    judges: Tensor  # (P,) of bools
    y: Tensor  # (P, O) of the kept channels


@dataclass(eq=False)
class Targets:
    """What layers should give: rows of the full network's outputs at the channels that are kept.

    Where an output is added to another tensor, that tensor's numbers times the gain are in them.
    """

    by_call: dict[tuple[str, int, int], Target] = field(default_factory=dict)

    def forget(self, layer: str) -> None:
        """Let go of what a layer should give."""
        self.by_call = {key: target for key, target in self.by_call.items() if key[0] != layer}

    def __contains__(self, layer: str) -> bool:
        return any(key[0] == layer for key in self.by_call)

    def add(
        self,
        full: nn.Module,
        flows: Mapping[str, LayerFlow],
        plans: Mapping[str, RowPlan],
        kept: Mapping[str, Tensor],
        images: Images,
    ) -> None:
        """Run the full network for some layers. ``kept`` is a mask (channels,) of the outputs of each that changed."""
        for batch, inputs in images.first(max(plans[name].batches for name in flows)):
            due = {name: flow for name, flow in flows.items() if plans[name].batches > batch}

            def visit(call: Call, y: Tensor, batch: int = batch, size: int = len(inputs)) -> Finish:
                flow, mask = flows[call.layer], kept.get(call.layer)
                places = plans[call.layer].places(flow, call.index, batch, size)
                where = places.to(y.device)
                rows = _some(call.outputs(y, where), mask)

                def finish(other: Tensor | None) -> bool:
                    found = rows
                    if other is not None:
                        found = rows + _some(call.outputs(other, where), mask) * flow.gain.to(rows)
                    image = images.starts[batch] + places * size // round(flow.places[call.index] * size)
                    self.by_call[call.layer, call.index, batch] = Target(where, image % CHECKED == CHECKED - 1, found)
                    return False

                return finish

            run_until(full, inputs, Follower(due, visit))


def _some(rows: Tensor, mask: Tensor | None) -> Tensor:
    return rows if mask is None else rows[:, mask.to(rows.device)]


def bytes_of_targets(flow: LayerFlow, plan: RowPlan, size: int) -> int:
    """Memory that the targets of a layer take, with numbers of ``size`` bytes."""
    return plan.rows * (flow.outputs * size + 9)


def in_chunks(names: Sequence[str], sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in their order, as many together as the limit allows, at least one."""
    chunks: list[list[str]] = []
    room = -1
    for name in names:
        if sizes[name] > room:
            chunks.append([])
            room = limit
        chunks[-1].append(name)
        room -= sizes[name]
    return chunks
