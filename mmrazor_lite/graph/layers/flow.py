"""How channel ids flow through the calls of layers: convs, linears, norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from ..explain import line_of
from ..ids import CONSTANT, along, varying
from ..trace import Op, shape_of
from .record import LAYER_KINDS

if TYPE_CHECKING:
    from ..propagate import Propagation, Value

COPIES = frozenset("contiguous clone to _to_copy type_as detach alias".split())


def conv(flow: Propagation, op: Op) -> Value:
    """New ids for a dense conv or one of groups, whose groups stay whole; a depthwise conv passes its input on."""
    weight, groups = shape_of(op.argument("weight")), int(op.argument("groups", 1))
    inputs, outputs = weight[1] * groups, weight[0]
    if op.kind.startswith("conv_transpose"):
        inputs, outputs = weight[0], weight[1] * groups
    if inputs == outputs == 1 and _slides_along_channels(flow, op):
        return _slide(flow, op)
    ids = _vector(flow, op.argument("input"), 1, inputs)
    if ids is not None and groups == weight[0] and weight[1] == 1:
        filters = flow.ids(op.argument("weight"))
        if _is_one_filter(op.argument("weight")):
            return _depthwise_by_one(flow, ids, op)
        if filters is not None:
            return _depthwise_by(flow, filters, ids, op)
    if ids is None or not flow.is_call(op):
        _refuse(flow, op)
        flow.fix_inputs(op, f"read by {_who(flow, op)}")
        return None
    if groups == 1:
        return dense(flow, op, inputs, outputs, 1)
    blocks = ids.reshape(groups, -1)
    known = flow.layers.get(op.layer)
    depthwise = blocks.shape[1] == 1
    new = known[1] if known else (None if depthwise else flow.book.new(outputs))
    out = ids.repeat_interleave(outputs // groups) if new is None else new
    if depthwise:
        flow.passes_through.add(op.layer)
        out = ids.repeat_interleave(outputs // groups)
    _record(flow, op, ids, out, 1, "two calls of one layer")
    reason = f"the groups of {op.layer}"
    flow.book.join(blocks, blocks[:, :1], reason)
    flow.book.join(out.view(groups, -1), blocks[:, :1], reason)
    return _along(out, 1, op)


def _slides_along_channels(flow: Propagation, op: Op) -> bool:
    """Whether a conv runs along the channels, each an output of its neighbours, as that of an ECA does."""
    ids = flow.ids(op.argument("input"))
    dims = [] if ids is None else varying(ids)
    return len(dims) == 1 and dims[0] > 1 and shape_of(op.node) == shape_of(op.argument("input")) and flow.is_call(op)


def _slide(flow: Propagation, op: Op) -> Value:
    """Passes the channels on: of the active ones, each has the next active ones for neighbours."""
    ids = flow.ids(op.argument("input"))
    dim = varying(ids)[0]
    known = flow.alone.setdefault(op.layer, (dim, ids.reshape(-1), ids.reshape(-1)))
    flow.book.join(known[1], ids.reshape(-1), f"{op.layer} is called on two inputs")
    return ids


def _depthwise_by(flow: Propagation, filters: torch.Tensor, ids: torch.Tensor, op: Op) -> Value:
    """A functional depthwise conv by a tensor that a module holds, such as a blur."""
    where = f"a functional conv in {op.place}"
    flow.book.join(ids, flow.book.tie(filters, range(1, filters.dim()), where).reshape(-1), where)
    flow.book.assume(ids)
    flow.sites.append(op)
    if flow.ids(op.argument("bias")) is not None:
        flow.book.join(ids, flow.ids(op.argument("bias")), where)
    return ids.view(1, -1, *[1] * (len(shape_of(op.node)) - 2))


def _is_one_filter(node: fx.Node) -> bool:
    """Whether the filters of a functional conv are one, repeated for all channels."""
    while node.op == "call_function" and node.target.__name__.partition(".")[0] in COPIES:
        node = node.args[0]
    if node.op != "call_function" or node.target.__name__.partition(".")[0] not in ("repeat", "expand", "expand_as"):
        return False
    shape = shape_of(node.args[0])
    return len(shape) == len(shape_of(node)) and shape[0] == 1


def _depthwise_by_one(flow: Propagation, ids: torch.Tensor, op: Op) -> Value:
    """A functional depthwise conv by one filter for all channels, repeated as often as there are."""
    flow.book.assume(ids)  # as often as there are now, or as a number in the code says
    flow.sites.append(op)
    if op.argument("bias") is not None:
        flow.book.fix(ids, f"the bias of a functional conv in {op.place}")
    return ids.view(1, -1, *[1] * (len(shape_of(op.node)) - 2))


def linear(flow: Propagation, op: Op) -> Value:
    """New ids for the features; the ids it reads must lie along the last dimension."""
    outputs, inputs = shape_of(op.argument("weight"))
    return dense(flow, op, inputs, outputs, len(shape_of(op.node)) - 1)


def dense(flow: Propagation, op: Op, inputs: int, outputs: int, dim: int) -> Value:
    """New ids for the outputs of a layer, each made of all inputs; both lie along ``dim``, of ``input`` and result."""
    ids = _vector(flow, op.argument("input"), dim, inputs)
    if ids is None or not flow.is_call(op):
        _refuse(flow, op)
        flow.fix_inputs(op, f"read by {_who(flow, op)}")
        return None
    known = flow.layers.get(op.layer)
    made = known[1] if known else flow.book.new(outputs)
    _record(flow, op, ids, made, dim, f"{op.layer} is called on two inputs")
    return _along(made, dim, op)


def _along(ids: torch.Tensor, dim: int, op: Op) -> torch.Tensor:
    """Ids (C,) as those of the result of an op, with its channels along ``dim``."""
    shape = [1] * len(shape_of(op.node))
    shape[dim] = -1
    return ids.view(shape)


def _record(flow: Propagation, op: Op, inputs: torch.Tensor, outputs: torch.Tensor, dim: int, reason: str) -> None:
    """Note the channels that a layer reads along ``dim`` and those it gives."""
    known = flow.layers.setdefault(op.layer, (inputs, outputs))
    if flow.layer_kind(op).own_forward:
        flow.alone.setdefault(op.layer, (dim, *known))
    if known[0] is not inputs:
        flow.book.join(known[0], inputs, reason)
        flow.book.join(known[1], outputs, reason)


def batch_norm(flow: Propagation, op: Op) -> Value:
    """Batch and instance norms pass (N, C, ...) on."""
    return _norm(flow, op, 1)


def layer_norm(flow: Propagation, op: Op) -> Value:
    """A layer norm over the last dimension passes it on; over the channels of one head it keeps them together."""
    source = op.argument("input")
    ids = flow.ids(source)
    if len(op.argument("normalized_shape")) != 1:
        flow.fix(source, f"{_who(flow, op)} normalises over more than the channels")
        return ids
    last = len(shape_of(op.node)) - 1
    if ids is not None and len(varying(ids)) > 1:  # the norm of a head: its channels stay together
        return flow.book.tie(ids, [last], f"normalised by {_who(flow, op)}")
    return _norm(flow, op, last)


def group_norm(flow: Propagation, op: Op) -> Value:
    """A group norm passes (N, C, ...) on; of several groups, each stays whole."""
    value = _norm(flow, op, 1)
    if isinstance(value, torch.Tensor) and value.numel() > 1 and int(op.argument("num_groups")) > 1:
        blocks = value.reshape(int(op.argument("num_groups")), -1)
        flow.book.join(blocks, blocks[:, :1], f"the groups of {_who(flow, op)}")
    return value


def _norm(flow: Propagation, op: Op, dim: int, source: str = "input") -> Value:
    source = op.argument(source)
    ids = flow.ids(source)
    if ids is None:
        return None
    shape = shape_of(source)
    vector = along(ids, dim, shape)
    if vector is None or not flow.is_call(op):
        flow.fix(source, f"normalised by {_who(flow, op)}")
        return ids
    known = flow.layers.get(op.layer)
    if known and len(known[1]) == len(vector) and torch.equal(known[1], vector):
        vector = known[1]
    flow.passes_through.add(op.layer)
    _record(flow, op, vector, vector, dim, f"{op.layer} is called on two inputs")
    return ids


def statistic(flow: Propagation, op: Op) -> Value:
    """A mean over the channels that are active, inside a layer that passes them on: it has none itself."""
    dims = op.argument("dim")
    _norm(flow, op, (dims if isinstance(dims, int) else dims[0]) % len(shape_of(op.argument("self"))), "self")
    return None


def _vector(flow: Propagation, node: Any, dim: int, size: int) -> torch.Tensor | None:
    """Input ids (C,) of a layer: constants for an input without ids, None where the ids lie along another dim."""
    ids = flow.ids(node)
    if ids is None:
        return torch.full((size,), CONSTANT)
    return along(ids, dim, shape_of(node))


def _refuse(flow: Propagation, op: Op) -> None:
    if not op.layer:  # a functional one
        return
    module = flow.modules[op.layer]
    if flow.kind(module) is None or hasattr(module, "parametrizations"):
        reason = no_layer_for(module, op)
    elif module._forward_hooks or module._forward_pre_hooks:
        reason = "it has a forward hook"
    else:
        reason = f"its input has its channels elsewhere, or another op takes its place{line_of(op.node)}"
    flow.refused.setdefault(op.layer, reason)


def no_layer_for(module: nn.Module, op: Op) -> str:
    """Why a layer stays whose type has no dynamic form; of code of the user's own, with the line."""
    line = "" if type(module).__module__.startswith("torch.") else line_of(op.node)
    return f"no dynamic layer for {type(module).__name__}{line}"


def _who(flow: Propagation, op: Op) -> str:
    name = op.layer or op.module_path or "the model"
    module = flow.modules.get(name)
    called = LAYER_KINDS.of_op(op.kind)
    if op.layer is None and called is not None and called.makes_channels:
        return f"a functional {op.kind} in {name}"
    if isinstance(module, nn.Module) and flow.kind(module) is None:
        return f"{name} ({type(module).__name__}, no dynamic layer for this type)"
    return name
