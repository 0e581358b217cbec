"""What the call of a layer costs: rows of the layer table.

A function takes the op, the width graph and for how many images the op runs (1 where it is the same for all of them).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx

from ..channels import Side
from ..trace import BATCH, Op, shape_of

if TYPE_CHECKING:
    from ..groups import WidthGraph

ONE = Side.fixed(1)


@dataclass(frozen=True)
class LayerRow:
    """A layer or op of one image's forward pass.

    ``positions`` is the number of places it is applied to (output pixels of a conv, elements per channel of the rest);
    ``kernel`` the weights per (input, output) channel pair, times the fixed group width where the conv is grouped.
    Norms, activations and pools have ``inputs`` of one channel.
    """

    name: str
    kind: str  # conv, linear, recurrent, norm, activation, pool, matmul, opaque, weights
    positions: int
    kernel: int
    inputs: Side
    outputs: Side
    bias: bool = False
    affine: bool = False
    macs: bool = False


def conv(op: Op, graph: WidthGraph, images: int) -> Iterator[LayerRow]:
    """Every place of the output meets every weight of its channel; a conv along the channels is one of places only."""
    weight, groups = shape_of(op.argument("weight")), int(op.argument("groups", 1))
    taps, bias = math.prod(weight[2:]), op.argument("bias") is not None
    inputs, outputs = sides(op, graph, weight[1] * groups, weight[0])
    places = math.prod(shape_of(op.node)) // images // weight[0]
    if groups > 1:
        taps, inputs = taps * weight[1], ONE
    if op.layer in graph.alone and op.layer not in graph.layers:
        outputs = graph.alone[op.layer][1]
        places //= len(outputs)
    yield LayerRow(layer_name(op), "conv", places, taps, inputs, outputs, bias, macs=True)


def transposed(op: Op, graph: WidthGraph, images: int) -> Iterator[LayerRow]:
    """Every place of the input meets every weight of its channel; the bias is added to every place of the output."""
    weight, groups = shape_of(op.argument("weight")), int(op.argument("groups", 1))
    taps = math.prod(weight[2:])
    inputs, outputs = sides(op, graph, weight[0], weight[1] * groups)
    places = math.prod(shape_of(op.argument("input"))) // images // weight[0]
    if groups > 1:
        taps, inputs = taps * weight[0] // groups, ONE
    yield LayerRow(layer_name(op), "conv", places, taps, inputs, outputs, macs=True)
    if op.argument("bias") is not None:
        places = math.prod(shape_of(op.node)) // images // len(outputs)
        yield LayerRow(layer_name(op), "conv", places, 1, ONE, outputs, bias=True)


def linear(op: Op, graph: WidthGraph, images: int) -> Iterator[LayerRow]:
    """Every place meets every weight."""
    weight, bias = shape_of(op.argument("weight")), op.argument("bias") is not None
    places = math.prod(shape_of(op.node)) // images // weight[0]
    yield LayerRow(layer_name(op), "linear", places, 1, *sides(op, graph, weight[1], weight[0]), bias, macs=True)


def norm(op: Op, graph: WidthGraph, images: int) -> Iterator[LayerRow]:
    """Costs by element; the norm of a weight, the same for all images, costs nothing."""
    if images > 1:
        per_channel, side = elements(op.node, graph, images)
        yield LayerRow(layer_name(op), "norm", per_channel, 1, ONE, side, affine=op.argument("weight") is not None)


def layer_name(op: Op) -> str:
    """The layer of an op, or the module that runs it."""
    return op.layer or op.module_path


def sides(op: Op, graph: WidthGraph, inputs: int, outputs: int) -> tuple[Side, Side]:
    """Sides of the layer that an op is the call of; of a functional depthwise conv, those that its result has."""
    known = graph.layers.get(op.layer or "")
    if known is not None:
        return known
    side = graph.nodes.get(op.node) if int(op.argument("groups", 1) or 1) == outputs else None
    return Side.fixed(inputs), side if side is not None and len(side) == outputs else Side.fixed(outputs)


def elements(node: fx.Node, graph: WidthGraph, images: int = BATCH) -> tuple[int, Side]:
    """Elements per channel of one image's tensor, and the side of its channels."""
    size = math.prod(shape_of(node)) // images
    side = graph.nodes.get(node)
    if side is None and len(shape_of(node)) in (2, 4) and images > 1:
        side = Side.fixed(shape_of(node)[1])
    if side is None or size % len(side):  # a table, the same for every image
        return size, ONE
    return size // len(side), side
