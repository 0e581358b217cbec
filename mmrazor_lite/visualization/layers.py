"""Cost per layer of a network, and what the smallest subnet leaves of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import atomic_write

SEARCHABLE, DROPPED, FIXED = "#1f77b4", "#aec7e8", "#7f7f7f"
NAMES = 90  # names that fit under the widest picture


def plot_layers(path: str | os.PathLike, layers: Sequence[tuple[str, int, int, bool]], title: str = "") -> None:
    """Draw the macs of each layer as a bar with the part inside that the smallest subnet keeps, and write a PNG file.

    Args:
        path: file to write; an existing one is replaced whole.
        layers: (name, macs of the full network, macs of the smallest subnet, is it searchable), in network order.
        title: shown above the picture.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as error:
        raise UserError(f"plots need matplotlib ({error}): run 'pip install matplotlib'") from error

    count = len(layers)
    every = max(1, -(-count // NAMES))  # name every second or third layer where all would overlap
    figure = Figure(figsize=(min(22.0, max(8.0, 0.24 * count)), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colours = [SEARCHABLE if searchable else FIXED for *_, searchable in layers]
    axes.bar(range(count), [full / 1e6 for _, full, _, _ in layers], width=0.9, color=DROPPED)
    axes.bar(range(count), [small / 1e6 for _, _, small, _ in layers], width=0.9, color=colours)
    axes.set_xticks(range(0, count, every), [name for name, *_ in layers][::every], rotation=90, fontsize=7)
    axes.set_xlim(-0.6, max(count, 1) - 0.4)
    axes.set_ylabel("M macs")
    axes.set_title(title)
    labels = {SEARCHABLE: "kept by the smallest subnet", DROPPED: "dropped by it", FIXED: "stays at full width"}
    handles = [Patch(color=colour, label=label) for colour, label in labels.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
