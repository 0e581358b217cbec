"""The rules by which channel ids flow through a traced graph.

A conv or linear makes new ids; norms and activations pass them on; add and mul tie the two sides; view, transpose,
cat, chunk and the like are run on the ids themselves. What no rule covers fixes what it touches.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from .ids import CONSTANT, IdBook, Ids
from .trace import Op, TracedGraph, TracedModel, shape_of

PASS = frozenset(
    "relu hardtanh hardswish hardsigmoid silu sigmoid gelu elu selu celu leaky_relu tanh mish softplus log_sigmoid "
    "dropout alpha_dropout feature_dropout native_dropout clone contiguous detach alias lift_fresh_copy _to_copy to "
    "neg abs exp sqrt rsqrt square reciprocal clamp clamp_min clamp_max floor round erf bernoulli type_as "
    "rand_like zeros_like ones_like empty_like _assert_tensor_metadata".split()
)
SPATIAL = frozenset(
    "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d "
    "adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d".split()
)
ELEMENTWISE = frozenset("add sub mul div rsub maximum minimum pow where masked_fill lerp addcmul eq ne gt lt".split())
SHAPE = frozenset(
    "view reshape _unsafe_view view_as flatten unflatten permute transpose t movedim unsqueeze squeeze expand "
    "expand_as slice select narrow roll repeat flip".split()
)
SPLIT = frozenset("chunk split split_with_sizes tensor_split unbind".split())
REDUCE = frozenset("mean sum amax amin max min var std".split())
SOFTMAX = frozenset("softmax log_softmax _softmax _log_softmax".split())

Value = Ids | None | list
LayerIds = dict[str, tuple[torch.Tensor, torch.Tensor]]


class Propagation:
    """Ids of both graphs of a traced model.

    ``layers`` maps a layer name to its (input ids, output ids); ``nodes`` a graph node to the :class:`Ids` of its
    tensor (absent: no channels that could be dropped).
    """

    def __init__(self, traced: TracedModel, layer_types: Mapping[type, str]) -> None:
        self.traced = traced
        self.book = IdBook()
        self.layers: LayerIds = {}
        self.nodes: dict[fx.Node, Value] = {}
        self.refused: dict[str, str] = {}  # convs, linears and the like that cannot be dynamic -> why
        self.passes_through: set[str] = set()  # norms and depthwise convs: their width is their producer's
        self._modules = traced.modules()
        self._names = dict(traced.model.named_modules(remove_duplicate=False))
        self._layer_types = layer_types
        for graph in traced.graphs:
            for op in graph:
                self._apply(op, graph)
            for node in graph.outputs:
                self._fix(node, "the model's output")
        for graph in traced.graphs:
            for op in graph:
                self._fix_foreign_weights(op, graph)

    def unreached(self) -> dict[str, str]:
        """Layers that neither mode runs."""
        read = {
            name
            for graph in self.traced.graphs
            for op in graph
            for node in op.node.all_input_nodes
            for name in graph.owners.get(node, ())
        }
        return {
            name: "reached in neither eval nor train mode"
            for name, module in self._modules.items()
            if self._layer_types.get(type(module)) in ("conv", "linear") and name not in read
        }

    # one op ---------------------------------------------------------------------------------------------------

    def _apply(self, op: Op, graph: TracedGraph) -> None:
        rule = self._rule(op.kind)
        if rule is not None:
            self.nodes[op.node] = rule(op)
        elif any(self._ids(arg) is not None for arg in op.node.all_input_nodes):
            for arg in op.node.all_input_nodes:
                self._fix(arg, f"'{op.kind}' in {op.module_path or 'the model'} has no rule")

    def _fix_foreign_weights(self, op: Op, graph: TracedGraph) -> None:
        """Only a layer's own call knows how to slice its weights: one read by another op stays whole."""
        for arg in op.node.all_input_nodes:
            names = graph.owners.get(arg, ())
            for name in names:
                if len(names) > 1:
                    self.refused.setdefault(name, f"{' and '.join(names)} share a parameter")
                if name in self.layers and (op.layer != name or self._layer_kind(op) is None):
                    reason = f"a weight of {name} is also read by '{op.kind}' in {op.module_path or 'the model'}"
                    for ids in self.layers[name]:
                        self.book.fix(ids, reason)

    def _rule(self, kind: str) -> Callable[[Op], Value] | None:
        if kind in PASS or kind in SPATIAL:
            return self._pass
        if kind in ELEMENTWISE:
            return self._elementwise
        if kind in SHAPE:
            return self._shape
        if kind in SPLIT:
            return self._split
        if kind in REDUCE:
            return self._reduce
        if kind in SOFTMAX:
            return self._softmax
        return {
            "conv1d": self._conv, "conv2d": self._conv, "conv3d": self._conv, "linear": self._linear,
            "batch_norm": self._batch_norm, "layer_norm": self._layer_norm, "group_norm": self._group_norm,
            "cat": self._cat, "getitem": self._getitem, "pad": self._pad, "constant_pad_nd": self._pad,
        }.get(kind)  # fmt: skip

    def _ids(self, node: Any) -> Ids | None:
        value = self.nodes.get(node) if isinstance(node, fx.Node) else None
        return value if isinstance(value, Ids) else None

    def _fix(self, node: Any, reason: str) -> None:
        value = self.nodes.get(node) if isinstance(node, fx.Node) else None
        for ids in value if isinstance(value, list) else [value]:
            if isinstance(ids, Ids):
                self.book.fix(ids.vector, reason)

    def _refuse(self, op: Op) -> None:
        if not op.layer:  # a functional one
            return
        module = self._modules[op.layer]
        if type(module) not in self._layer_types:
            reason = f"no dynamic layer for {type(module).__name__}"
        elif module._forward_hooks or module._forward_pre_hooks:
            reason = "it has a forward hook"
        else:
            reason = "its input has its channels elsewhere, or it is not called as a module"
        self.refused.setdefault(op.layer, reason)

    def _layer_kind(self, op: Op) -> str | None:
        """Kind of the dynamic layer that may replace this op's module, or None where the op is nobody's own."""
        module = self._modules.get(op.layer or "")
        if module is None or module._forward_hooks or module._forward_pre_hooks:  # a hook may do anything
            return None
        runs = self._names.get(op.module_path.split("@")[0])
        return self._layer_types.get(type(module)) if runs is module else None

    # layers ---------------------------------------------------------------------------------------------------

    def _conv(self, op: Op) -> Value:
        source, weight = op.argument("input"), shape_of(op.argument("weight"))
        outputs, groups = weight[0], int(op.argument("groups", 1))
        ids = self._vector(source, 1, weight[1] * groups)
        if ids is None or self._layer_kind(op) != "conv":
            self._refuse(op)
            self._fix(source, f"read by {self._who(op)}")
            return None
        if groups == 1:
            return Ids(1, self._layer(op, ids, outputs))
        blocks = ids.view(groups, -1)
        known = self.layers.get(op.layer)
        depthwise = blocks.shape[1] == 1
        new = known[1] if known else (None if depthwise else self.book.new(outputs))
        out = ids.repeat_interleave(outputs // groups) if new is None else new
        if depthwise:
            self.passes_through.add(op.layer)
            out = ids.repeat_interleave(outputs // groups)
        self._record(op.layer, ids, out, "two calls of one layer")
        reason = f"the groups of {op.layer}"
        self.book.join(blocks, blocks[:, :1], reason)
        self.book.join(out.view(groups, -1), blocks[:, :1], reason)
        return Ids(1, out)

    def _linear(self, op: Op) -> Value:
        source, weight = op.argument("input"), shape_of(op.argument("weight"))
        ids = self._vector(source, len(shape_of(source)) - 1, weight[1])
        if ids is None or self._layer_kind(op) != "linear":
            self._refuse(op)
            self._fix(source, f"read by {self._who(op)}")
            return None
        return Ids(len(shape_of(op.node)) - 1, self._layer(op, ids, weight[0]))

    def _layer(self, op: Op, inputs: torch.Tensor, size: int) -> torch.Tensor:
        known = self.layers.get(op.layer)
        outputs = known[1] if known else self.book.new(size)
        self._record(op.layer, inputs, outputs, f"{op.layer} is called on two inputs")
        return outputs

    def _record(self, layer: str, inputs: torch.Tensor, outputs: torch.Tensor, reason: str) -> None:
        known = self.layers.setdefault(layer, (inputs, outputs))
        if known[0] is not inputs:
            self.book.join(known[0], inputs, reason)
            self.book.join(known[1], outputs, reason)

    def _batch_norm(self, op: Op) -> Value:
        return self._norm(op, 1, "batch_norm")

    def _layer_norm(self, op: Op) -> Value:
        shape = list(op.argument("normalized_shape"))
        if len(shape) != 1:
            self._fix(op.argument("input"), f"{self._who(op)} normalises over more than the channels")
            return self.nodes.get(op.argument("input"))
        return self._norm(op, len(shape_of(op.node)) - 1, "layer_norm")

    def _group_norm(self, op: Op) -> Value:
        value = self._norm(op, 1, "group_norm")
        if isinstance(value, Ids):
            blocks = value.vector.view(int(op.argument("num_groups")), -1)
            self.book.join(blocks, blocks[:, :1], f"the groups of {self._who(op)}")
        return value

    def _norm(self, op: Op, dim: int, kind: str) -> Value:
        source = op.argument("input")
        ids = self._ids(source)
        if ids is None:
            return None
        if ids.dim != dim or self._layer_kind(op) != kind:
            self._fix(source, f"normalised by {self._who(op)}")
            return ids
        self.passes_through.add(op.layer)
        self._record(op.layer, ids.vector, ids.vector, f"{op.layer} is called on two inputs")
        return ids

    def _vector(self, node: Any, dim: int, size: int) -> torch.Tensor | None:
        """Input ids of a layer: constants for an input without ids, None where the ids lie along another dim."""
        ids = self._ids(node)
        if ids is None:
            return torch.full((size,), CONSTANT)
        return ids.vector if ids.dim == dim and len(ids.vector) == size else None

    def _who(self, op: Op) -> str:
        name = op.layer or op.module_path or "the model"
        module = self._modules.get(name)
        if op.layer is None and op.kind in ("conv2d", "linear", "conv1d", "conv3d"):
            return f"a functional {op.kind} in {name}"
        if isinstance(module, nn.Module) and type(module) not in self._layer_types:
            return f"{name} ({type(module).__name__}, no dynamic layer for this type)"
        return name

    # the rest -------------------------------------------------------------------------------------------------

    def _pass(self, op: Op) -> Value:
        return self.nodes.get(op.node.all_input_nodes[0]) if op.node.all_input_nodes else None

    def _elementwise(self, op: Op) -> Value:
        shape = shape_of(op.node)
        args = [(node, self._ids(node)) for node in op.node.all_input_nodes]
        result: Ids | None = None
        where = f"'{op.kind}' in {op.module_path or 'the model'}"
        for node, ids in args:
            if ids is None:
                continue
            dim = ids.dim + len(shape) - len(shape_of(node))
            if len(ids.vector) < shape[dim]:  # one channel broadcast over many: a gate that stays
                self.book.fix(ids.vector, f"broadcast by {where}")
            elif result is None:
                result = Ids(dim, ids.vector)
            elif result.dim == dim:
                self.book.join(result.vector, ids.vector, where)
            else:
                self.book.fix(ids.vector, f"{where} mixes two channel dimensions")
                self.book.fix(result.vector, f"{where} mixes two channel dimensions")
        if result is None:
            return None
        for node, ids in args:
            other = shape_of(node)
            if ids is None and other is not None and result.dim - len(shape) + len(other) >= 0:
                size = other[result.dim - len(shape) + len(other)]
                if size > 1:
                    self.book.fix(result.vector, f"{where} with a tensor that no layer makes ({node.name})")
        return result

    def _shape(self, op: Op) -> Value:
        source = op.node.all_input_nodes[0]
        ids = self._ids(source)
        if ids is None:
            return None
        before, after = shape_of(source), shape_of(op.node)
        if op.kind in ("slice", "select", "narrow", "roll", "repeat", "flip") and self._cuts(op, ids, before, after):
            self._fix(source, f"'{op.kind}' along the channels in {op.module_path or 'the model'}")
            return None
        if op.kind in ("permute", "transpose", "t"):  # on an empty tensor: only the place of the dimension is asked
            sizes = [1] * len(before)
            sizes[ids.dim] = 0
            return Ids(list(self._run(op, torch.empty(sizes)).shape).index(0), ids.vector)
        flat = self._run(op, ids.spread(before))
        return self._along_one_dim(op, flat, after)

    def _run(self, op: Op, tensor: torch.Tensor) -> torch.Tensor:
        source = op.node.all_input_nodes[0]
        if op.kind in ("expand_as", "view_as"):
            return tensor.expand(shape_of(op.node)) if op.kind == "expand_as" else tensor.reshape(shape_of(op.node))
        if op.kind in ("view", "_unsafe_view", "reshape", "flatten", "unflatten"):
            return tensor.reshape(shape_of(op.node))
        args = [tensor if arg is source else arg for arg in op.node.args]
        return op.node.target(*args, **op.node.kwargs)

    def _cuts(self, op: Op, ids: Ids, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
        if op.kind in ("repeat", "roll", "flip"):
            dims = op.argument("dims") or []
            return op.kind == "repeat" or not dims or ids.dim in [dim % len(before) for dim in dims]
        dim = int(op.argument("dim", 0)) % len(before)
        return dim == ids.dim and (op.kind == "select" or before[dim] != after[dim])

    def _along_one_dim(self, op: Op, tensor: torch.Tensor, shape: tuple[int, ...]) -> Value:
        """Ids of a reshaped tensor; where they vary along several dims, tie them along all but the longest."""
        dims = [d for d, size in enumerate(shape) if size > 1 and not (tensor == tensor.narrow(d, 0, 1)).all()]
        if not dims:
            self.book.fix(tensor.reshape(-1)[:1], f"'{op.kind}' in {op.module_path} leaves one channel")
            return None
        keep = max(dims, key=lambda d: (shape[d], d))
        where = f"'{op.kind}' in {op.module_path or 'the model'} splits the channels"
        for dim in dims:
            if dim != keep:
                first = tensor.narrow(dim, 0, 1)
                self.book.join(tensor.reshape(-1), first.expand_as(tensor).reshape(-1), where)
                self.book.assume(tensor, where)
        index = [0] * len(shape)
        index[keep] = slice(None)
        return Ids(keep, tensor[tuple(index)].clone())

    def _split(self, op: Op) -> Value:
        source = op.node.all_input_nodes[0]
        ids = self._ids(source)
        if ids is None:
            return None
        shape = shape_of(source)
        dim = int(op.argument("dim", 0)) % len(shape)
        pieces = [tuple(value.shape) for value in op.node.meta["val"]]
        if op.kind == "unbind":
            if dim == ids.dim:
                self._fix(source, f"'unbind' along the channels in {op.module_path}")
                return None
            return [Ids(ids.dim - (dim < ids.dim), ids.vector) for _ in pieces]
        if dim != ids.dim:
            return [ids for _ in pieces]
        where = f"'{op.kind}' in {op.module_path or 'the model'} cuts the channels"
        vectors = ids.vector.split([piece[dim] for piece in pieces])
        if len({len(vector) for vector in vectors}) > 1:
            self._fix(source, f"{where} into unequal parts")
        else:
            for vector in vectors[1:]:
                self.book.join(vectors[0], vector, where)
            self.book.assume(ids.vector, where)
        return [Ids(dim, vector) for vector in vectors]

    def _getitem(self, op: Op) -> Value:
        value = self.nodes.get(op.node.args[0])
        return operator.getitem(value, op.node.args[1]) if isinstance(value, list) else value

    def _cat(self, op: Op) -> Value:
        tensors = list(op.argument("tensors"))
        shape = shape_of(op.node)
        dim = int(op.argument("dim", 0)) % len(shape)
        all_ids = [self._ids(node) for node in tensors]
        known = [ids for ids in all_ids if ids is not None]
        if not known:
            return None
        where = f"'cat' in {op.module_path or 'the model'}"
        if any(ids.dim != known[0].dim for ids in known):
            for node in tensors:
                self._fix(node, f"{where} mixes two channel dimensions")
            return None
        if dim == known[0].dim:
            sizes = [shape_of(node)[dim] for node in tensors]
            parts = [
                ids.vector if ids is not None else torch.full((size,), CONSTANT)
                for ids, size in zip(all_ids, sizes, strict=True)
            ]
            return Ids(dim, torch.cat(parts))
        for ids in known[1:]:
            self.book.join(known[0].vector, ids.vector, where)
        if len(known) < len(tensors):
            self.book.fix(known[0].vector, f"{where} with a tensor that no layer makes")
        return known[0]

    def _pad(self, op: Op) -> Value:
        source = op.node.all_input_nodes[0]
        ids = self._ids(source)
        if ids is None:
            return None
        shape = shape_of(source)
        pad = list(op.argument("pad"))
        position = 2 * (len(shape) - 1 - ids.dim)
        before, after = pad[position : position + 2] if position < len(pad) else (0, 0)
        if before < 0 or after < 0 or ((before or after) and op.argument("mode", "constant") not in ("constant", None)):
            self._fix(source, f"'pad' along the channels in {op.module_path}")
            return None
        constants = [torch.full((int(size),), CONSTANT) for size in (before, after)]
        return Ids(ids.dim, torch.cat([constants[0], ids.vector, constants[1]]))

    def _reduce(self, op: Op) -> Value:
        source = op.node.all_input_nodes[0]
        ids = self._ids(source)
        if ids is None:
            return None
        shape = shape_of(source)
        dims = op.argument("dim")
        dims = [dims] if isinstance(dims, int) else list(dims or range(len(shape)))
        dims = [dim % len(shape) for dim in dims]
        if ids.dim in dims or len(op.node.all_input_nodes) > 1:
            self._fix(source, f"'{op.kind}' over the channels in {op.module_path or 'the model'}")
            return None
        keep = bool(op.argument("keepdim", False))
        moved = Ids(ids.dim - (0 if keep else sum(dim < ids.dim for dim in dims)), ids.vector)
        return [moved, moved] if not isinstance(op.node.meta.get("val"), torch.Tensor) else moved

    def _softmax(self, op: Op) -> Value:
        source = op.node.all_input_nodes[0]
        ids = self._ids(source)
        if ids is not None and int(op.argument("dim")) % len(shape_of(source)) == ids.dim:
            self._fix(source, f"'{op.kind}' over the channels in {op.module_path or 'the model'}")
            return None
        return ids
