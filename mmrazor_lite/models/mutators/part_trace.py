"""What a part of a network costs, from a trace of that part alone; parts that are built alike are traced once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmcv.cnn import ConvModule
from torch import nn

from mmrazor_lite.graph import LayerTable, Side, WidthGraph, WidthGroup, find_width_groups, layer_table, trace
from mmrazor_lite.graph.computation import lines_of, with_kernel

NO_WIDTHS = WidthGraph([], {}, {}, {}, {}, [], frozenset())
MAX_KNOWN = 1024
# A supernet is built several times in one process. Beside each trace, the kernel sizes that it was made with.
_KNOWN: dict[tuple, tuple[PartTrace, Mapping[str, int]]] = {}
KERNEL_ATTRIBUTES = ("kernel_size", "padding", "_reversed_padding_repeated_twice")
_PLAIN = (bool, int, float, str, tuple, list, type(None))


@dataclass(frozen=True)
class PartTrace:
    """A part of a network: its layers, the width groups inside it, the sides of its layers, and what it computes, in
    lines by its own names."""

    table: LayerTable
    groups: Sequence[WidthGroup]
    layers: Mapping[str, tuple[Side, Side]]
    lines: Sequence[str]


def trace_alone(module: nn.Module, size: tuple[int, ...], groups: Sequence[Mapping] = ()) -> PartTrace:
    """Trace a plain ``module`` on images of ``size`` (C, H, W), with the width groups that ``groups`` declare.

    One trace serves parts that differ in nothing but the size of padded kernels: their maps are the same.
    """
    padded = _padded_kernels(module)
    key = _key(module, size, groups, padded)
    if key not in _KNOWN:
        traced = trace(module, size, eval_only=True)
        graph = find_width_groups(traced, by_hand=groups) if groups else NO_WIDTHS
        if len(_KNOWN) >= MAX_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = PartTrace(layer_table(traced, graph), graph.groups, graph.layers, lines_of(traced)), padded
    part, traced_with = _KNOWN[key]
    table, lines = part.table, part.lines
    for name, kernel in padded.items():
        if kernel != traced_with[name]:
            table = table.with_kernel([name], traced_with[name] ** 2, kernel**2)
            lines = with_kernel(lines, name, kernel)
    return replace(part, table=table, lines=lines)


def build_of(module: nn.Module, size: tuple[int, ...], groups: Sequence[Mapping] = ()) -> tuple:
    """What is equal for parts that one trace serves."""
    return _key(module, size, groups, _padded_kernels(module))


def _key(module: nn.Module, size: tuple[int, ...], groups: Sequence[Mapping], padded: Mapping[str, int]) -> tuple:
    return (size, repr(groups), *_structure(module, padded))


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
    """What decides about costs: types and plain attributes of all modules inside, kinds and shapes of their tensors.

    Args:
        padded: Convolutions, by name, the size of whose kernels is left out.
    """
    found = []
    for name, part in module.named_modules():
        inner = f"{name}.conv".lstrip(".") if type(part) is ConvModule else name
        left_out = KERNEL_ATTRIBUTES if inner in padded else ()
        attributes = tuple((k, _told(v)) for k, v in vars(part).items() if k not in left_out and _told(v) is not None)
        tensors = tuple(
            (key, None if t is None else (t.dtype, tuple(t.shape[:2] if name in padded else t.shape)))
            for key, t in (*part._parameters.items(), *part._buffers.items())
        )
        found.append((name, type(part), attributes, tensors))
    return tuple(found)


def _told(value: object) -> str | None:
    """What an attribute says about what a module computes; of a function, its name. None of what says nothing."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if callable(value) and not isinstance(value, nn.Module):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return None
