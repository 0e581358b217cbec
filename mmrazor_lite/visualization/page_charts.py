"""The pictures of a page, drawn by matplotlib: inline SVG whose text is text and whose colours are those of the page.

Sizes are in pixels of a picture that is :data:`WIDTH` wide; a page shows it larger or smaller.
"""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import atomic_write

from .page import Bars, Curves, Series, visible

WIDTH, HEIGHT = 400, 262
ROW, MOST_ROWS = 16, 72  # pixels of a row of bars, and rows that a picture has
LONGEST = 24  # characters of a name beside a bar
SMALL = 10.5  # size of the text
SERIES = 8
# Drawn colours that stand for variables of the page's style sheet, and what they are in a picture of its own.
COLOURS = {
    "ink": ("#010101", "#0b0b0b"), "soft": ("#010102", "#52514e"), "grid": ("#010103", "#e1e0d9"),
    "rest": ("#010104", "#c9c8c0"), "card": ("#010105", "#ffffff"), "s1": ("#010106", "#2a78d6"),
    "s2": ("#010107", "#e8662f"), "s3": ("#010108", "#1baf7a"), "s4": ("#010109", "#d99400"),
    "s5": ("#01010a", "#8a5bd6"), "s6": ("#01010b", "#d9508a"), "s7": ("#01010c", "#3f8f1f"),
    "s8": ("#01010d", "#d64545"),
}  # fmt: skip
_DRAWN = re.compile(r"(fill|stroke): (#01010[1-9a-d])\b")
_NAMES = {drawn: name for name, (drawn, _) in COLOURS.items()}
Chart = Curves | Bars


def legend_of(chart: Chart) -> list[tuple[str, str]]:
    """(name of a series, its colour's name) in order; those that share the colour of another are not named."""
    shared = [bool(part.of) for part in chart.series] if isinstance(chart, Curves) else [False] * len(chart.values)
    return [pair for pair, is_shared in zip(_colours(chart), shared, strict=True) if not is_shared]


def _colours(chart: Chart) -> list[tuple[str, str]]:
    """(name of a series, its colour's name) of all of them, in order."""
    if isinstance(chart, Bars):
        names = [name for name, _ in chart.values]
        first = ["rest"] if chart.behind else []
        return list(zip(names, [*first, *(f"s{i % SERIES + 1}" for i in range(len(names)))], strict=False))
    own = [part.name for part in chart.series if part.look != "faint" and not part.of]
    colours = {name: f"s{number % SERIES + 1}" for number, name in enumerate(dict.fromkeys(own))}
    return [
        (part.name, "rest" if part.look == "faint" else colours.get(part.of or part.name, "rest"))
        for part in chart.series
    ]


def svg(chart: Chart, salt: str) -> str:
    """The picture as an ``<svg>`` element for a page; ``salt`` keeps its ids apart from those of others there.

    Raises:
        UserError: matplotlib is missing.
    """
    with _style(salt, {name: drawn for name, (drawn, _) in COLOURS.items()}) as colours:
        figure = _figure([chart], colours)
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    body = text.getvalue()[text.getvalue().index("<svg") :]
    head, rest = body[: body.index(">") + 1], body[body.index(">") + 1 :]
    view = re.search(r'viewBox="[^"]+"', head)
    rest = rest.replace("xlink:href", "href")
    rest = re.sub(r'<g id="[^"]*"', "<g", rest)  # alike in every picture, and asked for by nothing
    rest = _DRAWN.sub(lambda found: f"{found[1]}: var(--{_NAMES[found[2]]})", rest)
    return f'<svg {view[0] if view else ""} role="img">{rest.strip()}'


def write_png(path: str | os.PathLike, charts: Sequence[tuple[str, Chart]], title: str = "") -> None:
    """Write pictures, each with its title, one below the other as a PNG file; one that is there is replaced whole.

    Raises:
        UserError: matplotlib is missing.
    """
    with _style(PurePath(path).name, {name: own for name, (_, own) in COLOURS.items()}) as colours:
        figure = _figure([chart for _, chart in charts], colours, [name for name, _ in charts], title)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=144)


@contextmanager
def _style(salt: str, colours: dict[str, str]) -> Iterator[dict[str, str]]:
    """matplotlib as it comes, whatever the user's settings are, and the same bytes every time."""
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise UserError(f"plots need matplotlib ({error}): run 'pip install matplotlib'") from error
    ours = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False, "font.size": SMALL,
        "text.color": colours["ink"], "axes.edgecolor": colours["grid"], "axes.labelcolor": colours["soft"],
        "xtick.color": colours["soft"], "ytick.color": colours["soft"], "axes.facecolor": "none",
        "grid.color": colours["grid"], "xtick.major.size": 0, "ytick.major.size": 0, "ytick.minor.size": 0,
        "lines.linewidth": 1.8,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.axisbelow": True,
    }  # fmt: skip
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that its own font lacks: the browser has them
        fonts.setLevel(logging.ERROR)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(ours)
        try:
            yield colours
        finally:
            fonts.setLevel(level)


def _figure(charts: Sequence[Chart], colours: dict[str, str], titles: Sequence[str] = (), title: str = "") -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    alone = not titles  # on a page, titles and legends are of the page
    over = 0 if alone else 44
    places = in_columns([height_of(chart) + over for chart in charts], 2 if len(charts) > 2 else 1)
    top = 26 if title else 0
    width = WIDTH * (1 + max((column for column, _ in places), default=0))
    total = top + max((at + height_of(chart) + over for chart, (_, at) in zip(charts, places, strict=True)), default=1)
    figure = Figure(figsize=(width / 72, total / 72), dpi=72, facecolor="none" if alone else colours["card"])
    FigureCanvasAgg(figure)
    if title:
        figure.text(12 / width, 1 - 17 / total, visible(title), fontsize=SMALL + 2, weight="bold")
    for number, (chart, (column, at)) in enumerate(zip(charts, places, strict=True)):
        left, right, bottom, above = _margins(chart)
        x, y = column * WIDTH, total - top - at - over - height_of(chart)  # of the lower left corner
        inner = (WIDTH - left - right, height_of(chart) - bottom - above)
        axes = figure.add_axes(((x + left) / width, (y + bottom) / total, inner[0] / width, inner[1] / total))
        (_bars if isinstance(chart, Bars) else _curves)(axes, chart, colours)
        if not alone:
            head = y + height_of(chart) + over
            figure.text((x + 12) / width, (head - 18) / total, visible(titles[number]), fontsize=SMALL + 1)
            _legend(figure, chart, colours, x + 12, head - 34)
    return figure


def in_columns(heights: Sequence[float], columns: int = 2) -> list[tuple[int, float]]:
    """(column, how far down) of parts of these heights in order, each where most room is."""
    ends, found = [0.0] * columns, []
    for height in heights:
        column = ends.index(min(ends))
        found.append((column, ends[column]))
        ends[column] += height
    return found


def _legend(figure: Any, chart: Chart, colours: dict[str, str], x: float, y: float) -> None:
    """In one line; what does not fit is left to the page."""
    end, (width, total) = x + WIDTH - 12, figure.get_size_inches() * 72
    for name, colour in legend_of(chart):
        name = visible(name)
        if x + 11 + 5.8 * len(name) > end:
            break
        figure.text(x / width, y / total, "\u25cf", fontsize=SMALL, color=colours[colour])
        figure.text((x + 11) / width, y / total, name, fontsize=SMALL - 1, color=colours["soft"])
        x += 24 + 5.8 * len(name)


def _rows(chart: Bars) -> list[int]:
    """The rows that are drawn: all of them, or those with the largest numbers, in order."""
    if len(chart.names) <= MOST_ROWS:
        return list(range(len(chart.names)))
    largest = [max((numbers[i] or 0 for _, numbers in chart.values), default=0) for i in range(len(chart.names))]
    return sorted(sorted(range(len(largest)), key=lambda i: (-largest[i], i))[:MOST_ROWS])


def _labelled(chart: Bars) -> bool:
    """Whether numbers stand at the ends of the bars: of few, and of none that stand before another."""
    return not chart.behind and len(chart.names) * len(chart.values) <= 24


def _thick(chart: Bars) -> float:
    """Pixels of a row."""
    front = len(chart.values) - chart.behind
    return ROW + (12 if _labelled(chart) else 9) * max(0, front - 1)


def height_of(chart: Chart) -> float:
    """Pixels of a picture that is :data:`WIDTH` wide."""
    if isinstance(chart, Curves):
        return HEIGHT
    _, _, bottom, above = _margins(chart)
    return max(1, len(_rows(chart))) * _thick(chart) + bottom + above


def _margins(chart: Chart) -> tuple[float, float, float, float]:
    """Left, right, bottom and top, in pixels."""
    if isinstance(chart, Curves):
        return 48, 12, 42, 24
    shown = short_names([chart.names[i] for i in _rows(chart)])
    return 12 + 6.2 * max((len(name) for name in shown), default=1), 46 if _labelled(chart) else 12, 38, 2


def short_names(names: Sequence[str]) -> list[str]:
    """Names without what all begin with, and with their ends where they are long."""
    parts = [name.split(".") for name in names]
    same = 0
    while len(names) > 1 and all(len(part) > same + 1 and part[same] == parts[0][same] for part in parts):
        same += 1
    texts = [" ".join(visible(".".join(part[same:])).split()) for part in parts]
    return [text if len(text) <= LONGEST else f"\u2026{_end(text)}" for text in texts]


def _end(text: str) -> str:
    """The last parts of a dotted name that fit; of a long word, its last characters."""
    end = text[1 - LONGEST :]
    return end.partition(".")[2] if "." in end[:-6] else end


def _curves(axes: Any, chart: Curves, colours: dict[str, str]) -> None:
    for part, (_, colour) in zip(chart.series, _colours(chart), strict=True):
        _draw(axes, part, colours[colour], colours["card"], len(chart.series))
    if chart.log_y and any(y > 0 for part in chart.series for _, y in part.points):
        axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.xaxis.set_major_formatter(lambda value, _: tick(value))
    axes.xaxis.get_major_locator().set_params(nbins=6, min_n_ticks=2)
    axes.grid(axis="y", linewidth=0.8)
    axes.margins(x=0.04, y=0.08)
    axes.set_xlabel(visible(chart.x))
    axes.set_title(visible(chart.y), loc="left", fontsize=SMALL, color=colours["soft"], x=-40 / (WIDTH - 60), pad=7)


def _draw(axes: Any, part: Series, colour: str, card: str, count: int) -> None:
    x, y = ([point[i] for point in part.points] for i in (0, 1))
    if part.look == "faint":
        axes.plot(x, y, linestyle="none", marker="o", markersize=3.6, color=colour, markeredgewidth=0)
    elif part.look == "marks":
        axes.plot(
            x, y, linestyle="none", marker="o", markersize=9, color=colour, markeredgecolor=card, markeredgewidth=1.6
        )
    elif part.look == "steps":
        axes.plot(x, y, drawstyle="steps-post", color=colour, marker="o", markersize=3.4, linewidth=1.4)
    else:
        dots = {"marker": "o", "markersize": 3.6} if len(x) <= 40 and count <= 4 else {}
        axes.plot(x, y, color=colour, linewidth=1.8 if count <= 4 else 1.2, **dots)


def _bars(axes: Any, chart: Bars, colours: dict[str, str]) -> None:
    rows = _rows(chart)
    front = list(zip(chart.values, _colours(chart), strict=True))[1 if chart.behind else 0 :]
    largest = (
        max((abs(n) for _, numbers in chart.values for i in rows if (n := numbers[i]) is not None), default=1) or 1
    )
    if chart.behind and chart.values:
        _boxes(axes, range(len(rows)), [chart.values[0][1][i] for i in rows], 0.8, colours["rest"])
    thick = (0.52 if chart.behind else 0.74) / max(1, len(front))
    for number, ((_, numbers), (_, colour)) in enumerate(front):
        places = [row + (number - (len(front) - 1) / 2) * thick for row in range(len(rows))]
        _boxes(axes, places, [numbers[i] for i in rows], thick, colours[colour])
        if _labelled(chart):
            for place, i in zip(places, rows, strict=True):
                if (length := numbers[i]) is not None:
                    axes.text(length + 0.015 * largest, place, tick(length), va="center", color=colours["soft"])
    for row, name in enumerate(short_names([chart.names[i] for i in rows])):  # ticks with labels take ten times as long
        axes.text(-0.015 * largest, row, name, va="center", ha="right", color=colours["soft"])
    axes.yaxis.set_visible(False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.02 * largest)
    axes.xaxis.set_major_formatter(lambda value, _: tick(value))
    axes.xaxis.get_major_locator().set_params(nbins=5, min_n_ticks=2)
    axes.grid(axis="x", linewidth=0.8)
    axes.set_xlabel(visible(chart.unit))


def _boxes(axes: Any, places: Iterable[float], lengths: Iterable[float | None], thick: float, colour: str) -> None:
    """Bars in one go: a shape each would take most of the time of a page."""
    from matplotlib.collections import PolyCollection

    half = thick / 2
    pairs = [(place, length) for place, length in zip(places, lengths, strict=True) if length is not None]
    corners = [[(0, y - half), (x, y - half), (x, y + half), (0, y + half)] for y, x in pairs]
    axes.add_collection(PolyCollection(corners, facecolors=colour, edgecolors="none"), autolim=False)


def tick(value: float) -> str:
    """A number in a few characters: ``748k``, ``1.2G``, ``0.035``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            scale = 1e3 if unit == "k" else size
            return f"{value / scale:.4g}{unit}"
    return re.sub(r"e([+-])0+", r"e\1", f"{value:.4g}").replace("e+", "e")
