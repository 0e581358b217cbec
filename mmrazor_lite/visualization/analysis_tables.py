"""An analysis as tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrazor_lite.estimators.analysis import Analysis, Extent, LayerCost

SHOWN = 6  # names of a list that is not shown in full
WIDTH = 160  # characters of a line where there is no screen


def show_analysis(analysis: Analysis, order: str = "network", top: int | None = None, full: bool = False) -> None:
    """Print the analysis as tables.

    Args:
        order: ``'network'`` or ``'macs'``, of the layers.
        top: rows of the table of layers; None for all.
        full: name every layer of a group and of a reason.
    """
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    size = "x".join(map(str, analysis.input_shape))
    console.print(
        f"{analysis.model}, input 1x{size}: {analysis.choices} width choices, 10^{analysis.size_log10:.1f} subnets, "
        f"{analysis.searchable_share:.1%} of the macs searchable",
        markup=False,
        soft_wrap=True,
    )
    if analysis.untrainable:
        console.print("Cannot be trained: its own backward pass fails", style="bold")
        console.print(f"  {analysis.untrainable}", markup=False, soft_wrap=True)
    console.print(_groups(analysis, full))
    if analysis.shared:
        console.print("Shared modules (one group, one set of weights)", style="bold")
        for name, others in analysis.shared.items():
            console.print(f"  {name} = {_names(others, full)}", markup=False, soft_wrap=True)
    if analysis.fixed:
        console.print("Stays at full width", style="bold")
        for reason, layers in analysis.fixed.items():
            console.print(f"  {reason}: {_names(layers, full)}", markup=False, soft_wrap=True)
    console.print(_costs(analysis, order, top))
    console.print(_resources(analysis))


def _groups(analysis: Analysis, full: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Width groups", title_justify="left", title_style="bold")
    for name, options in {
        "#": {"justify": "right"}, "name": {}, "full": {"justify": "right"}, "unit": {"justify": "right"},
        "candidates": {}, "layers": {}, "norms and others that pass on": {},
    }.items():  # fmt: skip
        table.add_column(name, overflow="fold", **options)
    for number, group in enumerate(analysis.groups, start=1):
        passing = _names(group.members, True) if full else str(len(group.members))
        texts = (number, group.name, group.full, group.unit, _widths(group.candidates), _names(group.producers, full))
        table.add_row(*(Text(str(text)) for text in (*texts, passing)))
    return table


def _costs(analysis: Analysis, order: str, top: int | None) -> Any:
    from rich.table import Table
    from rich.text import Text

    layers = sorted(analysis.layers, key=lambda layer: -layer.macs.max) if order == "macs" else analysis.layers
    numbers = {group.name: number for number, group in enumerate(analysis.groups, start=1)}
    total = analysis.resources["macs"].max or 1
    largest = max((layer.macs.max for layer in analysis.layers), default=1) or 1
    title = (
        "Cost per layer: largest > smallest subnet, #group that sets the width; solid part of a bar: smallest subnet"
    )
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("layer", "kind", "in", "out", "macs", "share", "params", "macs"):
        table.add_column(name, overflow="fold", justify="left" if name in ("layer", "kind") else "right")
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", True
    for layer in layers[:top]:
        colour = "green" if layer.searchable else "bright_black"
        table.add_row(
            Text(layer.name or "(model)"),
            layer.kind + (f" x{layer.calls}" if layer.calls > 1 else ""),
            _side(layer, layer.inputs, layer.input_groups, numbers),
            _side(layer, layer.outputs, layer.output_groups, numbers),
            _extent(layer.macs),
            f"{layer.macs.max / total:.1%}",
            _extent(layer.params),
            Text(bar(layer.macs.max, layer.macs.min, largest), style=colour),
        )
    hidden = len(layers) - len(layers[:top])
    if hidden:
        table.add_row(f"... {hidden} more")
    rest = analysis.rest
    table.add_section()
    table.add_row(
        "all layers",
        "",
        "",
        "",
        _extent(analysis.resources["macs"]),
        "100.0%",
        _extent(analysis.resources["params"] - analysis.rest["params"]),
    )
    table.add_row("norms, activations and the rest", "", "", "", f"flops {_extent(rest['flops'])}", "",
                  _extent(rest["params"]))  # fmt: skip
    return table


def _resources(analysis: Analysis) -> Any:
    from rich.table import Table

    table = Table(title="Resources of one image", title_justify="left", title_style="bold")
    for name in ("", "largest", "smallest", "smallest / largest"):
        table.add_column(name, justify="right" if name else "left")
    for name, extent in analysis.resources.items():
        unit = " bytes" if name == "memory" else ""
        table.add_row(name, f"{extent.max:,}{unit}", f"{extent.min:,}{unit}", f"{extent.ratio:.3f}")
    return table


def bar(full: int, kept: int, largest: int, width: int = 20) -> str:
    """``full`` as a bar, of ``width`` characters for ``largest`` and one at least; the part ``kept`` of it solid."""
    length = max(round(width * full / largest), 1 if full else 0)
    solid = min(length, round(width * kept / largest))
    return "█" * solid + "░" * (length - solid)


def short(number: int) -> str:
    """Three digits and a unit: 1234567 -> ``1.23M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= 0.9995 * size:
            return f"{number / size:#.3g}".rstrip(".") + unit
    return str(number)


def _extent(extent: Extent) -> str:
    return short(extent.max) if extent.max == extent.min else f"{short(extent.max)} > {short(extent.min)}"


def _side(layer: LayerCost, extent: Extent, groups: Sequence[str], numbers: dict[str, int]) -> str:
    if layer.kind in ("matmul", "opaque") and not groups:
        return ""  # its row is a plain number of macs
    width = str(extent.max) if extent.max == extent.min else f"{extent.max} > {extent.min}"
    marks = [f"#{numbers[name]}" for name in groups]
    return " ".join([width, *marks[:3], *(["..."] if len(marks) > 3 else [])])


def _names(names: Sequence[str], full: bool) -> str:
    shown = list(names) if full else list(names)[:SHOWN]
    more = [f"and {len(names) - len(shown)} more (--full names them)"] if len(shown) < len(names) else []
    return ", ".join([*shown, *more])


def _widths(candidates: Sequence[int]) -> str:
    if len(candidates) > 8:
        return f"{candidates[0]} {candidates[1]} ... {candidates[-1]} ({len(candidates)})"
    return " ".join(map(str, candidates))
