"""What each width group costs the outputs of a network, measured: one group at a time cut to a few widths.

Shape letters: U units of a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mmrazor_lite.models.calls import Call, Calls
from mmrazor_lite.models.importance import Batches, Moments, Ranking
from mmrazor_lite.models.importance.definition import Widths
from mmrazor_lite.models.importance.moments import HOLDS
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.models.mutators.channel_order import Member

from .distance import Distance, mean_distance, softened
from .replay import Replay

SHARES = (0.75, 0.5, 0.25, 0.1)  # of the units kept, at which a group is measured
IMAGES, FEWEST = 200, 16  # that are looked at
WORK = 1.5e12  # macs of all forward passes: a minute or two
LEAST = 1e-9  # a loss below this is none


@torch.no_grad()
def sensitivity(
    network: OneShotChannelMutator,
    rankings: Mapping[str, Ranking],
    moments: Mapping[str, Moments],
    batches: Batches,
    distance: Distance = softened,
    images: int | None = None,
    shares: Sequence[float] = SHARES,
) -> dict[str, np.ndarray]:
    """Curves (U + 1,) of each group: the distance of the outputs where it keeps its best w units and no other is cut.

    Its readers are refitted from the moments. Between the widths that are measured, a curve has the shape of the
    ranking's errors, scaled to the points.

    Args:
        network: A width mutator; its weights are changed while this runs, and put back.
        rankings: Of every group, see ``rank``; the network's channels are in their own order.
        moments: See ``gather``; a reader without any keeps its weights.
        batches: (images, targets).
        distance: Of the outputs from those of the full network; by default at a temperature that tells apart what a
            network is sure of.
        images: At most so many are looked at, the first ones; by default :func:`images_for`.
        shares: Of the units, at which a group is measured.
    """
    looked_at = first_images(batches, images or images_for(network, len(shares)))
    runs = [Replay(partial(network.run, images)) for images in looked_at]
    reference = [run.result for run in runs]
    found = {}
    for index, name in _in_order(network, runs):
        ranking, units = rankings[name], network.unit_counts[name]
        points = {}
        for kept in sorted({max(1, round(units * share)) for share in shares} - {units}, reverse=True):
            with cut(network, index, ranking.order[:kept], units, moments) as changed:
                points[kept] = mean_distance((run.again(changed) for run in runs), reference, distance)
        found[name] = curve(ranking.errors, points)
    return {name: found[name] for name in network.unit_counts}


def _in_order(network: OneShotChannelMutator, runs: Sequence[Replay]) -> list[tuple[int, str]]:
    """The groups (index, name) in the order in which the network reads them: what comes before is computed once."""
    groups = list(enumerate(network.unit_counts))
    if not runs:
        return groups
    return sorted(groups, key=lambda group: runs[0].first(member.tensor for member in _readers(network, group[0])))


def _readers(network: Widths, group: int) -> list[Member]:
    """The weights that read channels of a group."""
    return [member for member in network.members if member.role == "inputs" and group in member.side.counts]


def images_for(network: OneShotChannelMutator, points: int) -> int:
    """How many images to measure so many points of every group with: fewer of a network that takes long."""
    passes = max(points * len(network.unit_counts) * network.cost_model.max()["macs"], 1)
    return int(min(max(WORK / passes, FEWEST), IMAGES))


def first_images(batches: Batches, count: int) -> list[Tensor]:
    """The first so many images, in the batches that they are in."""
    found, left = [], count
    for images, _ in batches:
        if left <= 0:
            break
        if len(images):
            found.append(images[:left])
            left -= len(images)
    return found


def curve(errors: np.ndarray, points: Mapping[int, float]) -> np.ndarray:
    """Errors (U + 1,) scaled to what was measured at some widths: the logarithm of the ratio is linear in the width.

    The result never rises with the width. No unit at all costs infinitely much.
    """
    widths = np.array(sorted(points))
    if len(widths):
        measured = np.maximum(np.array([points[width] for width in widths.tolist()]), LEAST)
        ratio = np.log(measured) - np.log(np.maximum(errors[widths], LEAST))
        errors = np.maximum(errors, LEAST) * np.exp(np.interp(np.arange(len(errors)), widths, ratio))
    result = np.append(np.asarray(errors[:-1], np.float64), 0.0)
    result[0] = np.inf
    return np.maximum.accumulate(result[::-1])[::-1]


@contextmanager
def cut(
    network: Widths, group: int, kept: np.ndarray, units: int, moments: Mapping[str, Moments]
) -> Iterator[list[Tensor]]:
    """The network where the readers of a group see its units ``kept`` alone, their weights refitted: those weights."""
    gone = torch.ones(units, dtype=torch.bool)
    gone[torch.as_tensor(kept)] = False
    changed, constants = [], {}
    for member in _readers(network, group):
        changed.append((member.tensor, member.tensor.detach().clone()))
        found = moments.get(member.layer)
        if found is None or found.reader.tensor is not member.tensor:
            dropped = torch.as_tensor(member.places(group)[gone.numpy()].ravel(), device=member.tensor.device)
            with torch.no_grad():
                member.tensor.index_fill_(member.dim, dropped, 0.0)
            continue
        keep = torch.ones(len(found.total), dtype=torch.bool)
        keep[found.places(group)[gone].flatten()] = False
        # of few rows, images that are looked at would meet a fit that knows them by heart: it is not refitted
        weight, constant = found.fit(keep, HOLDS) if found.is_few else found.fit(keep)
        found.set_weight(weight)
        constants[id(member.tensor)] = (member.layer, member.kind, constant)
    try:
        with Calls({key: (layer, kind) for key, (layer, kind, _) in constants.items()}, _Constants(constants)):
            yield [tensor for tensor, _ in changed]
    finally:
        with torch.no_grad():
            for tensor, before in changed:
                tensor.copy_(before)


class _Constants:
    """A watcher of calls that adds a constant to what they give; a bias or the norm behind takes it later."""

    def __init__(self, constants: Mapping[int, tuple]) -> None:
        self._constants = constants

    def before(self, call: Call) -> None:
        pass

    def after(self, call: Call, y: Tensor) -> None:
        constant = self._constants[id(call.weight)][2].to(y)
        y += constant.reshape([-1 if at == call.dim else 1 for at in range(y.dim())])

    def other(self, *_: object) -> None:
        pass
