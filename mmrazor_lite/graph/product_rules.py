"""How channel ids flow through products of activations: a head of an attention stays or goes as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from .ids import varying
from .trace import Op, shape_of

if TYPE_CHECKING:
    from .propagate import Propagation, Value

MATMULS = frozenset("matmul bmm".split())


def matmul(flow: Propagation, op: Op) -> Value:
    """(..., n, k) x (..., k, m): k is summed over and stays whole per batch entry; n and m pass."""
    nodes = list(op.node.args[:2])
    a, b = (flow.ids(node) for node in nodes)
    if a is None and b is None:
        return None
    where = f"'{op.kind}' in {op.place}"
    if min(len(shape_of(node)) for node in nodes) < 2:
        flow.fix_inputs(op, f"read by {where}")
        return None
    rank = len(shape_of(op.node))
    first, second = (_operand(flow, node, rank) for node in nodes)
    return _product(flow, (first[0], first[1], rank - 1), (second[0], second[1], rank - 2), op, where)


def _operand(flow: Propagation, node: fx.Node, rank: int) -> tuple[torch.Tensor | None, tuple[int, ...]]:
    """Ids and shape of an operand, dimensions of size 1 in front."""
    ids, shape = flow.ids(node), shape_of(node)
    ones = [1] * (rank - len(shape))
    return None if ids is None else ids.view(*ones, *ids.shape), (*ones, *shape)


def _product(flow: Propagation, first: tuple, second: tuple, op: Op, where: str) -> Value:
    """A product of two tensors (ids, shape, summed dim) with the same dimensions in front of the last two."""
    operands = [first, second]
    for ids, _, _ in operands:
        if ids is not None and not varying(ids):
            flow.book.fix(ids, f"broadcast by {where}")
    moving = [ids is not None and bool(varying(ids)) for ids, _, _ in operands]
    if all(moving):
        flow.attended += [(ids, where) for ids, _, _ in operands]
    for (ids, _, summed), other in ((first, second), (second, first)):
        if ids is None or not varying(ids):
            continue
        batch = [dim for dim in varying(ids) if dim < ids.dim() - 2 and other[1][dim] > 1]
        if not (other[0] is not None and varying(other[0])) and (ids.shape[summed] > 1 or batch):
            flow.book.fix(ids, f"read by {where} with a tensor that no layer makes")
            return None
    known = [flow.book.tie(ids, [summed], where) for ids, _, summed in operands if ids is not None and varying(ids)]
    if len(known) == 2:
        flow.book.join(known[0].narrow(-2, 0, 1), known[1].narrow(-1, 0, 1), where)
    return max(known, key=torch.Tensor.numel) if known else None


def attention(flow: Propagation, op: Op) -> Value:
    """Heads are batch entries: a head's query, key and value stay or go together."""
    query, key, value, *mask = [flow.ids(node) for node in op.node.args[:4] if isinstance(node, fx.Node)]
    if query is None and key is None and value is None:
        return None
    where = f"the attention in {op.place}"
    if query is None or key is None or value is None or shape_of(op.node.args[0])[1] != shape_of(op.node.args[1])[1]:
        flow.fix_inputs(op, f"read by {where}")
        return None
    flow.attended += [(ids, where) for ids in (query, key, value)]
    tied = [
        flow.book.tie(ids, [ids.dim() - 2, ids.dim() - 1], where)
        for ids in (query, key, value, *mask)
        if ids is not None
    ]
    for ids in tied[1:]:
        flow.book.join(tied[0], ids, where)
    return value


def einsum(flow: Propagation, op: Op) -> Value:
    """Two operands without ellipsis: what both name and the result keeps is joined, what is summed over is tied."""
    nodes = list(op.argument("tensors"))
    terms, _, out = op.argument("equation").replace(" ", "").partition("->")
    terms = terms.split(",")
    where = f"'einsum' in {op.place}"
    if len(nodes) != 2 or "." in terms[0] + terms[1] or any(flow.ids(node) is None for node in nodes):
        flow.fix_inputs(op, f"{where} has no rule for its form")
        return None
    labels = sorted(set(terms[0] + terms[1]))
    aligned = []
    for node, term in zip(nodes, terms, strict=True):
        ids = flow.book.tie(flow.ids(node), [term.index(label) for label in term if label not in out], where)
        ids = ids.permute([term.index(label) for label in labels if label in term])
        aligned.append(ids.reshape([ids.shape[sorted(term).index(x)] if x in term else 1 for x in labels]))
        flow.attended.append((flow.ids(node), where))
    shared = [label not in terms[0] or label not in terms[1] for label in labels]
    common = [_first(ids, shared) for ids in aligned]
    flow.book.join(*common, where)
    result = max(aligned, key=torch.Tensor.numel)
    return result.permute([labels.index(x) for x in out] + [i for i, x in enumerate(labels) if x not in out]).reshape(
        [result.shape[labels.index(x)] for x in out]
    )


def _first(ids: torch.Tensor, dims: list[bool]) -> torch.Tensor:
    return ids[tuple(slice(0, 1) if first else slice(None) for first in dims)]


RULES = {
    **dict.fromkeys(MATMULS, matmul),
    "scaled_dot_product_attention": attention,
    "einsum": einsum,
}
