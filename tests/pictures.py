"""What a picture shows: its axes as matplotlib holds them when the file is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from matplotlib.axes import Axes
from matplotlib.figure import Figure


@contextmanager
def shown() -> Iterator[list[Axes]]:
    """The axes of every picture that is written inside; the files are written as ever."""
    found: list[Axes] = []
    save = Figure.savefig

    def watched(figure: Figure, *args, **kwargs) -> None:
        found.extend(figure.axes)
        save(figure, *args, **kwargs)

    with patch.object(Figure, "savefig", watched):
        yield found


def bars(axes: Axes) -> list[list[float]]:
    """Lengths of each series of bars, upright or lying."""
    lying = [[float(shape.vertices[:, 0].max()) for shape in part.get_paths()] for part in axes.collections]
    return [[bar.get_height() for bar in series] for series in axes.containers] or lying


def names(axes: Axes) -> list[str]:
    """What stands beside lying bars."""
    return [text.get_text() for text in axes.texts if text.get_ha() == "right"]


def ticks(axes: Axes) -> list[str]:
    """What stands along the horizontal axis."""
    return [label.get_text() for label in axes.get_xticklabels()]


def legend(axes: Axes) -> list[str]:
    """What the legend says."""
    found = axes.get_legend() or axes.figure.legends[0]
    return [text.get_text() for text in found.get_texts()]
