"""Accuracy over epochs, of several networks and several seeds of each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from statistics import mean

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import atomic_write


def plot_curves(
    path: str | os.PathLike,
    curves: Mapping[str, Sequence[Mapping[int, float]]],
    title: str = "",
    ylabel: str = "test accuracy (%)",
) -> None:
    """Draw one line per network, the mean over its seeds, with the range of the seeds behind it; write a PNG file.

    Args:
        path: file to write; an existing one is replaced whole.
        curves: name of a network -> for each seed, epoch -> accuracy. Epochs that all its seeds have are drawn.
        title: shown above the picture.
        ylabel: of the upright axis.

    Raises:
        UserError: matplotlib is missing, or there is nothing to draw.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"plots need matplotlib ({error}): run 'pip install matplotlib'") from error
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, seeds in curves.items():
        epochs = sorted(set.intersection(*(set(seed) for seed in seeds))) if seeds else []
        if not epochs:
            raise UserError(f"plot of '{name}': no epoch has an accuracy in each of its {len(seeds)} seeds")
        columns = [[seed[epoch] for seed in seeds] for epoch in epochs]
        (line,) = axes.plot(epochs, [mean(column) for column in columns], marker=".", label=name)
        lowest, highest = [min(column) for column in columns], [max(column) for column in columns]
        axes.fill_between(epochs, lowest, highest, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
