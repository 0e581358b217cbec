"""reconstruction: which units the layers that read them can do without, once their weights are fitted anew.

Shape letters: K inputs of a reader, O its outputs, L units that are left, B inputs of a reader in one unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from .definition import Batches, Ranking, Scores, Widths, measure
from .moments import Moments, gather
from .weight_size import l2

SPARSE = 5  # one line in so many is gone: the matrices are made smaller


@measure("images")
def reconstruction(network: Widths, batches: Batches, loss: Callable | None = None) -> Scores:
    """Backward elimination of the units whose readers, refitted in closed form, lose least of their outputs.

    Optimal Brain Surgeon (Hassibi and Stork, NeurIPS 1992) on blocks of weights, for the outputs of each reader as
    ThiNet (arXiv:1707.06342) and channel pruning (arXiv:1707.06168) have them. The score is the rank.
    """
    found, _ = rank_by_reconstruction(network, gather(network, batches))
    return {name: scores_of(ranking) for name, ranking in found.items()}


def scores_of(ranking: Ranking) -> np.ndarray:
    """A score for each unit that falls along the order."""
    scores = np.empty(len(ranking.order))
    scores[ranking.order] = np.arange(len(scores), 0, -1)
    return scores


def rank_by_reconstruction(
    network: Widths, moments: Mapping[str, Moments], ridge: float = 1e-3
) -> tuple[dict[str, Ranking], list[str]]:
    """A ranking of every group; and the groups without a reader that can be seen, which have that of their weights."""
    rankings, unseen = {}, []
    for index, (name, units) in enumerate(network.unit_counts.items()):
        found = [_Reader(m, index, ridge) for m in moments.values() if index in m.reader.side.counts]
        if found:
            rankings[name] = eliminate(found, units)
        else:
            unseen.append(name)
    if unseen:
        scores = l2(network)
        rankings.update({name: by_scores(scores[name]) for name in unseen})
    return {name: rankings[name] for name in network.unit_counts}, unseen


def by_scores(scores: np.ndarray) -> Ranking:
    """The ranking of plain scores: what is lost is the sum of those that go. Negative ones are lifted to 0."""
    order = np.argsort(-scores, kind="stable")
    values = scores[order] - min(float(scores.min()), 0.0)
    return Ranking(order, np.append(np.cumsum(values[::-1])[::-1], 0.0))


def eliminate(readers: Sequence[_Reader], units: int) -> Ranking:
    """Take away the unit that costs least, again and again; what is lost adds up over the readers."""
    left, gone, errors = list(range(units)), [], [0.0]
    while left:
        costs = sum(reader.costs(left) for reader in readers)
        best = int(costs.argmin())
        errors.append(errors[-1] + max(float(costs[best]), 0.0))
        gone.append(left.pop(best))
        for reader in readers:
            reader.remove(gone[-1], left)
    return Ranking(np.array(gone[::-1], np.int64), np.array(errors[::-1]))


class _Reader:
    """One layer that reads a group: its weights and the inverse of its inputs' moments, without what is gone.

    What it costs to take away inputs p, all others refitted, is ``tr(W[p]' inv(H^-1[p, p]) W[p])``; the weights become
    ``W - H^-1[:, p] inv(H^-1[p, p]) W[p]``. Costs are parts of the mean square of what the layer gives.
    """

    def __init__(self, moments: Moments, group: int, ridge: float) -> None:
        covariance = moments.covariance()
        weight = moments.weight()
        size = float((weight * (covariance @ weight)).sum())
        covariance.diagonal().add_(moments.ridge(ridge))
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
        if weight.shape[1] > weight.shape[0]:  # as many columns as rows say the same of all sums of squares
            weight = torch.linalg.qr(weight.T, mode="r")[1].T
        self._weight = weight / max(size, torch.finfo(torch.float64).tiny) ** 0.5
        self._places = moments.places(group)
        self._there = torch.ones(len(weight), dtype=torch.bool)

    def costs(self, left: Sequence[int]) -> Tensor:
        """What each of the units (L,) costs, (L,)."""
        places = self._places[list(left)]
        weight = self._weight[places]  # (L, B, O)
        if places.shape[1] == 1:
            return weight.square().sum((1, 2)) / self._inverse.diagonal()[places[:, 0]]
        blocks = self._inverse[places[:, :, None], places[:, None, :]]
        return (weight * torch.linalg.solve(blocks, weight)).sum((1, 2))

    def remove(self, unit: int, left: Sequence[int]) -> None:
        """Take a unit away, where others are left."""
        if not left:
            return
        p = self._places[unit]
        inverse, weight = self._inverse, self._weight
        factor = torch.linalg.solve(inverse[p][:, p], inverse[p]).T  # (K, B)
        weight -= factor @ weight[p]
        inverse.addmm_(factor, inverse[p], alpha=-1)
        self._there[p] = False
        if (~self._there).sum() * SPARSE > len(self._there):
            self._compress()

    def _compress(self) -> None:
        """Let go of the lines of what is gone: they cost time only."""
        index = self._there.nonzero()[:, 0]
        now = torch.full((len(self._there),), -1)
        now[index] = torch.arange(len(index))
        self._inverse, self._weight = self._inverse[index][:, index], self._weight[index]
        self._places, self._there = now[self._places], torch.ones(len(index), dtype=torch.bool)
