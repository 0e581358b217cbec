"""The ops of a traced graph whose sizes follow widths, as calls that can be made again at any of these widths.

A call has one or two axes: numbers of channels that its tensors are sized by. Ops on one axis are norms, activations,
sums, pools and depthwise convs; on two, convs and linears that read some channels and make others. Views are no calls:
they move no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import fx, nn

from .channels import Side, WidthGroup
from .groups import WidthGraph
from .layer_table import ALIASES, tables_of
from .layers.record import LAYER_KINDS
from .opaque import OPAQUE
from .trace import BATCH, Op, TracedGraph, shape_of

MOST_AXES = 2
COPIES = torch.ops.aten.clone.default  # what a reshape of data in another order runs
NOTHING = ALIASES | {"dropout", "feature_dropout", "alpha_dropout", "dropout1d", "dropout2d", "dropout3d"}
COUNTS = {"conv1d": "groups", "conv2d": "groups", "conv3d": "groups", "conv_transpose1d": "groups",
          "conv_transpose2d": "groups", "conv_transpose3d": "groups", "group_norm": "num_groups"}  # fmt: skip


@dataclass(frozen=True)
class ChannelSum:
    """A number of channels as the widths of groups make it: ``constant`` + those of each group.

    Attributes:
        constant: Channels that always stay.
        terms: (group, channels per unit, width of a unit): a group of width w has w / (width of a unit) units.
    """

    constant: int = 0
    terms: tuple[tuple[str, int, int], ...] = ()

    def at(self, widths: Mapping[str, int]) -> int:
        """How many channels there are where the groups have these widths."""
        return self.constant + sum(per * (int(widths[name]) // unit) for name, per, unit in self.terms)

    def over(self, other: ChannelSum) -> Fraction | None:
        """How many times ``other`` it is, where that is one number for all widths."""
        own, base = ({name: per for name, per, _ in side.terms} for side in (self, other))
        if own.keys() != base.keys():
            return None
        ratios = {Fraction(own[name], base[name]) for name in own}
        ratios |= {Fraction(self.constant, other.constant)} if other.constant else set()
        return ratios.pop() if len(ratios) == 1 and (other.constant or not self.constant) else None


@dataclass(frozen=True)
class Along:
    """A size: so many times the channels of an axis; at least one."""

    axis: int
    times: Fraction = Fraction(1)

    def at(self, channels: Sequence[int]) -> int:
        return max(1, int(channels[self.axis] * self.times))


@dataclass(frozen=True)
class TensorForm:
    """A tensor that an op reads: its sizes, and how they lie in memory.

    Attributes:
        shape: Sizes; of a tensor of images with one image.
        batch: The dimension of the images, None for what is the same for all of them.
        order: Dimensions from the slowest to the fastest one; empty where they are in order.
        is_weight: It is a parameter or a buffer.
        source: The node of the graph that gives it.
    """

    shape: tuple[int | Along, ...]
    dtype: torch.dtype
    batch: int | None = None
    order: tuple[int, ...] = ()
    is_weight: bool = False
    source: str = field(default="", compare=False, repr=False)

    def sizes(self, channels: Sequence[int], images: int = 1) -> tuple[int, ...]:
        """The shape where the axes have so many channels, for so many images."""
        found = [size.at(channels) if isinstance(size, Along) else size for size in self.shape]
        if self.batch is not None:
            found[self.batch] *= images
        return tuple(found)


@dataclass(frozen=True)
class OpCall:
    """An op as it is called: tensors as :class:`TensorForm`, sizes that follow widths as :class:`Along`.

    Attributes:
        name: The layer, or the module that runs it.
        kind: Its name in aten.
        args, kwargs: As in the graph.
        axes: What each axis counts in this network.
        steps: The channels of an axis go up by multiples of this.
        fulls: The channels of each axis at full width.
        node: Of the graph.
        reader: The only node that reads what it gives; empty where there are several, or it is an output.
    """

    name: str
    kind: str
    op: Any
    args: tuple
    kwargs: Mapping[str, Any]
    axes: tuple[ChannelSum, ...]
    steps: tuple[int, ...]
    fulls: tuple[int, ...] = ()
    node: str = ""
    reader: str = ""

    @property
    def key(self) -> str:
        """Equal for calls that take equally long at equal channels of their axes."""
        lows = tuple(axis.constant % step for axis, step in zip(self.axes, self.steps, strict=True))
        return repr((str(self.op), self.args, sorted(self.kwargs.items()), self.fulls, self.steps, lows))


def op_calls(graph: TracedGraph, widths: WidthGraph, modules: Mapping[str, nn.Module]) -> list[OpCall]:
    """Those ops of a graph in eval mode whose sizes follow widths, in order.

    Args:
        graph: Of eval mode.
        widths: What its tensors are made of.
        modules: Every module by its name.
    """
    return list(_calls(graph, widths, modules))


def _calls(graph: TracedGraph, widths: WidthGraph, modules: Mapping[str, nn.Module]) -> Iterator[OpCall]:
    same_for_all = tables_of(graph)
    for op in graph:
        if op.kind == OPAQUE or not isinstance(op.node.target, torch._ops.OpOverload):
            continue
        call = _Draft(op, graph, widths, modules, same_for_all).call()
        if call is not None and call.axes:
            yield call


class _Draft:
    """A call while it is made: axes are found as sizes ask for them."""

    def __init__(
        self,
        op: Op,
        graph: TracedGraph,
        widths: WidthGraph,
        modules: Mapping[str, nn.Module],
        same_for_all: set[fx.Node],
    ) -> None:
        self._same_for_all = same_for_all  # tensors that are not of images
        self._op, self._graph, self._widths, self._modules = op, graph, widths, modules
        self._unknown = False
        self._axes: list[ChannelSum] = []
        self._fulls: list[int] = []
        self._joined: ChannelSum | None = None  # of a concat: all that it reads, as one axis

    def call(self) -> OpCall | None:
        op = self._op
        function, args, kwargs = op.node.target, op.node.args, op.node.kwargs
        if op.kind in NOTHING:
            if not _copies(op):
                return None
            function, args, kwargs = COPIES, (op.node.all_input_nodes[0],), {"memory_format": torch.contiguous_format}
        if op.kind == "cat":
            self._join()
        args = tuple(self._formed(arg) for arg in args)
        kwargs = {name: self._formed(arg) for name, arg in kwargs.items()}
        if self._unknown:
            return None
        if op.kind in COUNTS and self._axes:
            args = self._with_count(args, COUNTS[op.kind])
        elif op.kind == "layer_norm" and self._axes:
            shape = args[0].shape[len(args[0].shape) - len(args[1]) :]
            args = (args[0], list(shape), *args[2:])
        steps = tuple(_step(axis) for axis in self._axes)
        name = op.layer or op.module_path
        node, readers = op.node, list(op.node.users)
        reader = readers[0].name if len(readers) == 1 and node not in self._graph.outputs else ""
        sizes = (tuple(self._axes), steps, tuple(self._fulls))
        return OpCall(name, op.kind, function, args, kwargs, *sizes, node.name, reader)

    def _formed(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._formed(part) for part in value]
        if not isinstance(value, fx.Node):
            return value
        tensor = value.meta.get("val")
        if not isinstance(tensor, torch.Tensor):
            self._unknown = True  # several results of another op in one: no shape
            return None
        shape: list[int | Along] = [int(size) for size in tensor.shape]
        along = self._along(value)
        batch = None if value in self._same_for_all else _batch(shape, along)
        if batch is not None:
            shape[batch] //= BATCH
        for dim, side in along.items():
            shape[dim] = self._size(side)
        is_weight = value in self._graph.constants
        return TensorForm(tuple(shape), tensor.dtype, batch, _order(tensor), is_weight, value.name)

    def _along(self, node: fx.Node) -> Mapping[int, Side]:
        """The dimensions of a tensor whose size follows widths."""
        name, attribute = self._graph.names.get(node, (None, ""))
        if name is None:
            return self._widths.along.get(node, {})
        held = self._widths.held.get(name, {}).get(attribute)
        if held is not None:
            return {held[0]: held[1]}
        sides, kind = self._widths.layers.get(name), LAYER_KINDS.of(self._modules.get(name))
        if sides is None or kind is None:
            return {}
        follows = kind.sides(self._modules[name]).get(attribute, ())
        found = {dim: sides[side == "outputs"] for dim, side in follows}
        return {dim: side for dim, side in found.items() if not side.is_fixed}

    def _size(self, side: Side) -> int | Along:
        return self._axis(channel_sum(side, self._widths.groups), len(side))

    def _axis(self, wanted: ChannelSum, full: int) -> int | Along:
        if self._joined is not None:
            return Along(0, Fraction(full, self._fulls[0]))
        for index, axis in enumerate(self._axes):
            times = wanted.over(axis)
            if times is not None:
                return Along(index, times)
        if len(self._axes) == MOST_AXES:
            return full
        self._axes.append(wanted)
        self._fulls.append(full)
        return Along(len(self._axes) - 1)

    def _join(self) -> None:
        """A concat is of one axis: what it writes. Each tensor has its share of that."""
        dim = int(self._op.argument("dim", 0)) % len(shape_of(self._op.node))
        side = self._widths.along.get(self._op.node, {}).get(dim)
        if side is not None:
            self._joined = channel_sum(side, self._widths.groups)
            self._axes, self._fulls = [self._joined], [len(side)]

    def _with_count(self, args: tuple, name: str) -> tuple:
        """The arguments of a grouped layer: how many groups there are follows what it reads."""
        names = [argument.name for argument in self._op.node.target._schema.arguments]
        place = names.index(name)
        channels = args[0].shape[1]
        if place >= len(args) or args[place] in (None, 1) or not isinstance(channels, Along):
            return args
        full = self._fulls[channels.axis] * channels.times
        count = Along(channels.axis, channels.times * Fraction(args[place]) / full)
        return (*args[:place], count, *args[place + 1 :])


def channel_sum(side: Side, groups: Sequence[WidthGroup]) -> ChannelSum:
    """What a side counts."""
    terms = tuple((groups[index].name, per, groups[index].unit) for index, per in sorted(side.counts.items()))
    return ChannelSum(side.constant, terms)


def _step(axis: ChannelSum) -> int:
    """What the channels of an axis go up by: of a single group, those of a unit."""
    return axis.terms[0][1] if len(axis.terms) == 1 else 1


def _batch(shape: Sequence[int], along: Mapping[int, Side]) -> int | None:
    """The dimension of the images: the first, which windows or heads may share, else one of exactly their number."""
    free = [dim for dim in range(len(shape)) if dim not in along]
    if free[:1] == [0] and shape[0] % BATCH == 0:
        return 0
    return next((dim for dim in free if shape[dim] == BATCH), None)


def _order(tensor: torch.Tensor) -> tuple[int, ...]:
    order = tuple(sorted(range(tensor.dim()), key=lambda dim: -tensor.stride(dim)))
    return () if tensor.is_contiguous() or order == tuple(range(tensor.dim())) else order


def _copies(op: Op) -> bool:
    """Whether an op that only names data anew has to copy it: its input lies in another order."""
    if op.kind not in ("contiguous", "reshape", "flatten", "reshape_as", "to") or not op.node.all_input_nodes:
        return False
    before, after = (node.meta.get("val") for node in (op.node.all_input_nodes[0], op.node))
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor) or before.is_contiguous():
        return False
    if op.kind == "contiguous":
        return True
    try:
        torch.empty_strided(before.shape, before.stride(), device="meta").view(after.shape)
    except RuntimeError:
        return True
    return False
