"""Ops that only move elements, run on channel ids instead of data."""

from __future__ import annotations

import torch

from .ids import compress, varying
from .trace import Op

SHAPE = frozenset(
    "view reshape _unsafe_view view_as reshape_as flatten unflatten permute transpose t movedim swapaxes swapdims "
    "unsqueeze squeeze expand expand_as slice select narrow roll repeat flip".split()
)
MOVES = frozenset("permute transpose t movedim swapaxes swapdims unsqueeze".split())
VIEWS = frozenset("view reshape _unsafe_view view_as reshape_as flatten unflatten".split())
SPLIT = frozenset("chunk split split_with_sizes tensor_split unbind".split())

Shape = tuple[int, ...]


def cuts_channels(op: Op, ids: torch.Tensor, before: Shape, after: Shape) -> int | None:
    """The dimension of channels that an op takes apart by numbers in the code; None where it leaves them whole."""
    if op.kind == "repeat":
        counts = [1] * (len(before) - len(op.argument("repeats"))) + list(op.argument("repeats"))[-len(before) :]
        return next((dim for dim in varying(ids) if counts[dim] != 1), None)
    if op.kind in ("roll", "flip"):
        dims = {dim % len(before) for dim in op.argument("dims") or range(len(before))}
        return next((dim for dim in varying(ids) if dim in dims), None)
    if op.kind in ("slice", "narrow", "select"):
        dim = int(op.argument("dim", 0)) % len(before)
        cut = op.kind == "select" or before[dim] != after[dim] or int(op.argument("step", 1) or 1) != 1
        return dim if cut and ids.shape[dim] > 1 else None
    return None


def reshaped(op: Op, ids: torch.Tensor, before: Shape, after: Shape) -> torch.Tensor:
    """Ids of the result of an op of :data:`SHAPE`."""
    if op.kind in MOVES:
        return _run(op, ids)
    if op.kind in ("expand", "expand_as", "repeat"):
        return ids.view(*[1] * (len(after) - ids.dim()), *ids.shape)
    if op.kind in ("roll", "flip"):
        return ids
    if op.kind in ("slice", "narrow"):
        dim = int(op.argument("dim", 0)) % len(before)
        return ids if ids.shape[dim] == 1 or before[dim] == after[dim] else compress(_run(op, ids))
    if op.kind == "select":
        dim = int(op.argument("dim")) % len(before)
        return ids.squeeze(dim) if ids.shape[dim] == 1 else compress(ids.select(dim, int(op.argument("index"))))
    return _regrouped(ids, before, after)


def _run(op: Op, ids: torch.Tensor) -> torch.Tensor:
    source = op.node.all_input_nodes[0]
    return op.node.target(*[ids if arg is source else arg for arg in op.node.args], **op.node.kwargs)


def _regrouped(ids: torch.Tensor, before: Shape, after: Shape) -> torch.Tensor:
    """Ids after a reshape, without writing out the dimensions in which they do not vary.

    Both shapes are cut into the smallest runs of equal product; only runs in which ids vary are spread out.
    """
    full: list[int] = []
    sizes: list[int] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start, first = i, j
        a, i = (before[i], i + 1) if i < len(before) else (1, i)
        b, j = (after[j], j + 1) if j < len(after) else (1, j)
        while a != b:
            if a < b:
                a, i = a * before[i], i + 1
            else:
                b, j = b * after[j], j + 1
        vary = any(size > 1 for size in ids.shape[start:i])
        full += before[start:i] if vary else [1] * (i - start)
        sizes += after[first:j] if vary else [1] * (j - first)
    return compress(ids.expand(full).reshape(sizes))
