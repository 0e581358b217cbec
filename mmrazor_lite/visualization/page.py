"""What a run has to show, as plain records: one page for people, and the same as data for JSON.

Every producer (a search, slim, a recipe ...) fills a :class:`Page`; :mod:`.page_file` writes it.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FORMAT = "mmrazor_lite.page/1"
MOST_POINTS = 600  # of a cloud in a picture: more are not told apart, and make the file large
UNITS = {"latency": "latency (ms)", "memory": "memory (bytes)"}  # of costs that are no counts
LOOKS = ("faint", "line", "steps", "marks")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
Cell = str | int | float | None


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes:
        points: (x, y), finite.
        look: ``faint`` dots for what was tried, a ``line``, ``steps`` for a front, large ``marks`` for what was chosen.
        of: A series of the same picture whose colour it has; then the legend does not name it.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    look: str = "line"
    of: str = ""


@dataclass(frozen=True)
class Curves:
    """A picture of points and lines; ``x`` and ``y`` say what the axes are."""

    x: str
    y: str
    series: tuple[Series, ...]
    log_y: bool = False


@dataclass(frozen=True)
class Bars:
    """A picture of bars, a row for each name.

    Attributes:
        unit: What the numbers are.
        values: (name of a series, a number for each row; None where there is none).
        behind: Whether the first series is what was there before: it stands pale behind the others.
    """

    unit: str
    names: tuple[str, ...]
    values: tuple[tuple[str, tuple[float | None, ...]], ...]
    behind: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers; ``links`` has, for each row, the file that its first cell leads to, or nothing."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: Its anchor, such as ``front``.
        text: A sentence or two.
        folded: Whether the table is only seen when it is asked for.
    """

    name: str
    title: str
    text: str = ""
    chart: Curves | Bars | None = None
    table: Table | None = None
    folded: bool = True


@dataclass(frozen=True)
class Fact:
    """A number worth reading first, with what it is compared to."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """A network that came out, or one that it is compared with.

    Attributes:
        costs: By resource; of latency milliseconds.
        scores: By metric, the one that decides first.
        file: From the folder of the page; nothing where it has none.
    """

    name: str
    costs: tuple[tuple[str, float], ...]
    scores: tuple[tuple[str, float], ...]
    file: str = ""


@dataclass(frozen=True)
class Page:
    """Everything that a page shows.

    Attributes:
        kind: What ran: ``search``, ``slim``, ...
        lead: What came out, in a sentence.
        outcomes: The networks, which ``board`` compares over several pages.
    """

    kind: str
    title: str
    lead: str
    facts: tuple[Fact, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    sections: tuple[Section, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"format": FORMAT, **dataclasses.asdict(self)}


def page_of(data: Any) -> Page:
    """The page of what :meth:`Page.as_dict` gave, after its way through JSON.

    Raises:
        ValueError: It is none; says where.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    return _read(Page, {key: value for key, value in data.items() if key != "format"}, "page")


def series(name: str, points: Iterable[tuple[Any, Any]], look: str = "line") -> Series:
    """A series of the points that are finite, as plain numbers; of a large cloud, evenly chosen ones."""
    pairs = [(_plain(x), _plain(y)) for x, y in points]
    pairs = [(x, y) for x, y in pairs if x is not None and y is not None]
    if look == "faint" and len(pairs) > MOST_POINTS:
        pairs = sorted(pairs)
        pairs = [pairs[round(i * (len(pairs) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]
    return Series(name, tuple(pairs), look)


def bars(unit: str, names: Iterable[str], values: Mapping[str, Iterable[Any]], behind: bool = False) -> Bars:
    """Bars of plain numbers; None for what is not finite."""
    numbers = ((name, tuple(map(_plain, row))) for name, row in values.items())
    return Bars(unit, tuple(names), tuple(numbers), behind)


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]], links: Iterable[str] = ()) -> Table:
    """A table of texts, plain numbers, and yes and no; None for a number that is not finite."""
    return Table(tuple(columns), tuple(tuple(map(_cell, row)) for row in rows), tuple(links))


def compared(
    name: str,
    title: str,
    text: str,
    unit: str,
    amounts: Mapping[str, Mapping[str, Any]],
    column: str = "part",
    pictured: int | None = None,
) -> Section:
    """A section of amounts by part, of several networks: a table of all, and bars.

    Args:
        amounts: Network -> part -> how much; of the first network, pale behind the others.
        column: What parts are.
        pictured: How many networks have bars; None for all.
    """
    parts = list(dict.fromkeys(part for found in amounts.values() for part in found))
    drawn = {key: [found.get(part) for part in parts] for key, found in list(amounts.items())[:pictured]}
    rows = ((part, *(found.get(part) for found in amounts.values())) for part in parts)
    return Section(name, title, text, bars(unit, parts, drawn, behind=True), table((column, *amounts), rows))


def outcome(name: str, costs: Mapping[str, Any], scores: Mapping[str, Any], file: str = "") -> Outcome:
    """An outcome of plain numbers, without those that are not finite."""
    found = [{key: _plain(value) for key, value in part.items()} for part in (costs, scores)]
    return Outcome(name, *(tuple((k, v) for k, v in part.items() if v is not None) for part in found), file)


def settings(pairs: Mapping[str, Any], title: str = "How it was made", name: str = "settings") -> Section:
    """A section of keys and values, the nested ones under dotted names."""
    rows = [(key, value) for key, value in _flat(pairs, "") if value not in (None, "", (), [], {})]
    return Section(name, title, table=table(("", ""), rows), folded=False)


def files(paths: Sequence[tuple[str, str]]) -> Section:
    """A section of links: (file from the folder of the page, what it is)."""
    rows = [(path, what) for path, what in paths]
    return Section("files", "Files", table=table(("file", "what it is"), rows, (p for p, _ in paths)), folded=False)


def duration(seconds: float) -> str:
    """Seconds in words, minutes where they are many."""
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.1f} s"


def visible(text: str) -> str:
    """A text whose control characters, and halves of characters, are replaced: no file and no font has them."""
    return _CONTROL.sub("\ufffd", text)


def _flat(pairs: Mapping[str, Any], before: str) -> Iterable[tuple[str, Cell]]:
    for key, value in pairs.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{before}{key}", ", ".join(map(str, value))
        else:
            yield f"{before}{key}", value if isinstance(value, (str, int, float)) or value is None else str(value)


def _cell(value: Any) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else _plain(value)


def _plain(value: Any) -> int | float | None:
    """A number of any kind as an int or a float of 7 digits; None for what is not finite."""
    if value is None:
        return None
    if isinstance(value, (bool, str)):
        raise TypeError(f"{value!r} is no number")
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, int):
        return number
    return float(f"{number:.7g}") if math.isfinite(number) else None


def _read(kind: Any, value: Any, where: str) -> Any:
    """``value`` as what an annotation says."""
    inner = typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} is no list")
        kinds = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        if len(kinds) != len(value):
            raise ValueError(f"{where} has {len(value)} entries, {len(kinds)} are needed")
        return tuple(_read(k, v, f"{where}.{i}") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if isinstance(kind, types.UnionType):
        if value is None and type(None) in inner:
            return None
        records = [option for option in inner if dataclasses.is_dataclass(option)]
        if records:
            keys = set(value) if isinstance(value, Mapping) else set()
            fits = [r for r in records if keys == {f.name for f in dataclasses.fields(r)}]
            return _record((fits or records)[0], value, where)
        inner = tuple(option for option in inner if option is not type(None))
    else:
        inner = (kind,)
    if type(value) is int and float in inner:
        return value
    if type(value) not in inner:
        raise ValueError(f"{where} is {type(value).__name__}, not {' or '.join(option.__name__ for option in inner)}")
    return value


def _record(kind: Any, value: Any, where: str) -> Any:
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(value, Mapping) or set(value) != set(names):
        raise ValueError(f"{where} is not of {', '.join(names)}")
    hints = typing.get_type_hints(kind)
    found = kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in names})
    if isinstance(found, Series) and found.look not in LOOKS:
        raise ValueError(f"{where}.look is none of {', '.join(LOOKS)}")
    if isinstance(found, Bars) and any(len(numbers) != len(found.names) for _, numbers in found.values):
        raise ValueError(f"{where}: a series has another number of rows than there are names")
    return found
