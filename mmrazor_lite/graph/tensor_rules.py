"""How channel ids flow through ops on tensors: activations, sums, views, concats, reductions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from .ids import CONSTANT, compress, varying
from .reshaping import SHAPE, SPLIT, VIEWS, cuts_channels, reshaped
from .trace import Op, shape_of

if TYPE_CHECKING:
    from .propagate import Propagation, Value

PASS = frozenset(
    "relu hardtanh hardswish hardsigmoid silu sigmoid gelu elu selu celu leaky_relu tanh mish softplus log_sigmoid "
    "dropout alpha_dropout feature_dropout native_dropout clone contiguous detach alias lift_fresh_copy _to_copy to "
    "neg abs exp log sqrt rsqrt square reciprocal clamp clamp_min clamp_max floor round erf bernoulli type_as "
    "rand_like zeros_like ones_like empty_like _assert_tensor_metadata".split()
)
SPATIAL = frozenset(
    "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d "
    "adaptive_max_pool2d max_pool3d avg_pool3d adaptive_avg_pool3d adaptive_max_pool3d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d "
    "upsample_bicubic2d".split()
)
ELEMENTWISE = frozenset("add sub mul div rsub maximum minimum pow where masked_fill lerp addcmul eq ne gt lt".split())
REDUCE = frozenset("mean sum amax amin max min var std var_mean linalg_vector_norm norm logsumexp".split())
FACTORIES = frozenset("new_empty new_zeros new_ones new_full".split())  # nothing of their source but its type
SOFTMAX = frozenset("softmax log_softmax _softmax _log_softmax".split())


def same(flow: Propagation, op: Op) -> Value:
    """An op of one element at a time passes its first input on."""
    return flow.nodes.get(op.node.all_input_nodes[0]) if op.node.all_input_nodes else None


def spatial(flow: Propagation, op: Op) -> Value:
    """Pooling and resizing pass channels on; along the channels themselves they fix them."""
    ids = flow.ids(op.node.all_input_nodes[0])
    space = int(op.kind[-2])  # ...1d, 2d or 3d
    if ids is not None and any(size > 1 for size in ids.shape[-space:]):
        flow.fix(op.node.all_input_nodes[0], f"'{op.kind}' along the channels in {op.place}")
        return None
    return ids


def elementwise(flow: Propagation, op: Op) -> Value:
    """Ties what meets in one element; what one channel is broadcast over, and what no layer makes, stays."""
    shape = shape_of(op.node)
    known: list[torch.Tensor] = []
    tables: list[torch.Tensor] = []
    others: dict[fx.Node, tuple[int, ...]] = {}
    where = f"'{op.kind}' in {op.place}"
    for node in op.node.all_input_nodes:
        own = shape_of(node) or ()
        ids = flow.ids(node)
        if ids is None:
            others[node] = (*[1] * (len(shape) - len(own)), *own)
        else:
            place = tables if node in flow.tables else known
            place.append(ids.view(*[1] * (len(shape) - ids.dim()), *ids.shape))
    if not known:
        return _joined(flow, tables, where) if tables and op.node in flow.tables else None
    result = _joined(flow, known, where)
    for node, size in others.items():
        if any(size[dim] > 1 for dim in varying(result)):
            flow.book.fix(result, f"{where} with {_what(flow, node)}")
    for table in tables:  # each element of a table belongs to the channel it meets; broadcast ones to none
        dims = varying(result)
        if any(table.shape[dim] > 1 for dim in dims):
            rest = [dim for dim in varying(table) if dim not in dims]
            flow.book.join(result, flow.book.tie(table, rest, where), where)
    return result


def _what(flow: Propagation, node: fx.Node) -> str:
    """A tensor without ids, for a message."""
    while node not in flow.graph.names and len(node.all_input_nodes) == 1:  # a view of one that has a name
        node = node.all_input_nodes[0]
    module, name = flow.graph.names.get(node, ("", ""))
    if not name:
        return "a tensor that no layer makes"
    if (module, name) in flow.written:
        return f"{module}.{name}".lstrip(".") + ", which a forward pass changes"
    return f"{module}.{name}" if module else f"{name}, which the model itself holds: put it into a module of its own"


def _joined(flow: Propagation, known: list[torch.Tensor], where: str) -> torch.Tensor:
    result = max(known, key=torch.Tensor.numel)
    for ids in known:
        if ids is result:
            continue
        if ids.numel() == 1 < result.numel():  # one channel broadcast over many: a gate that stays
            flow.book.fix(ids, f"broadcast by {where}")
        elif set(varying(ids)) & set(varying(result)) or result.numel() == 1:
            joint = torch.broadcast_tensors(result, ids)[0]
            flow.book.join(joint, ids, where)
            result = result if joint.shape == result.shape else joint
        else:
            flow.book.fix(ids, f"{where} mixes two channel dimensions")
            flow.book.fix(result, f"{where} mixes two channel dimensions")
    return result


def shape(flow: Propagation, op: Op) -> Value:
    """Runs views, moves and cuts on the ids; where a view spreads channels over dimensions, a block must stay."""
    source = op.node.all_input_nodes[0]
    ids = flow.ids(source)
    if ids is None:
        return None
    before, after = shape_of(source), shape_of(op.node)
    flow.sites.append(op)
    dim = cuts_channels(op, ids, before, after)
    if dim is not None and op.kind in ("slice", "narrow"):
        _cut(flow, op, ids, dim, before, after)
    elif dim is not None:
        where = f"'{op.kind}' along the channels in {op.place}"
        if op.kind != "select" or varying(ids) == [dim]:
            flow.fix(source, where)
            return None
        ids = flow.book.tie(ids, [dim], where).expand(ids.shape)
        flow.book.assume(ids)
    result = reshaped(op, ids, before, after)
    if not varying(result) and varying(ids):
        flow.book.fix(ids, f"'{op.kind}' in {op.place} leaves one channel")
        return None
    if op.kind in VIEWS:
        if len(varying(result)) > 1:
            flow.book.must_be_block(result, f"'{op.kind}' in {op.place} splits the channels")
        flow.book.assume(ids)
    return result


def _cut(
    flow: Propagation, op: Op, ids: torch.Tensor, dim: int, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """A range of the channels: one of several equal parts, or up to a number that a module holds (see the check)."""
    where = f"'{op.kind}' along the channels in {op.place}"
    start = int(op.argument("start", 0) or 0) % before[dim]
    size = after[dim]
    flow.book.assume(ids)
    if int(op.argument("step", 1) or 1) != 1:
        flow.book.fix(ids, where)
    elif before[dim] % size == 0 and start % size == 0 and _all_of_one_size(op, dim, size):
        parts = ids.split(size, dim)
        for part in parts[1:]:
            flow.book.join(parts[0], part, where)


def _all_of_one_size(op: Op, dim: int, size: int) -> bool:
    """Whether all slices of a tensor along ``dim`` are as long as this one: equal parts, not some and the rest."""
    others = [user for user in op.node.all_input_nodes[0].users if user.target is op.node.target]
    return all(shape_of(user)[dim] in (size, shape_of(op.node.all_input_nodes[0])[dim]) for user in others)


def split(flow: Propagation, op: Op) -> Value:
    """One value per part; equal parts keep the same channels, unequal ones rest on numbers of the module."""
    source = op.node.all_input_nodes[0]
    ids = flow.ids(source)
    if ids is None:
        return None
    shape = shape_of(source)
    dim = int(op.argument("dim", 0)) % len(shape)
    pieces = [tuple(value.shape) for value in op.node.meta["val"]]
    if op.kind == "unbind":
        if varying(ids) == [dim]:
            flow.fix(source, f"'unbind' along the channels in {op.place}")
            return None
        if ids.shape[dim] > 1:
            flow.book.assume(ids)
            parts = [part.squeeze(dim) for part in ids.split(1, dim)]
            for part in parts[1:]:
                flow.book.join(parts[0], part, f"'unbind' in {op.place}")
            return parts
        return [ids.squeeze(dim)] * len(pieces)
    if ids.shape[dim] == 1:
        return [ids for _ in pieces]
    where = f"'{op.kind}' in {op.place} cuts the channels"
    parts = [part.clone() for part in ids.split([piece[dim] for piece in pieces], dim)]
    if len({part.shape[dim] for part in parts}) == 1:
        for part in parts[1:]:
            flow.book.join(parts[0], part, where)
    flow.book.assume(ids)  # unequal parts must have their sizes from numbers that a module holds
    flow.sites.append(op)
    return parts


def glu(flow: Propagation, op: Op) -> Value:
    """One half gates the other: both keep the same channels."""
    ids = flow.ids(op.node.args[0])
    dim = int(op.argument("dim", -1))
    if ids is None or ids.shape[dim] == 1:
        return ids
    halves = ids.chunk(2, dim)
    flow.book.join(halves[0], halves[1], f"'glu' in {op.place} cuts the channels")
    flow.book.assume(ids)
    return halves[0].clone()


def getitem(flow: Propagation, op: Op) -> Value:
    """One result of an op that has several."""
    value = flow.nodes.get(op.node.args[0])
    return value[op.node.args[1]] if isinstance(value, list) else value


def cat(flow: Propagation, op: Op) -> Value:
    """Along the channels, the ids of one after the other; elsewhere, the parts are tied."""
    nodes = list(op.argument("tensors"))
    shape = shape_of(op.node)
    dim = int(op.argument("dim", 0)) % len(shape)
    return _concatenated(flow, [(flow.ids(node), shape_of(node)) for node in nodes], dim, op)


def stack(flow: Propagation, op: Op) -> Value:
    """A concat along a new dimension."""
    nodes = list(op.argument("tensors"))
    dim = int(op.argument("dim", 0)) % len(shape_of(op.node))
    pairs = []
    for node in nodes:
        ids, shape = flow.ids(node), list(shape_of(node))
        shape.insert(dim, 1)
        pairs.append((None if ids is None else ids.unsqueeze(dim), tuple(shape)))
    return _concatenated(flow, pairs, dim, op)


def _concatenated(
    flow: Propagation, parts: list[tuple[torch.Tensor | None, tuple[int, ...]]], dim: int, op: Op
) -> Value:
    known = [ids for ids, _ in parts if ids is not None]
    if not known:
        return None
    where = f"'cat' in {op.place}"
    others = [{d for d in varying(ids) if d != dim} for ids in known]
    if any(ids.shape[dim] > 1 for ids in known) or not any(others):  # the channels themselves
        if any(dims != others[0] for dims in others):
            for ids in known:
                flow.book.fix(ids, f"{where} mixes two channel dimensions")
            return None
        other = torch.broadcast_shapes(*(ids.narrow(dim, 0, 1).shape for ids in known))
        vectors = [
            torch.full((1,), CONSTANT).expand(*other[:dim], shape[dim], *other[dim + 1 :]) if ids is None
            else ids.expand(*other[:dim], shape[dim], *other[dim + 1 :])
            for ids, shape in parts
        ]  # fmt: skip
        return compress(torch.cat(vectors, dim))
    for ids in known[1:]:
        flow.book.join(known[0], ids, where)
    if len(known) < len(parts):
        flow.book.fix(known[0], f"{where} with a tensor that no layer makes")
    return max(known, key=torch.Tensor.numel)


def pad(flow: Propagation, op: Op) -> Value:
    """Padding along the channels adds some that stay."""
    source = op.node.all_input_nodes[0]
    ids = flow.ids(source)
    if ids is None:
        return None
    pad = list(op.argument("pad"))
    for place in range(len(pad) // 2):
        dim = ids.dim() - 1 - place
        before, after = pad[2 * place : 2 * place + 2]
        if ids.shape[dim] == 1 or not (before or after):
            continue
        if min(before, after) < 0 or op.argument("mode", "constant") not in ("constant", None):
            flow.fix(source, f"'pad' along the channels in {op.place}")
            return None
        zeros = [torch.full((1,), CONSTANT).expand(*ids.shape[:dim], size, *ids.shape[dim + 1 :])
                 for size in (before, after)]  # fmt: skip
        ids = torch.cat([zeros[0], ids, zeros[1]], dim)
    return ids


def reduce(flow: Propagation, op: Op) -> Value:
    """What is reduced away is tied; a statistic over all channels fixes them."""
    source = op.node.all_input_nodes[0]
    ids = flow.ids(source)
    if ids is None:
        return None
    rank = len(shape_of(source))
    dims = op.argument("dim")
    dims = {dim % rank for dim in ([dims] if isinstance(dims, int) else list(dims or range(rank)))}
    where = f"'{op.kind}' over the channels in {op.place}"
    channels = varying(ids) or [1]  # of a single channel, where it lies by convention
    if len(op.node.all_input_nodes) > 1 or set(channels) <= dims:
        flow.fix_inputs(op, where)
        return None
    ids = flow.book.tie(ids, dims, where)
    if not bool(op.argument("keepdim", False)):
        ids = ids.squeeze(tuple(dims))
    return [ids, ids] if not isinstance(op.node.meta.get("val"), torch.Tensor) else ids


def softmax(flow: Propagation, op: Op) -> Value:
    """Over something else than the channels it passes them on; over branches it ties these."""
    source = op.node.all_input_nodes[0]
    ids = flow.ids(source)
    if ids is None:
        return None
    dim = int(op.argument("dim")) % ids.dim()
    where = f"'{op.kind}' over the channels in {op.place}"
    if ids.shape[dim] > 1 and varying(ids) == [dim]:
        flow.fix(source, where)
        return None
    return ids if ids.shape[dim] == 1 else flow.book.tie(ids, [dim], where)


def index(flow: Propagation, op: Op) -> Value:
    """A tensor indexed by numbers that the module holds, such as a table of position biases."""
    source, picks = op.node.args[0], list(op.node.args[1])
    ids = flow.ids(source)
    if ids is None:
        if any(flow.ids(pick) is not None for pick in picks):
            flow.fix_inputs(op, f"'index' in {op.place} has no rule")
        return None
    values = [None if pick is None else flow.graph.constant(pick) for pick in picks]
    if any(value is None and pick is not None for value, pick in zip(values, picks, strict=True)):
        flow.fix(source, f"indexed by data in {op.place}")
        return None
    along_channels = any(ids.shape[dim] > 1 for dim, value in enumerate(values) if value is not None)
    if along_channels and source not in flow.tables:
        flow.fix(source, f"indexed along the channels in {op.place}")
        return None
    where = tuple(slice(None) if value is None else value for value in values)
    return compress(ids.expand(shape_of(source))[where])


def prelu(flow: Propagation, op: Op) -> Value:
    """Passes on; slopes by channel follow the channels."""
    ids, slopes = flow.ids(op.node.args[0]), flow.ids(op.node.args[1])
    shape = shape_of(op.node.args[1])
    if ids is None or shape == (1,):
        return ids
    if slopes is None:
        flow.fix(op.node.args[0], f"the slopes of {op.place}")
        return ids
    flow.book.join(ids, slopes.view(1, -1, *[1] * (ids.dim() - 2)), f"the slopes of {op.place}")
    return ids


def nothing(flow: Propagation, op: Op) -> Value:
    """A new tensor that has nothing of its source but the type."""
    return None


RULES = {
    **dict.fromkeys(PASS, same),
    **dict.fromkeys(FACTORIES, nothing),
    **dict.fromkeys(SPATIAL, spatial),
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(SHAPE, shape),
    **dict.fromkeys(SPLIT, split),
    **dict.fromkeys(REDUCE, reduce),
    **dict.fromkeys(SOFTMAX, softmax),
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    "glu": glu,
    "prelu": prelu,
    "getitem": getitem,
    "cat": cat,
    "stack": stack,
    "index": index,
}
