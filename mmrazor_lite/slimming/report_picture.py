"""A report as a picture: channels of every group, what each group's channels are worth, where accuracy went."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import atomic_write
from mmrazor_lite.visualization.channel_chart import draw_channels

if TYPE_CHECKING:
    from .report import GroupRow, Report, Stage

NAMED = 60  # groups whose names fit under the widest picture
LEGEND = 12  # curves that a legend tells apart


def plot_report(path: str | os.PathLike, report: Report) -> None:
    """Write the picture of a report as a PNG file; one that is there is replaced whole.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"plots need matplotlib ({error}): run 'pip install matplotlib'") from error
    width = min(22.0, max(11.0, 0.28 * len(report.groups)))
    figure = Figure(figsize=(width, 9.6), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplot_mosaic([["channels", "channels"], ["curves", "stages"]])
    figure.suptitle(f"{report.model}: {report.asked}")
    _channels(rows["channels"], report.groups)
    _curves(rows["curves"], [group for group in report.groups if len(group.sensitivity) > 1])
    _stages(rows["stages"], report.stages)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _channels(axes: Any, groups: Sequence[GroupRow]) -> None:
    full, kept = ({group.name: number for group, number in zip(groups, numbers, strict=True)} for numbers in (
        [group.full for group in groups], [group.kept for group in groups]))  # fmt: skip
    draw_channels(axes, full, {"slimmed": kept}, "Channels of every width group")
    every = max(1, -(-len(groups) // NAMED))  # name every second or third group where all would overlap
    axes.set_xticks(range(0, len(groups), every), list(full)[::every], rotation=90, fontsize=7)


def _curves(axes: Any, groups: Sequence[GroupRow]) -> None:
    """What the outputs lose by the share of one group's channels that stay; a dot where the group is now."""
    axes.set_title("What is lost where one group alone is slimmed", fontsize=10)
    axes.set_xlabel("channels kept (%)")
    axes.set_ylabel("distance of the outputs")
    shown = sorted(groups, key=lambda group: -_now(group))
    for number, group in enumerate(shown):
        curve = np.asarray(group.sensitivity, float)
        share = 100 * np.arange(len(curve)) / (len(curve) - 1)
        label = group.name if number < LEGEND else None
        (line,) = axes.plot(share, np.where(curve > 0, curve, np.nan), linewidth=1, label=label)
        now = _now(group)
        if now > 0:
            axes.plot([100 * group.kept / group.full], [now], marker="o", markersize=4, color=line.get_color())
    if any(np.asarray(group.sensitivity, float).max() > 0 for group in shown):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    if shown:
        axes.legend(fontsize=7, title="the most is lost in" if len(shown) > LEGEND else None, title_fontsize=7)


def _now(group: GroupRow) -> float:
    units = group.kept // group.unit
    return float(group.sensitivity[units]) if units < len(group.sensitivity) else 0.0


def _stages(axes: Any, stages: Sequence[Stage]) -> None:
    """Accuracy and agreement, or the distance where there is neither, on images that no step has seen."""
    names = [stage.name for stage in stages]
    series = {"accuracy": [s.accuracy for s in stages], "agreement with the original": [s.agreement for s in stages]}
    series = {name: values for name, values in series.items() if any(value is not None for value in values)}
    unit = "%"
    if not series:
        series, unit = {"distance to the original": [stage.distance for stage in stages]}, "distance"
    width = 0.8 / len(series)
    for index, (name, values) in enumerate(series.items()):
        heights = [np.nan if value is None or not np.isfinite(value) else value for value in values]
        places = [x + (index - (len(series) - 1) / 2) * width for x in range(len(names))]
        drawn = axes.bar(places, heights, width=width, label=name)
        axes.bar_label(drawn, fmt="%.3g", fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
    axes.set_ylabel(unit)
    images = stages[-1].held_out.images if stages else 0
    axes.set_title(f"Where accuracy went, on {images:,} images no step has seen", fontsize=10)
    axes.margins(y=0.2)  # room for the legend above the bars
    axes.legend(fontsize=8, loc="upper center", ncols=2)
