"""What a part of a network costs, from a trace of that part alone; parts that are built alike are traced once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmcv.cnn import ConvModule
from torch import nn

from mmrazor_lite.graph import LayerTable, Side, WidthGraph, WidthGroup, find_width_groups, layer_table, trace
from mmrazor_lite.graph.computation import lines_of, with_kernel
from mmrazor_lite.models.mutables import KernelConv2d
from mmrazor_lite.models.ops import settle

NO_WIDTHS = WidthGraph([], {}, {}, {}, {}, [], frozenset())
MAX_KNOWN = 1024
# A supernet is built several times in one process. Beside each trace, the kernel sizes that it was made with.
_KNOWN: dict[tuple, tuple[PartTrace, Mapping[str, int]]] = {}
KERNEL_ATTRIBUTES = ("kernel_size", "padding", "_reversed_padding_repeated_twice")
_PLAIN = (bool, int, float, str, tuple, list, type(None))


@dataclass(frozen=True)
class PartTrace:
    """A part of a network: its layers, the width groups inside it, the sides of its layers, its elastic kernels, and
    what it computes, in lines by its own names."""

    table: LayerTable
    groups: Sequence[WidthGroup]
    layers: Mapping[str, tuple[Side, Side]]
    kernels: tuple[str, ...]
    lines: Sequence[str]


def trace_alone(module: nn.Module, size: tuple[int, ...], with_widths: bool) -> PartTrace:
    """Trace ``module`` on images of ``size`` (C, H, W); where asked for, with the width groups that it declares.

    Elastic kernels are traced as plain convolutions of the largest size, without the matrices that make smaller ones.
    One trace serves parts that differ in nothing but the size of padded kernels: their maps are the same.
    """
    padded = _padded_kernels(module)
    key = (size, with_widths, *_structure(module, padded))
    if key not in _KNOWN:
        kernels = tuple(name for name, part in module.named_modules() if isinstance(part, KernelConv2d))
        traced = trace(settle(copy.deepcopy(module)) if kernels else module, size, eval_only=True)
        by_hand = getattr(module, "inner_groups", ()) if with_widths else ()
        graph = find_width_groups(traced, by_hand=by_hand) if by_hand else NO_WIDTHS
        if len(_KNOWN) >= MAX_KNOWN:
            _KNOWN.clear()
        table = layer_table(traced, graph)
        _KNOWN[key] = PartTrace(table, graph.groups, graph.layers, kernels, lines_of(traced)), padded
    part, traced_with = _KNOWN[key]
    table, lines = part.table, part.lines
    for name, kernel in padded.items():
        if kernel != traced_with[name]:
            table = table.with_kernel([name], traced_with[name] ** 2, kernel**2)
            lines = with_kernel(lines, name, kernel)
    return replace(part, table=table, lines=lines)


def _padded_kernels(module: nn.Module) -> dict[str, int]:
    """Sizes of the square kernels inside whose padding keeps the size of the map, whatever their own is, by layer."""
    parts = dict(module.named_modules())
    if len(list(module.parameters())) != sum(
        p is not None for part in parts.values() for p in part._parameters.values()
    ):
        return {}  # layers share a weight
    found = {}
    for name, part in parts.items():
        if name and type(part) is nn.Conv2d:
            size = part.kernel_size[0]
            same = size % 2 == 1 and part.padding == (size // 2,) * 2 and part.dilation == (1, 1)
            if same and part.kernel_size == (size, size) and part.padding_mode == "zeros":
                found[name] = size
    return found


def _structure(module: nn.Module, padded: Mapping[str, int]) -> tuple:
    """What decides about costs: types, plain attributes and the shapes of parameters, of all modules inside.

    Args:
        padded: Convolutions, by name, the size of whose kernels is left out.
    """
    found = []
    for name, part in module.named_modules():
        inner = f"{name}.conv".lstrip(".") if type(part) is ConvModule else name
        left_out = KERNEL_ATTRIBUTES if inner in padded else ()
        attributes = tuple((k, _told(v)) for k, v in vars(part).items() if k not in left_out and _told(v) is not None)
        shapes = tuple(
            (key, None if p is None else tuple(p.shape[:2] if name in padded else p.shape))
            for key, p in part._parameters.items()
        )
        found.append((name, type(part), attributes, shapes))
    return tuple(found)


def _told(value: object) -> str | None:
    """What an attribute says about what a module computes; of a function, its name. None of what says nothing."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if callable(value) and not isinstance(value, nn.Module):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return None
