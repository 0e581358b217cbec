"""A model as flat aten graphs, one in eval mode and one in train mode, by ``torch.export``.

Both are needed: auxiliary heads run in train mode only, and what differs between the modes must not differ in width.
"""

from __future__ import annotations

import io
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.fx._lazy_graph_module import _use_lazy_graph_module

from mmrazor_lite.errors import UserError
from mmrazor_lite.shapes import image_shape

from .alike import Remembered
from .explain import ShapeOfData, explain, find_place, lines_noted, place_of
from .inline import inline_blocks
from .layers.record import LAYER_KINDS
from .modes import modes_kept, runs_the_same
from .opaque import NAME, OPAQUE, opaque
from .versions import in_words_of_the_newest

USER_OUTPUT = torch.export.graph_signature.OutputKind.USER_OUTPUT
MAX_HIDDEN = 4  # modules that an error proposes to keep out of the trace
BATCH = 2  # batch norm over 1x1 maps refuses a batch of one in train mode


class TraceError(UserError):
    """The model cannot be written as one flat graph."""


@dataclass(frozen=True)
class _Program:
    """What ``torch.export`` gives, but for the weights."""

    graph: fx.Graph
    signature: torch.export.ExportGraphSignature
    constants: Mapping[str, torch.Tensor]  # made by the code of the model


_KNOWN = Remembered()  # the programs of each mode that was traced


@dataclass(frozen=True)
class Op:
    """One operation of a traced graph.

    ``kind`` is the aten name without overload and without the trailing underscore of in-place forms (``'conv2d'``,
    ``'relu'``); ``inplace`` tells the two apart. ``layer`` names the module that owns the weight, where exactly one
    does, or that runs the op as the call of a layer with a forward of its own.
    """

    node: fx.Node
    kind: str
    inplace: bool
    layer: str | None

    @property
    def module_path(self) -> str:
        """Dotted path of the innermost module that runs this op."""
        stack = list((self.node.meta.get("nn_module_stack") or {}).values())
        return stack[-1][0] if stack else ""

    @property
    def place(self) -> str:
        """The module path for a message."""
        return self.module_path or "the model"

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by its schema name, whether it was passed by position, by keyword or left at its default."""
        if name in self.node.kwargs:
            return self.node.kwargs[name]
        for position, argument in enumerate(self.node.target._schema.arguments):
            if argument.name == name:
                if position < len(self.node.args):
                    return self.node.args[position]
                return argument.default_value if argument.has_default_value() else default
        return default


@dataclass
class TracedGraph:
    """One mode's graph. Shapes include the batch of :data:`BATCH` images."""

    ops: list[Op]
    outputs: list[fx.Node]
    constants: set[fx.Node] = field(default_factory=set)  # parameters, buffers, lifted tensors
    owners: dict[fx.Node, list[str]] = field(default_factory=dict)  # parameter -> modules that hold it
    names: dict[fx.Node, tuple[str, str]] = field(default_factory=dict)  # parameter or buffer -> (module, attribute)
    mutated: set[fx.Node] = field(default_factory=set)  # buffers that the model writes to
    values: dict[fx.Node, torch.Tensor] = field(default_factory=dict)  # buffers and lifted constants

    @property
    def shared(self) -> set[fx.Node]:
        """Parameters that several modules hold."""
        return {node for node, holders in self.owners.items() if len(holders) > 1}

    def constant(self, node: fx.Node) -> torch.Tensor | None:
        """Value of a tensor made from buffers and numbers only, None of any other."""
        if node in self.values:
            return self.values[node]
        sources = node.all_input_nodes
        if (
            node.op != "call_function"
            or not sources
            or NAME in str(node.target)
            or any(self.constant(source) is None for source in sources)
        ):
            return None
        return node.target(*fx.map_arg(node.args, self.constant), **fx.map_arg(node.kwargs, self.constant))

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)


@dataclass
class TracedModel:
    """The two graphs of a model and the modules they run through."""

    model: nn.Module
    input_shape: tuple[int, ...]
    eval: TracedGraph
    train: TracedGraph

    @property
    def graphs(self) -> tuple[TracedGraph, TracedGraph]:
        return self.eval, self.train

    def modules(self) -> dict[str, nn.Module]:
        """Every module by its first name; a shared module appears once."""
        return dict(self.model.named_modules())


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of the tensor a node makes, or None for anything else."""
    value = node.meta.get("val")
    return tuple(int(size) for size in value.shape) if isinstance(value, torch.Tensor) else None


def trace(
    model: nn.Module, input_shape: Sequence[int], opaque: Sequence[str] | None = None, eval_only: bool = False
) -> TracedModel:
    """Trace ``model`` on one batch of images of ``input_shape`` = (C, H, W); its modes are left as they were.

    What is built like a model that was traced before is not traced again.

    Args:
        opaque: patterns (``fnmatch``) of modules that are not looked into; a call of one is one op of kind ``opaque``.
            ``None``: there are none, and the caller has no such option that an error could name.
        eval_only: take the graph of eval mode for both, in half the time; enough for costs. It is taken anyway where
            train mode runs the same layers.

    Raises:
        TraceError: ``torch.export`` cannot follow the model; names the module, the line and the way out.
    """
    shape = image_shape(input_shape)
    first = next(iter(model.parameters()), torch.empty(0))
    example = torch.zeros((BATCH, *shape), device=first.device, dtype=first.dtype)

    def programs() -> list[_Program]:
        wanted = (False,) if eval_only or runs_the_same(model, example) else (False, True)
        return [_trace_mode(model, example, mode, opaque) for mode in wanted]

    with modes_kept(model), torch.enable_grad():  # without, attention takes a short cut of its own
        made = programs() if opaque else _KNOWN.get(model, (shape, eval_only), programs)
    graphs = [_collect(program, model) for program in made]
    return TracedModel(model, shape, graphs[0], graphs[-1])


def _trace_mode(model: nn.Module, example: torch.Tensor, training: bool, patterns: Sequence[str] | None) -> _Program:
    try:
        program = _export(model, example, training, patterns or ())
    except UserError:
        raise
    except Exception as error:
        hide = None if patterns is None else partial(_names_to_hide, model, example, patterns)
        raise TraceError(explain(error, model, example, training, hide)) from error
    inline_blocks(program.graph_module)
    in_words_of_the_newest(program.graph)
    lifted = program.graph_signature.inputs_to_lifted_tensor_constants.values()
    return _Program(program.graph, program.graph_signature, {path: program.constants[path] for path in lifted})


def _export(
    model: nn.Module, example: torch.Tensor, training: bool, patterns: Sequence[str]
) -> torch.export.ExportedProgram:
    model.train(training)
    with (
        quiet(),
        lines_noted(),
        _use_lazy_graph_module(True),
        _attributes_kept(model),
        opaque(model, patterns, example),
    ):
        program = torch.export.export(model, (example,), strict=False)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and not all(isinstance(size, int) for size in value.shape):
            raise ShapeOfData(place_of(node, model))
    return program


def _names_to_hide(model: nn.Module, example: torch.Tensor, patterns: Sequence[str], first: str) -> list[str]:
    """Modules, ``first`` among them, without which the model can be traced; none where that does not help."""
    names = [first]
    while len(names) <= MAX_HIDDEN:
        try:
            for training in (False, True):
                _export(model, example, training, [*patterns, *names])
            return names
        except Exception as error:  # torch raises a dozen kinds
            place = error.place if isinstance(error, ShapeOfData) else find_place(error, model)
        if not place.module or any(place.module == name or place.module.startswith(f"{name}.") for name in names):
            return []
        names.append(place.module)
    return []


def _collect(program: _Program, model: nn.Module) -> TracedGraph:
    """Ops in order, and what each parameter and buffer among the graph's inputs is."""
    signature = program.signature
    parameters = dict(signature.inputs_to_parameters)
    named = {**parameters, **signature.inputs_to_buffers}
    owners = _owners(model)
    buffers = dict(model.named_buffers(remove_duplicate=False))
    stored = {name: buffers[path] for name, path in signature.inputs_to_buffers.items()}
    stored |= {name: program.constants[path] for name, path in signature.inputs_to_lifted_tensor_constants.items()}
    mutated = set(signature.buffers_to_mutate.values())
    seen: dict[nn.Module, str] = {}
    first_name = {name: seen.setdefault(module, name) for name, module in model.named_modules(remove_duplicate=False)}
    modules = dict(model.named_modules())
    graph = TracedGraph([], [])
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in parameters or node.name in stored:
                graph.constants.add(node)
            if node.name in parameters:
                graph.owners[node] = owners.get(parameters[node.name], [])
            if node.name in named:
                module, _, attribute = named[node.name].rpartition(".")
                graph.names[node] = (first_name[module], attribute)
            if node.name in stored:
                graph.values[node] = stored[node.name]
            if named.get(node.name) in mutated:
                graph.mutated.add(node)
        elif node.op == "output":
            specs = zip(node.args[0], signature.output_specs, strict=True)
            graph.outputs = [arg for arg, spec in specs if spec.kind is USER_OUTPUT and isinstance(arg, fx.Node)]
        elif node.op == "call_function":
            graph.ops.append(_op(node, parameters, owners, first_name, modules))
            if graph.ops[-1].inplace and node.args[0] in graph.names:
                graph.mutated.add(node.args[0])
    return graph


@contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass keeps in attributes of modules: while it is traced, those are tensors without data.

    torch puts new dictionaries and lists in their places, which a hook that holds the old ones would not see.
    """
    internal = vars(nn.Module()).keys()
    before = {m: {k: v for k, v in vars(m).items() if k not in internal} for m in model.modules()}
    held = [v for attributes in before.values() for v in attributes.values() if type(v) in (dict, list, set)]
    contents = [(container, container.copy()) for container in held]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*assigned during export")
            yield
    finally:
        for module, attributes in before.items():
            for key in [key for key in vars(module) if key not in internal and key not in attributes]:
                del vars(module)[key]
            vars(module).update(attributes)
        for container, content in contents:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back the pages of graphs that torch logs and prints on a failure; the error says it in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _op(
    node: fx.Node,
    parameters: Mapping[str, str],
    owners: Mapping[str, list[str]],
    first_name: Mapping[str, str],
    modules: Mapping[str, nn.Module],
) -> Op:
    if node.target is operator.getitem:
        return Op(node, "getitem", False, None)
    if hasattr(node.target, "_schema") and node.target._schema.name == NAME:
        return Op(node, OPAQUE, False, None)
    name = node.target._schema.name.removeprefix("aten::") if hasattr(node.target, "_schema") else str(node.target)
    inplace = name.endswith("_") and not name.endswith("__")
    layer = None
    names = [parameters[arg.name] for arg in node.all_input_nodes if arg.name in parameters]
    holders = {holder for parameter in names for holder in owners.get(parameter, [])}
    if len(holders) == 1:
        layer = holders.pop()
    elif not names:
        layer = _runs_call(Op(node, name, False, None).module_path.split("@")[0], name, first_name, modules)
    return Op(node, name.removesuffix("_") if inplace else name, inplace, layer)


def _runs_call(path: str, op: str, first_name: Mapping[str, str], modules: Mapping[str, nn.Module]) -> str | None:
    """The module at ``path``, where an op without weights is its call: of a norm, or inside a forward of its own."""
    name = first_name.get(path, path)
    kind, usual = LAYER_KINDS.of(modules.get(name)), LAYER_KINDS.of_op(op)
    if kind is not None and kind.own_forward and op in kind.ops:
        return name
    return path or None if usual is not None and not (usual.makes_channels or usual.own_forward) else None


def _owners(model: nn.Module) -> dict[str, list[str]]:
    """Parameter name -> names of the distinct modules that hold it directly."""
    holders: dict[int, list[str]] = {}
    for module_name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders.setdefault(id(parameter), []).append(module_name)
    return {name: holders.get(id(parameter), []) for name, parameter in model.named_parameters(remove_duplicate=False)}
