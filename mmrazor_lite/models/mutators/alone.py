"""What a part of a network costs, from a trace of that part alone; parts that are built alike are traced once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from mmrazor_lite.graph import LayerTable, Side, WidthGraph, WidthGroup, find_width_groups, layer_table, trace
from mmrazor_lite.models.mutables import KernelConv2d
from mmrazor_lite.models.ops import KIND, settle

NO_WIDTHS = WidthGraph([], {}, {}, {}, {}, [], frozenset())
MAX_KNOWN = 1024
_KNOWN: dict[tuple, PartTrace] = {}  # a supernet is built several times in one process
_PLAIN = (bool, int, float, str, tuple, list, type(None))


@dataclass(frozen=True)
class PartTrace:
    """A part of a network: its layers, the width groups inside it, the sides of its layers, its elastic kernels."""

    table: LayerTable
    groups: Sequence[WidthGroup]
    layers: Mapping[str, tuple[Side, Side]]
    kernels: tuple[str, ...]


def trace_alone(module: nn.Module, size: tuple[int, ...], with_widths: bool) -> PartTrace:
    """Trace ``module`` on images of ``size`` (C, H, W); where asked for, with the width groups that it declares.

    Elastic kernels are traced as plain convolutions of the largest size, without the matrices that make smaller ones.
    """
    key = (size, with_widths, *_structure(module))
    if key not in _KNOWN:
        kernels = tuple(name for name, part in module.named_modules() if isinstance(part, KernelConv2d))
        traced = trace(settle(copy.deepcopy(module)) if kernels else module, size, eval_only=True)
        by_hand = getattr(module, "inner_groups", ()) if with_widths else ()
        graph = find_width_groups(traced, KIND, by_hand=by_hand) if by_hand else NO_WIDTHS
        if len(_KNOWN) >= MAX_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = PartTrace(layer_table(traced, graph), graph.groups, graph.layers, kernels)
    return _KNOWN[key]


def _structure(module: nn.Module) -> tuple:
    """What decides about costs: types, plain attributes and the shapes of parameters, of all modules inside."""
    return tuple(
        (
            name,
            type(part),
            tuple((key, repr(value)) for key, value in vars(part).items() if isinstance(value, _PLAIN)),
            tuple((key, None if tensor is None else tuple(tensor.shape)) for key, tensor in part._parameters.items()),
        )
        for name, part in module.named_modules()
    )
