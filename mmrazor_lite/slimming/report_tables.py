"""A report as tables on the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmrazor_lite.visualization.analysis_tables import SHOWN, WIDTH, bar

if TYPE_CHECKING:
    from .report import GroupRow, Quality, Report


def show_report(report: Report, full: bool = False, console: Any = None) -> None:
    """Print a report.

    Args:
        full: Name every layer of a group.
        console: Of rich; by default the terminal, or lines of a fixed length where there is none.
    """
    from rich.console import Console

    console = console or Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    size = "x".join(map(str, report.input_shape))
    console.print(f"{report.model}, images {size}: {report.asked}", markup=False, soft_wrap=True)
    console.print(_groups(report.groups, full))
    console.print(_stages(report))
    console.print(_costs(report))
    if report.latency is not None:
        style = "bold red" if report.latency.speedup[2] < 1 else "bold"
        told = f"Measured: {report.latency.verdict}{machine_of(report.latency.machine)}"
        console.print(told, style=style, markup=False, soft_wrap=True)
    for note in report.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)


def _groups(groups: Sequence[GroupRow], full: bool) -> Any:
    title = "Width groups: importance that went, loss by this group alone, share of all macs; solid part of a bar: kept"
    columns = ("name", "channels", "", "importance", "loss", "macs", "layers")
    table = _table(title, columns, left=(0, 2, 6))
    largest = max((group.full for group in groups), default=1)
    for group in groups:
        units = group.kept // group.unit
        alone = _number(group.sensitivity[units]) if units < len(group.sensitivity) else ""
        shown = list(group.producers) if full else list(group.producers)[:SHOWN]
        more = len(group.producers) - len(shown)
        table.add_row(
            *_texts(
                group.name,
                f"{group.full} > {group.kept}" if group.kept < group.full else f"{group.full}",
                bar(group.full, group.kept, largest, 16),
                (f"-{group.lost:.1%}" if group.lost else "0.0%")
                if group.importance and group.kept < group.full
                else "",
                alone if group.kept < group.full else "",
                f"{group.share_before:.1%} > {group.share_after:.1%}",
                ", ".join(shown) + (f" and {more} more" if more else ""),
            )
        )
    return table


def _stages(report: Report) -> Any:
    columns = ["stage", "accuracy", "agrees with the original", "distance", "seconds"]
    rows = [[stage.name, *_quality(stage.held_out), f"{stage.seconds:.1f}"] for stage in report.stages]
    used = [index for index, name in enumerate(columns) if any(row[index] for row in rows)]
    table = _table(f"Where accuracy went: {report.judged_on}", [columns[index] for index in used], left=(0,))
    for row in rows:
        table.add_row(*_texts(*(row[index] for index in used)))
    return table


def _quality(quality: Quality) -> list[str]:
    return [*(_percent(p, quality.images) for p in (quality.accuracy, quality.agreement)), _number(quality.distance)]


def _percent(percent: float | None, images: int) -> str:
    """A share with the standard error that so few images leave: all or none of 12 images is not certain either.

    The share is moved to the middle by half an image (A. Agresti and B. A. Coull, The American Statistician 1998, with
    z = 1).
    """
    if percent is None or not images:
        return ""
    share = (percent / 100 * images + 0.5) / (images + 1)
    return f"{percent:.2f}% ± {100 * math.sqrt(share * (1 - share) / (images + 1)):.1f}"


def _costs(report: Report) -> Any:
    table = _table("Costs of one image", ("", "original", "slimmed", "left"), left=(0,))
    before, after = report.costs["original"], report.costs["slimmed"]
    for name in before:
        unit = " bytes" if name == "memory" else ""
        left = f"{after[name] / before[name]:.1%}" if before[name] else ""
        table.add_row(*_texts(name, f"{before[name]:,}{unit}", f"{after[name]:,}{unit}", left))
    if report.latency is not None:
        low, middle, high = report.latency.speedup
        cells = [f"{m:.3g} ms ({a:.3g} to {b:.3g})" for a, m, b in report.latency.quartiles]
        ratio = f"{1 / middle:.1%} ({1 / high:.1%} to {1 / low:.1%})"
        table.add_row(*_texts("latency, median (quartiles)", *cells, ratio))
    return table


def machine_of(machine: Any) -> str:
    """What a latency was measured on, in brackets."""
    if not machine:
        return ""
    parts = [str(machine.get("name", machine.get("device", "")))]
    parts += [f"{machine[key]} {key}" for key in ("threads",) if key in machine]
    parts += [f"batches of {machine['batch_size']}"] if "batch_size" in machine else []
    parts += [f"{machine['backend']} {machine.get('version', '')}".strip()] if "backend" in machine else []
    return f" ({', '.join(parts)})"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def _table(title: str, columns: Sequence[str], left: Sequence[int]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, overflow="fold", justify="left" if index in left else "right")
    return table


def _texts(*cells: str) -> list[Any]:
    """Cells that are shown as they are, brackets too."""
    from rich.text import Text

    return [Text(cell) for cell in cells]
