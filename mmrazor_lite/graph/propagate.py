"""Channel ids flow through a traced graph, op by op.

A conv or linear makes new ids; norms pass them on (``layers/flow.py``), and so do activations; add and mul tie the two
sides; view, transpose, cat, chunk and the like are run on the ids themselves (``tensor_rules.py``, ``reshaping.py``);
products of activations keep whole heads (``product_rules.py``). What no rule covers fixes what it touches.

A parameter or buffer that no layer's own call reads (layer scale, a position bias) has ids of its own, one per element,
which the ops that meet it tie to those of the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from . import product_rules, tensor_rules
from .explain import line_of
from .ids import IdBook
from .layers import entries  # noqa: F401  fills the registry
from .layers.flow import no_layer_for
from .layers.record import LAYER_KINDS, LayerKind, LayerKinds
from .opaque import OPAQUE
from .trace import Op, TracedGraph, TracedModel, shape_of

MAX_ELEMENTS = 2**18  # of a parameter that gets ids of its own: scales, tables and embeddings, not matrices

MULTIPLIES = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear embedding embedding_bag "
    "lstm gru rnn_tanh rnn_relu matmul mm bmm addmm baddbmm einsum".split()
)  # ops that read the matrix of a layer

RULES: dict[str, Callable] = {**product_rules.RULES, **tensor_rules.RULES}

Value = torch.Tensor | None | list
LayerIds = dict[str, tuple[torch.Tensor, torch.Tensor]]


class Propagation:
    """Ids of both graphs of a traced model.

    ``layers`` maps a layer name to its (input ids, output ids), each (C,); ``nodes`` a graph node to the ids of its
    tensor (None: no channels that could be dropped); ``held`` a (module, attribute) to the ids of a tensor that ops
    read beside the layers; ``sites`` lists the ops whose sizes may come from numbers that a module holds.
    """

    def __init__(self, traced: TracedModel, kinds: LayerKinds) -> None:
        self.traced = traced
        self.book = IdBook()
        self.layers: LayerIds = {}
        self.nodes: dict[fx.Node, Value] = {}
        self.held: dict[tuple[str, str], torch.Tensor] = {}
        self.sites: list[Op] = []
        self.attended: list[tuple[torch.Tensor, str]] = []
        self.tables: set[fx.Node] = set()  # made from tensors that modules hold, not from images
        self.refused: dict[str, str] = {}  # convs, linears and the like that cannot be dynamic -> why
        self.alone: dict[str, tuple[int, torch.Tensor, torch.Tensor]] = {}  # see WidthGraph
        self.passes_through: set[str] = set()  # norms and depthwise convs: their width is their producer's
        self.modules = traced.modules()
        self._by_path = dict(traced.model.named_modules(remove_duplicate=False))
        self.written = {graph.names[node] for graph in traced.graphs for node in graph.mutated}
        self.kind = kinds.of
        for graph in traced.graphs:
            self.graph = graph
            for op in graph:
                self.book.line = line_of(op.node)
                self._apply(op, graph)
            self.book.line = ""
            for node in graph.outputs:
                self.fix(node, "the model's output")
        for graph in traced.graphs:
            for op in graph:
                self._fix_foreign_weights(op, graph)

    def unreached(self) -> dict[str, str]:
        """Layers that no op is the call of, and why."""
        read = {
            name
            for graph in self.traced.graphs
            for op in graph
            for node in op.node.all_input_nodes
            for name in graph.owners.get(node, ())
        }
        return {
            name: "something is computed of its weight first"
            if name in read
            else "reached in neither eval nor train mode"
            for name, module in self.modules.items()
            if _makes_channels(self.kind(module)) and not (name in self.layers or name in self.alone)
        }

    def other_layers(self) -> dict[str, str]:
        """Modules that multiply by a matrix of their own and have no dynamic form, and why they stay."""
        found: dict[str, str] = {}
        for graph in self.traced.graphs:
            for op in graph:
                for node in op.node.all_input_nodes if op.kind in MULTIPLIES else ():
                    for name in graph.owners.get(node, ()):
                        module = self.modules[name]
                        if name and self.kind(module) is None and len(shape_of(node)) > 1:
                            found.setdefault(name, no_layer_for(module, op))
        return found

    # one op ---------------------------------------------------------------------------------------------------

    def _apply(self, op: Op, graph: TracedGraph) -> None:
        sources = op.node.all_input_nodes
        for node in sources:
            if node in graph.names and node not in self.nodes:
                self.nodes[node] = self._held(graph, node)
                self.tables.add(node)
        if sources and self.tables.issuperset(sources):
            self.tables.add(op.node)
        rule = self._rule(op)
        if op.kind == OPAQUE:
            self._enter_opaque(op, graph)
        elif rule is not None:
            self.nodes[op.node] = rule(self, op)
        elif any(self.ids(arg) is not None for arg in op.node.all_input_nodes):
            self._no_rule(op)

    def _rule(self, op: Op) -> Callable | None:
        """Of the layer that an op is the call of, else of the op itself."""
        if self.is_call(op):
            return self.layer_kind(op).follow
        kind = LAYER_KINDS.of_op(op.kind)
        return RULES.get(op.kind) or (kind and kind.follow)

    def _no_rule(self, op: Op) -> None:
        """What an unknown op reads stays: a layer of a type that has no dynamic form, or code."""
        name = op.layer or op.module_path.split("@")[0]
        module = self.modules.get(name)
        if module is not None and self.kind(module) is None and any(p is not None for p in module._parameters.values()):
            reason = f"read by {name or 'the model'} ({type(module).__name__}, no dynamic layer for this type)"
        else:
            reason = f"'{op.kind}' in {op.place} has no rule"
        self.fix_inputs(op, reason)

    def _enter_opaque(self, op: Op, graph: TracedGraph) -> None:
        reason = f"inside {op.place}, which is opaque"
        for node in op.node.all_input_nodes:
            self.fix(node, f"read by {op.place}, which is opaque")
            for name in graph.owners.get(node, ()):
                if _makes_channels(self.kind(self.modules[name])):
                    self.refused.setdefault(name, reason)

    def _held(self, graph: TracedGraph, node: fx.Node) -> torch.Tensor | None:
        """Ids of a parameter or buffer that is not a known layer's own; the same in both graphs."""
        module, name = graph.names[node]
        shape = shape_of(node)
        own = _is_own(self.kind(self.modules[module]), name)
        if not module or own or not shape or max(shape) < 2 or node in graph.shared or (module, name) in self.written:
            return None
        if not node.meta["val"].is_floating_point() or node.meta["val"].numel() > MAX_ELEMENTS:
            return None
        if (module, name) not in self.held:
            self.held[module, name] = self.book.new(*shape)
        return self.held[module, name]

    def _fix_foreign_weights(self, op: Op, graph: TracedGraph) -> None:
        """Only a layer's own call knows how to slice its weights: one read by another op stays whole."""
        for arg in op.node.all_input_nodes:
            names = graph.owners.get(arg, ())
            for name in names:
                if len(names) > 1:
                    self.refused.setdefault(name, f"{' and '.join(names)} share a parameter")
                own = arg in graph.names and _is_own(self.kind(self.modules[name]), graph.names[arg][1])
                called = (op.layer == name and self.is_call(op)) or self._is_inside(op, name)
                if own and name in self.layers and not called:
                    reason = f"a weight of {name} is also read by '{op.kind}' in {op.place}"
                    for ids in self.layers[name]:
                        self.book.fix(ids, reason)

    def ids(self, node: Any) -> torch.Tensor | None:
        """Ids of the tensor a node makes; of an op with several results, none."""
        value = self.nodes.get(node) if isinstance(node, fx.Node) else None
        return value if isinstance(value, torch.Tensor) else None

    def fix(self, node: Any, reason: str) -> None:
        value = self.nodes.get(node) if isinstance(node, fx.Node) else None
        for ids in value if isinstance(value, list) else [value]:
            if isinstance(ids, torch.Tensor):
                self.book.fix(ids, reason)

    def is_call(self, op: Op) -> bool:
        """Whether an op is the call of a layer that may be dynamic."""
        kind = self.layer_kind(op)
        return kind is not None and op.kind in kind.ops and (not kind.own_forward or self._is_inside(op, op.layer))

    def _is_inside(self, op: Op, layer: str) -> bool:
        """Whether an op runs in a layer whose forward is its own."""
        module = self.modules[layer]
        kind = self.kind(module)
        return kind is not None and kind.own_forward and self._by_path.get(op.module_path.split("@")[0]) is module

    def layer_kind(self, op: Op) -> LayerKind | None:
        """Kind of the dynamic layer that may replace this op's module, or None where the op is nobody's own."""
        module = self.modules.get(op.layer or "")
        if module is None or module._forward_hooks or module._forward_pre_hooks:  # a hook may do anything
            return None
        if hasattr(module, "parametrizations"):
            return None
        return self.kind(module)

    def fix_inputs(self, op: Op, reason: str) -> None:
        for node in op.node.all_input_nodes:
            self.fix(node, reason)


def _makes_channels(kind: LayerKind | None) -> bool:
    return kind is not None and kind.makes_channels


def _is_own(kind: LayerKind | None, tensor: str) -> bool:
    """Whether a tensor of a layer is sliced with its sides."""
    return kind is not None and tensor in (*kind.tensors, "num_batches_tracked")
