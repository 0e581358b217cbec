"""Channel ids: every produced channel gets a number, and the numbers flow through the graph as data.

Two ids joined by an edge live or die together. A fixed id belongs to a channel that must stay, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

CONSTANT = 0  # the id of channels nobody may drop: images, constants, padding


@dataclass(frozen=True)
class Ids:
    """Channel ids of a tensor that vary along one dimension only: ``vector`` (C,) along ``dim``."""

    dim: int
    vector: torch.Tensor

    def spread(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The ids as a tensor of the given shape (a view, stride 0 along the other dimensions)."""
        view = [1] * len(shape)
        view[self.dim] = -1
        return self.vector.view(view).expand(shape)


class IdBook:
    """Hands out ids, and keeps what is known of them: edges, and fixed ids with reasons."""

    def __init__(self) -> None:
        self.count = 1
        self._edges: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.fixes: list[tuple[torch.Tensor, str]] = []
        self.assumptions: list[tuple[torch.Tensor, str]] = []

    def new(self, size: int) -> torch.Tensor:
        ids = torch.arange(self.count, self.count + size)
        self.count += size
        return ids

    def join(self, a: torch.Tensor, b: torch.Tensor, reason: str) -> None:
        """Tie ``a[i]`` and ``b[i]``; where one of them is constant, the other becomes fixed for ``reason``."""
        a, b = torch.broadcast_tensors(a, b)
        a, b = a.reshape(-1), b.reshape(-1)
        constant = (a == CONSTANT) | (b == CONSTANT)
        if constant.any():
            self.fix(torch.maximum(a[constant], b[constant]), reason)
        if not constant.all():
            self._edges.append((a[~constant], b[~constant]))

    def fix(self, ids: torch.Tensor, reason: str) -> None:
        ids = ids[ids != CONSTANT]
        if len(ids):
            self.fixes.append((ids.reshape(-1), reason))

    def assume(self, ids: torch.Tensor, what: str) -> None:
        """Note that the grouping of ``ids`` rests on something the graph does not show (see the prepare check)."""
        self.assumptions.append((ids.reshape(-1).unique(), what))

    def components(self) -> np.ndarray:
        """Component number of every id, (count,)."""
        if not self._edges:
            return np.arange(self.count)
        a = torch.cat([edge[0] for edge in self._edges]).numpy()
        b = torch.cat([edge[1] for edge in self._edges]).numpy()
        graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(self.count, self.count))
        return connected_components(graph, directed=False)[1]
