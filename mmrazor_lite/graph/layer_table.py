"""One row per layer and per op that costs something: which sides set its size, and how often it is applied.

Everything a cost model needs is a sum over these rows; no forward pass is run again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from .channels import Side
from .flop_rules import ACTIVATIONS, is_global_pool
from .groups import WidthGraph
from .layers.record import LAYER_KINDS, LayerKind
from .layers.rows import ONE, LayerRow, elements, layer_name
from .opaque import OPAQUE
from .reshaping import SHAPE, SPLIT
from .tensor_rules import SPATIAL
from .trace import BATCH, Op, TracedGraph, TracedModel, shape_of

POOLS = frozenset(op for op in SPATIAL if "pool" in op)
MATMULS = frozenset({"matmul", "bmm", "mm", "scaled_dot_product_attention", "baddbmm", "addmm", "einsum"})
RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
ALIASES = SHAPE | SPLIT | {"getitem", "contiguous", "detach", "alias", "to", "_assert_tensor_metadata"}


@dataclass
class LayerTable:
    """Rows by op (``rows``), by parameter (``weights``), and the tensors alive at each moment (``alive``).

    ``alive`` lists, for every op of the eval graph, (bytes per channel, side) of each tensor held while it runs;
    ``places`` the module that runs it.
    """

    rows: list[LayerRow]
    weights: list[LayerRow]
    alive: list[list[tuple[int, Side]]]
    parameter_bytes: int
    places: list[str]

    def outside(self, prefixes: Sequence[str]) -> LayerTable:
        """What belongs to none of the modules called ``prefixes``."""
        names = tuple(prefixes)
        return self._where(lambda name: not _is_within(name, names))

    def inside(self, prefix: str) -> LayerTable:
        """What belongs to the module called ``prefix``."""
        return self._where(lambda name: _is_within(name, (prefix,)))

    def beside(self, held: int) -> LayerTable:
        """The table of a module beside which ``held`` bytes are alive all the time."""
        return replace(self, alive=[[*tensors, (held, ONE)] for tensors in self.alive])

    def resized(self, positions: Mapping[int, int]) -> LayerTable:
        """The table at another size of the image.

        Args:
            positions: Number of places in a map at the size of this table -> at the other size.

        Raises:
            KeyError: A map whose number of places is not in ``positions``.
            ValueError: An op whose cost does not follow from the size of its maps.
        """
        wrong = next((row for row in self.rows if row.kind in (OPAQUE, "matmul")), None)
        if wrong is not None:
            raise ValueError(f"'{wrong.name}' ({wrong.kind})")
        rows = [replace(row, positions=positions[row.positions]) for row in self.rows]
        itemsize = self.parameter_bytes
        alive = [
            [(positions[size // itemsize] * itemsize if size else 0, side) for size, side in tensors]
            for tensors in self.alive
        ]
        return LayerTable(rows, self.weights, alive, itemsize, self.places)

    def with_kernel(self, layers: Sequence[str], full: int, taps: int) -> LayerTable:
        """The table where the kernels of ``layers`` have ``taps`` instead of ``full`` places."""

        def changed(row: LayerRow, name: str) -> LayerRow:
            return replace(row, kernel=row.kernel // full * taps) if name in layers else row

        rows = [changed(row, row.name) if row.kind == "conv" else row for row in self.rows]
        weights = [changed(row, row.name.removesuffix(".weight")) for row in self.weights]
        return LayerTable(rows, weights, self.alive, self.parameter_bytes, self.places)

    def _where(self, belongs: Callable[[str], bool]) -> LayerTable:
        return LayerTable(
            [row for row in self.rows if belongs(row.name)],
            [row for row in self.weights if belongs(row.name)],
            [tensors for tensors, place in zip(self.alive, self.places, strict=True) if belongs(place)],
            self.parameter_bytes,
            [place for place in self.places if belongs(place)],
        )


def layer_table(traced: TracedModel, graph: WidthGraph) -> LayerTable:
    """Rows of a traced model; counts follow the eval graph, parameters also hold layers that only training reaches."""
    tables = tables_of(traced.eval)
    modules = traced.modules()
    rows = [row for op in traced.eval for row in _rows(op, graph, modules, tables)]
    rows += [_extra_flops(op) for op in traced.eval if op.kind == OPAQUE and op.argument("extra_flops")]
    itemsize = max((p.element_size() for p in traced.model.parameters()), default=4)
    alive, places = list(_alive(traced.eval, graph)), [op.module_path for op in traced.eval]
    return LayerTable(rows, list(_weights(traced.model, graph)), alive, itemsize, places)


def _is_within(name: str, prefixes: tuple[str, ...]) -> bool:
    """``a.b`` is within ``a`` and ``a.b``; a second call of a module is written ``a.b@1``."""
    return any(name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] in ("", ".", "@") for prefix in prefixes)


def tables_of(graph: TracedGraph) -> set[fx.Node]:
    """What is made of parameters and numbers only: the same for every image, made once for all."""
    tables = set(graph.constants)
    for op in graph:
        if tables.issuperset(op.node.all_input_nodes):
            tables.add(op.node)
    return tables


def _rows(op: Op, graph: WidthGraph, modules: Mapping[str, nn.Module], tables: set[fx.Node]) -> Iterable[LayerRow]:
    images = 1 if op.node in tables else BATCH
    called = _called(op, modules)
    usual = LAYER_KINDS.of_op(op.kind)  # what the op costs anyway, where the kind says nothing of its own
    cost = (called and called.rows) or (usual and usual.rows)
    if cost is not None:
        return cost(op, graph, images)
    row = _row(op, graph, images)
    return () if row is None else (row,)


def _called(op: Op, modules: Mapping[str, nn.Module]) -> LayerKind | None:
    """The kind of layer that an op is the call of, or would be inside of one."""
    kind = LAYER_KINDS.of(modules.get(op.layer or ""))
    return kind if kind is not None and op.kind in kind.ops else LAYER_KINDS.of_op(op.kind)


def _row(op: Op, graph: WidthGraph, images: int) -> LayerRow | None:
    kind, shape, name = op.kind, shape_of(op.node), layer_name(op)
    if kind in ACTIVATIONS or (kind == "hardtanh" and float(op.argument("min_val", -1.0)) == 0.0):
        per_channel, side = elements(op.node, graph, images)
        return LayerRow(name, "activation", per_channel, 1, ONE, side)
    if kind in POOLS or (kind == "mean" and _pools_all(op)):
        per_channel, side = elements(op.node.all_input_nodes[0], graph, images)
        return LayerRow(name, "pool", per_channel, 1, ONE, side)
    if kind in RECURRENT:
        return _recurrent(op)
    if kind == "bilinear":
        outputs, first, second = shape_of(op.argument("weight"))
        positions, bias = math.prod(shape) // images // outputs, op.argument("bias") is not None
        return LayerRow(name, "linear", positions, first, Side.fixed(second), Side.fixed(outputs), bias, macs=True)
    if kind == OPAQUE:
        return LayerRow(name, kind, int(op.argument("macs")), 1, ONE, ONE, macs=True)
    if kind in MATMULS:
        side = graph.nodes.get(op.node, ONE)
        return LayerRow(name, "matmul", _matmul_macs(op) * BATCH // images // len(side), 1, ONE, side, macs=True)
    return None


def _extra_flops(op: Op) -> LayerRow:
    """What a call that the trace did not look into was seen to cost beside its macs."""
    return LayerRow(op.module_path, "activation", int(op.argument("extra_flops")), 1, ONE, ONE)


def _recurrent(op: Op) -> LayerRow:
    """All layers and directions of an LSTM, GRU or plain recurrent layer: at each step, every weight is used once."""
    features = shape_of(op.node.args[0])
    matrices = [shape_of(node) for node in op.argument("params") if len(shape_of(node)) == 2]
    inputs, outputs = Side.fixed(features[-1]), Side.fixed(op.node.meta["val"][0].shape[-1])
    macs = math.prod(features[:-1]) // BATCH * sum(map(math.prod, matrices))
    pairs = len(inputs) * len(outputs)
    if macs % pairs:  # of several layers, or of both directions
        inputs, outputs, pairs = ONE, ONE, 1
    return LayerRow(op.layer or op.module_path, "recurrent", macs // pairs, 1, inputs, outputs, macs=True)


def _pools_all(op: Op) -> bool:
    return is_global_pool(shape_of(op.node.all_input_nodes[0]), op.argument("dim"))


def _matmul_macs(op: Op) -> int:
    """Multiply-adds of a product of activations at full width; only its heads may be dropped, whole ones."""
    shapes = [shape_of(node) for node in _operands(op.node.args)]
    if op.kind == "scaled_dot_product_attention":
        query, key, value = shapes[:3]
        return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]) // BATCH
    if op.kind == "einsum":
        return _einsum_macs(op.argument("equation"), shapes) // BATCH
    return math.prod(shape_of(op.node)) * shapes[-2 if op.kind != "baddbmm" else 1][-1] // BATCH


def _operands(args: object) -> list[fx.Node]:
    """The tensors of an op in order; one that is passed twice is there twice."""
    if isinstance(args, fx.Node):
        return [args]
    return [node for item in args for node in _operands(item)] if isinstance(args, (list, tuple)) else []


def _einsum_macs(equation: str, shapes: list[tuple[int, ...]]) -> int:
    """Product of all sizes that the operands name; exact for two operands, which is how products are written."""
    sizes: dict[object, int] = {}
    for term, shape in zip(equation.replace(" ", "").split("->")[0].split(","), shapes, strict=True):
        before, dots, after = term.partition("...")
        middle = range(len(before) + len(after) - len(shape), 0) if dots else ()  # broadcast: counted from the right
        for label, size in zip([*before, *middle, *after], shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return math.prod(sizes.values())


def _weights(model: nn.Module, graph: WidthGraph) -> Iterator[LayerRow]:
    seen: set[int] = set()  # a parameter that two modules share counts once
    for name, module in model.named_modules():
        known, held = graph.layers.get(name), graph.held.get(name, {})
        for key, parameter in module._parameters.items():
            if parameter is None or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            path = f"{name}.{key}" if name else key
            if key in held:
                side = held[key][1]
                yield LayerRow(path, "weights", 1, parameter.numel() // len(side), ONE, side)
            else:
                follows = () if known is None else LAYER_KINDS.of(module).sides(module).get(key, ())
                sides = [known[side == "outputs"] for _, side in sorted(follows, key=lambda pair: pair[1])]
                kernel = parameter.numel() // math.prod(map(len, sides))
                yield LayerRow(path, "weights", 1, kernel, *[ONE] * (2 - len(sides)), *sides)


def _alive(traced: TracedGraph, graph: WidthGraph) -> Iterator[list[tuple[int, Side]]]:
    """Tensors held while each op runs; views and in-place results share the storage of their source."""
    storage: dict[fx.Node, fx.Node] = {}
    last: dict[fx.Node, int] = {}
    born: dict[fx.Node, int] = {}
    inputs = [node for op in traced for node in op.node.all_input_nodes if node.op == "placeholder"]
    for node in inputs:
        if node not in traced.constants and node not in storage:
            storage[node], born[node] = node, 0
    for time, op in enumerate(traced):
        sources = [node for node in op.node.all_input_nodes if node in storage]
        aliasing = op.kind in ALIASES or op.inplace or op.kind in ("dropout", "feature_dropout", "alpha_dropout")
        root = storage[sources[0]] if aliasing and sources else op.node
        storage[op.node] = root
        born.setdefault(root, time)
        for node in [*sources, op.node]:
            last[storage[node]] = time
    for node in traced.outputs:
        if node in storage:
            last[storage[node]] = len(traced.ops)
    sizes = {root: _bytes(root, graph) for root in born if isinstance(root.meta.get("val"), torch.Tensor)}
    for time in range(len(traced.ops)):
        yield [sizes[root] for root in sizes if born[root] <= time <= last[root]]


def _bytes(node: fx.Node, graph: WidthGraph) -> tuple[int, Side]:
    per_channel, side = elements(node, graph) if shape_of(node) else (0, ONE)
    return per_channel * node.meta["val"].element_size(), side
