"""Channel ids: every produced channel gets a number, and the numbers flow through the graph as data.

Ids of a tensor are an int64 tensor of the same rank, of size 1 along every dimension in which they do not vary: those
of a feature map (N, C, H, W) are (1, C, 1, 1), those of heads (N, heads, tokens, width) are (1, heads, 1, width).

Two ids joined by an edge live or die together. A fixed id belongs to a channel that must stay, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

CONSTANT = 0  # the id of channels nobody may drop: images, constants, padding

Shape = tuple[int, ...]


def varying(ids: torch.Tensor) -> list[int]:
    """Dimensions along which ids vary."""
    return [dim for dim, size in enumerate(ids.shape) if size > 1]


def compress(ids: torch.Tensor) -> torch.Tensor:
    """The same ids with size 1 wherever they do not vary."""
    for dim, size in enumerate(ids.shape):
        if size > 1 and (ids.stride(dim) == 0 or bool((ids == ids.narrow(dim, 0, 1)).all())):
            ids = ids.narrow(dim, 0, 1)
    return ids.clone() if ids.numel() < ids.untyped_storage().nbytes() // ids.element_size() else ids


def along(ids: torch.Tensor, dim: int, shape: Shape) -> torch.Tensor | None:
    """The ids (C,) along ``dim`` of a tensor of ``shape``; None where they vary elsewhere."""
    if any(other != dim % len(shape) for other in varying(ids)):
        return None
    return ids.reshape(-1).expand(shape[dim])


class IdBook:
    """Hands out ids, and keeps what is known of them: edges, and fixed ids with reasons.

    ``assumptions`` are ids whose grouping rests on something the graph does not show (see the prepare check);
    ``blocks`` are ids that a view spread over several dimensions: what is kept must be a block again.
    """

    def __init__(self) -> None:
        self.count = 1
        self.line = ""  # of the user's code that is being followed, for the end of reasons
        self._edges: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.fixes: list[tuple[torch.Tensor, str]] = []
        self.assumptions: list[torch.Tensor] = []
        self.blocks: list[tuple[torch.Tensor, str]] = []

    def new(self, *shape: int) -> torch.Tensor:
        size = int(np.prod(shape))
        ids = torch.arange(self.count, self.count + size).view(shape)
        self.count += size
        return ids

    def join(self, a: torch.Tensor, b: torch.Tensor, reason: str) -> None:
        """Tie ``a[i]`` and ``b[i]``; where one of them is constant, the other becomes fixed for ``reason``."""
        if a is b:
            return
        a, b = torch.broadcast_tensors(a, b)
        a, b = a.reshape(-1), b.reshape(-1)
        constant = (a == CONSTANT) | (b == CONSTANT)
        if constant.any():
            self.fix(torch.maximum(a[constant], b[constant]), reason)
        if not constant.all():
            self._edges.append((a[~constant], b[~constant]))

    def tie(self, ids: torch.Tensor, dims: Iterable[int], reason: str) -> torch.Tensor:
        """Make all ids along ``dims`` one; return them with size 1 there."""
        for dim in dims:
            if ids.shape[dim] > 1:
                first = ids.narrow(dim, 0, 1)
                self.join(ids, first, reason)
                ids = first
        return ids

    def fix(self, ids: torch.Tensor, reason: str) -> None:
        ids = ids[ids != CONSTANT]
        if len(ids):
            line = self.line if "'" in reason or "functional" in reason else ""  # not of layers, which have names
            self.fixes.append((ids.reshape(-1), reason + line))

    def assume(self, ids: torch.Tensor) -> None:
        self.assumptions.append(ids.reshape(-1))

    def must_be_block(self, ids: torch.Tensor, reason: str) -> None:
        self.blocks.append((ids, reason))
        self.assume(ids)

    def components(self) -> np.ndarray:
        """Component number of every id, (count,), after all views hold blocks."""
        waiting = self.blocks
        while True:
            component = self._connect()
            tied = [block for block in waiting if self._tie_block(*block, component)]
            if not tied:
                return component
            waiting = [
                block for block in waiting if not any(block is other for other in tied)
            ]  # once: later ties only merge more

    def _connect(self) -> np.ndarray:
        if not self._edges:
            return np.arange(self.count)
        a = torch.cat([edge[0] for edge in self._edges]).numpy()
        b = torch.cat([edge[1] for edge in self._edges]).numpy()
        graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(self.count, self.count))
        return connected_components(graph, directed=False)[1]

    def _tie_block(self, ids: torch.Tensor, reason: str, component: np.ndarray) -> bool:
        """Where channels vary along several dimensions, only the longest may be cut: tie the others."""
        numbers = compress(torch.from_numpy(component)[ids])
        dims = varying(numbers)
        if len(dims) < 2:
            return False
        keep = max(dims, key=lambda dim: (numbers.shape[dim], dim))
        self.tie(ids, [dim for dim in dims if dim != keep], reason)
        return True
