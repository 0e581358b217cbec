"""One spelling for what can be written in several ways: ``F.relu`` and ``nn.ReLU``, ``padding='same'`` and its number.

Two spellings are one where both give the same bits in eval mode. ``tests/graph/test_spellings.py`` tries every rule on
real modules.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from .computation_line import ADDED, CHANGED, GIVES, SLOTS, TAKES, Line, absolute, is_constant, relative

Shape = tuple[int, ...]

VIEWS = frozenset("view reshape flatten unflatten squeeze unsqueeze _unsafe_view".split())  # other sizes, equal order
TURNS = frozenset("transpose permute t numpy_T mT swapaxes swapdims".split())
_PARTS = frozenset("chunk split split_with_sizes unbind".split())
_BY_AXES = frozenset("mean sum amax amin".split())  # that give the same with ``keepdim`` and without
_ANY_ORDER = _BY_AXES | frozenset("flip logsumexp var std linalg_vector_norm".split())
_BOTH_WAYS = frozenset("add mul maximum minimum".split())
_PER_AXIS = ("kernel_size", "stride", "padding", "dilation", "output_padding", "output_size")
_UNREAD = frozenset({"view", "permute", "select", "slice"}) | _PARTS  # what can be left out where nothing reads it
_AXES = re.compile(r"[a-z]([123])d$")
_UNKNOWN = "?"
_PREVIOUS = -1  # the line that was made before, of one that is said by two
_MANY = 1 << 16


def one_spelling(lines: Sequence[Line]) -> list[Line]:
    """The same computation, each thing said in one way; what only hands on what it reads is left out."""
    kept: list[Line] = []  # with numbers of lines in the place of distances
    numbers: list[int | str] = []  # of each line among those that are kept, or what stands for it
    for index, line in enumerate(lines):
        line = replace(line, reads=tuple(absolute(read, index, numbers, _UNKNOWN) for read in line.reads))
        number: int | str = _UNKNOWN
        for said in _split(_simple(line)):
            said = said if said.reads != (_PREVIOUS,) else replace(said, reads=(number,))
            number = _place_of(_joined_up(said, kept), kept)
        numbers.append(number)
    return _without_unread(kept)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """The same lines in an order that follows from what reads what, and not from what the code runs first.

    A sum reads first what comes first by its kind and place, and so on down to the image.
    """
    reads = [[at + read if isinstance(read, int) else read for read in line.reads] for at, line in enumerate(lines)]
    keys: list[str] = []
    for line, read in zip(lines, reads, strict=True):
        below = [keys[part] if _is_before(part, len(keys)) else str(part) for part in read]
        if _is_symmetric(line):
            pairs = sorted(zip(below, read, strict=True), key=lambda pair: (pair[0], isinstance(pair[1], str), pair[1]))
            below, read[:] = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        text = "\n".join([line.stands_at, line.kind, *below])
        keys.append(hashlib.sha256(text.encode(errors="replace")).hexdigest())
    known = {part for read in reads for part in read}
    places: dict[int | str, int] = {}
    for root in (index for index in range(len(lines)) if index not in known):
        waiting = [root]
        while waiting:
            index = waiting[-1]
            missing = [part for part in reads[index] if _is_before(part, index) and part not in places]
            if missing:
                waiting.extend(reversed(missing))
            else:
                places.setdefault(waiting.pop(), len(places))
    found = sorted(places, key=places.__getitem__)
    return [
        replace(lines[index], reads=tuple(relative(places.get(part, part), places[index]) for part in reads[index]))
        for index in found
    ]


def _is_before(read: int | str, index: int) -> bool:
    return isinstance(read, int) and 0 <= read < index


def _is_symmetric(line: Line) -> bool:
    """Whether an op gives the same whichever of two tensors it reads first."""
    plain = line.told.get("alpha", "1") == "1" and not {SLOTS, CHANGED} & line.told.keys()
    return line.kind in _BOTH_WAYS and len(line.reads) == 2 and plain and sum(map(is_constant, line.told)) < 2


def without_added(lines: Iterable[Line]) -> list[Line]:
    """The lines as files of before have them."""
    return [replace(line, told={k: v for k, v in line.told.items() if k not in ADDED}) for line in lines]


def _place_of(line: Line | int | str, kept: list[Line]) -> int | str:
    """Where a line is put, or what stands for one that is left out."""
    if not isinstance(line, Line):
        return line
    kept.append(line)
    return len(kept) - 1


def _without_unread(kept: Sequence[Line]) -> list[Line]:
    read: set[int | str] = set()
    stays = [False] * len(kept)
    for index in range(len(kept) - 1, -1, -1):
        stays[index] = index in read or kept[index].kind not in _UNREAD
        if stays[index]:
            read.update(kept[index].reads)
    places: dict[int | str, int] = {}
    found: list[Line] = []
    for index, line in enumerate(kept):
        if stays[index]:
            places[index] = len(found)
            reads = [relative(places.get(number, number), len(found)) for number in line.reads]
            told = {key: value for key, value in line.told.items() if key not in (TAKES, GIVES)}
            found.append(replace(line, told=told, reads=tuple(reads)))
    return found


# one line by itself ---------------------------------------------------------------------------------------------


def _simple(line: Line) -> Line:
    """A line whose numbers are said in one way, and whose kind has one name."""
    takes = _sizes(line.told.get(TAKES))
    told = _per_axis(line.kind, dict(line.told))
    if takes is not None:
        told = _from_the_front(line.kind, told, takes)
    line = replace(line, told=told)
    for rule in (_clamped, _squared, _viewed, _turned):
        line = rule(line)
    return line


def _per_axis(kind: str, told: dict[str, str]) -> dict[str, str]:
    """A number for every axis of a layer or pool; a pool without a stride has its kernel's; words are numbers."""
    found = _AXES.search(kind)
    if found is None:
        return told
    axes = int(found[1])
    for key in _PER_AXIS:
        if key in told and re.fullmatch(r"\d+", told[key]):
            told[key] = ",".join([told[key]] * axes)
    if told.get("stride") == "":
        told["stride"] = told.get("kernel_size", "")
    if told.get("padding") == "valid":
        told["padding"] = ",".join(["0"] * axes)
    if told.get("padding") == "same":
        sizes, dilation = (_shape(told.get(key)) for key in ("kernel", "dilation"))
        if sizes and dilation and len(sizes) == len(dilation):
            both_sides = [by * (size - 1) for size, by in zip(sizes, dilation, strict=True)]
            if all(number % 2 == 0 for number in both_sides):  # else one side has more
                told["padding"] = ",".join(str(number // 2) for number in both_sides)
    return told


def _from_the_front(kind: str, told: dict[str, str], takes: Shape) -> dict[str, str]:
    """Axes counted from the first one, in order where that says nothing; an index and a cut from the beginning."""
    rank = len(takes) + (kind == "stack")
    for key in ("dim", "dims", "dim0", "dim1"):
        axes = _shape(told.get(key))
        if axes and all(-rank <= axis < rank for axis in axes):
            axes = tuple(axis % rank for axis in axes)
            told[key] = _text(sorted(axes) if kind in _ANY_ORDER else axes)
    axis = _number(told.get("dim"))
    if axis is None or not 0 <= axis < len(takes):
        return told
    size = takes[axis]
    if kind == "select" and (index := _number(told.get("index"))) is not None:
        told["index"] = str(index % size if size else index)
    if kind == "slice":
        start, end = _number(told.get("start", "0")), _number(told.get("end", str(size)))
        if start is not None and end is not None:
            told["start"], told["end"], _ = map(str, slice(start, end).indices(size))
    return told


def _clamped(line: Line) -> Line:
    """Limits of values under one name: ``relu``, ``relu6``, or ``clamp`` with floats."""
    both, one = ("min", "max"), {"clamp_min": ("min", ""), "clamp_max": ("", "max")}
    names = {"hardtanh": ("min_val", "max_val"), "clamp": both, "clip": both, **one}
    limits = [math.nan, math.nan]
    if line.kind in names:
        rest = dict(line.told)
        for side, key in enumerate(names[line.kind]):
            if key and key in rest:
                limits[side] = _float_of(rest.pop(key))
        if len(line.reads) != 1 or any(key not in ADDED for key in rest) or all(map(math.isnan, limits)):
            return line  # limits that are tensors, or nothing that is known
    elif line.kind == "threshold" and [_float_of(line.told.get(key)) for key in ("threshold", "value")] == [0, 0]:
        limits[0], rest = 0.0, {key: line.told[key] for key in ADDED if key in line.told}
    else:
        return line
    if limits[0] == 0 and math.isnan(limits[1]):
        return replace(line, kind="relu", told=rest)
    if limits == [0, 6]:
        return replace(line, kind="relu6", told=rest)
    said = {key: repr(limit) for key, limit in zip(("min", "max"), limits, strict=True) if not math.isnan(limit)}
    return replace(line, kind="clamp", told={**rest, **said})


def _squared(line: Line) -> Line:
    twice = line.kind == "mul" and len(line.reads) == 1 and "other" not in line.told  # a number is told
    if twice or (line.kind == "pow" and _float_of(line.told.get("exponent")) == 2 and len(line.reads) == 1):
        told = {key: value for key, value in line.told.items() if key not in (SLOTS, "exponent", "other")}
        return replace(line, kind="square", told=told)
    return line


def _viewed(line: Line) -> Line:
    if line.kind in VIEWS and len(line.reads) == 1 and TAKES in line.told and GIVES in line.told:
        rest = {key: line.told[key] for key in ADDED if key in line.told}
        return replace(line, kind="view", told={"size": line.told[GIVES], **rest})
    return line


def _turned(line: Line) -> Line:
    takes = _sizes(line.told.get(TAKES))
    if line.kind not in TURNS or takes is None or len(line.reads) != 1:
        return line
    axes = list(range(len(takes)))
    if line.kind == "permute":
        axes = list(_shape(line.told.get("dims")) or ())
    elif line.kind in ("t", "numpy_T"):
        axes.reverse()
    else:
        ends = [len(axes) - 2, len(axes) - 1] if line.kind == "mT" else []
        ends = ends or [_number(line.told.get(key)) for key in ("dim0", "dim1")]
        if any(end is None or not 0 <= end < len(axes) for end in ends):
            return line
        axes[ends[0]], axes[ends[1]] = axes[ends[1]], axes[ends[0]]
    rest = {key: line.told[key] for key in ADDED if key in line.told}
    return replace(line, kind="permute", told={"dims": _text(axes), **rest})


# one line said by two -------------------------------------------------------------------------------------------


def _split(line: Line) -> list[Line]:
    """A mean over all places that keeps its axes, and the view that drops them."""
    axes = int(found[1]) if (found := re.fullmatch(r"adaptive_avg_pool([23])d", line.kind)) else 0
    takes = _sizes(line.told.get(TAKES))
    rest = {key: line.told[key] for key in ADDED if key in line.told}
    if axes and line.told.get("output_size") == _text([1] * axes) and (takes is None or len(takes) == axes + 2):
        told = {"dim": _text(range(2, axes + 2)), "keepdim": "True", **rest}
        return [replace(line, kind="mean", told=told, whole=False)]
    dims = _shape(line.told.get("dim"))
    if line.kind not in _BY_AXES or line.told.get("keepdim") != "False" or takes is None or not dims:
        return [line]
    kept = _text([1 if axis in dims else size for axis, size in enumerate(takes)])
    left = _text([size for axis, size in enumerate(takes) if axis not in dims])
    summed = replace(line, told={**line.told, "keepdim": "True"})
    return [summed, Line(line.place, "view", {"size": left, TAKES: kept, GIVES: left}, (_PREVIOUS,))]


# lines together -------------------------------------------------------------------------------------------------


def _joined_up(line: Line, kept: Sequence[Line]) -> Line | int | str:
    """A line and what it reads said by one, or what it hands on unchanged."""
    rule = _TOGETHER.get(line.kind)
    return line if rule is None or len(line.reads) != 1 or CHANGED in line.told else rule(line, kept)


def _source(line: Line, kept: Sequence[Line]) -> Line | None:
    """The line that this one reads, where nothing was changed in place on the way."""
    source = kept[line.reads[0]] if len(line.reads) == 1 and isinstance(line.reads[0], int) else None
    return None if source is None or CHANGED in source.told or len(source.reads) != 1 else source


def _view(line: Line, kept: Sequence[Line]) -> Line | int | str:
    takes, gives = (_sizes(line.told.get(key)) for key in (TAKES, GIVES))
    if takes is None or gives is None:
        return line
    source = _source(line, kept)
    if source is not None and source.kind == "permute":
        return _shuffle(line, gives, source, kept)
    if source is not None and source.kind == "view" and (before := _sizes(source.told.get(TAKES))) is not None:
        line, takes = replace(line, reads=source.reads, told={**line.told, TAKES: _text(before)}), before
    return line.reads[0] if takes == gives else line


def _shuffle(line: Line, gives: Shape, turn: Line, kept: Sequence[Line]) -> Line:
    """Channels in groups, turned, and put back are a shuffle, by its number of groups."""
    first = _source(turn, kept)
    if first is None or first.kind != "view":
        return line
    axes, takes, grouped = _shape(turn.told.get("dims")), *(_sizes(first.told.get(key)) for key in (TAKES, GIVES))
    if takes != gives or not grouped or len(takes) < 3 or len(grouped) != len(takes) + 1 or not grouped[1]:
        return line
    as_shuffle = (takes[0], grouped[1], takes[1] // grouped[1], *takes[2:])
    if grouped != as_shuffle or axes != (0, 2, 1, *range(3, len(grouped))):
        return line
    return Line(line.place, "channel_shuffle", {"groups": str(grouped[1])}, first.reads)


def _permute(line: Line, kept: Sequence[Line]) -> Line | int | str:
    axes = _shape(line.told.get("dims"))
    return line.reads[0] if axes and list(axes) == list(range(len(axes))) else line


def _slice(line: Line, kept: Sequence[Line]) -> Line | int | str:
    takes, axis = _sizes(line.told.get(TAKES)), _number(line.told.get("dim"))
    if takes is None or axis is None or not 0 <= axis < len(takes):
        return line
    cut = tuple(line.told.get(key) for key in ("start", "end", "step"))
    return line.reads[0] if cut == ("0", str(takes[axis]), "1") else line


def _pad(line: Line, kept: Sequence[Line]) -> Line | int | str:
    sizes = _shape(line.told.get("pad"))
    return line.reads[0] if sizes and not any(sizes) else line


def _getitem(line: Line, kept: Sequence[Line]) -> Line | int | str:
    """A part of what was cut into parts, as the cut that it is."""
    source, index = _source(line, kept), _number(line.told.get("index"))
    if source is None or source.kind not in _PARTS or index is None:
        return line
    takes, axis = _sizes(source.told.get(TAKES)), _number(source.told.get("dim", "0"))
    if takes is None or axis is None or not 0 <= axis < len(takes):
        return line
    size = takes[axis]
    lengths = [1] * size if source.kind == "unbind" and size < _MANY else _lengths(source.kind, source.told, size)
    if not -len(lengths) <= index < len(lengths):
        return line
    index %= len(lengths)
    if source.kind == "unbind":
        return Line(line.place, "select", {"dim": str(axis), "index": str(index)}, source.reads)
    start = sum(lengths[:index])
    ends = {"start": str(start), "end": str(min(start + lengths[index], size))}
    told = {"dim": str(axis), **ends, "step": "1", TAKES: _text(takes)}
    return _slice(Line(line.place, "slice", told, source.reads), kept)


def _lengths(kind: str, told: Mapping[str, str], size: int) -> Sequence[int]:
    if kind == "chunk":
        chunks = _number(told.get("chunks")) or 0
        length = -(-size // chunks) if chunks > 0 else 0
    else:
        lengths = _sizes(told.get("split_size", told.get("split_sizes"))) or ()
        if len(lengths) != 1:
            return lengths
        length = lengths[0]
    return [length] * -(-size // length) if length > 0 and size < _MANY else ()


_TOGETHER: Mapping[str, Callable[[Line, Sequence[Line]], Line | int | str]] = {
    "view": _view,
    "permute": _permute,
    "slice": _slice,
    "pad": _pad,
    "getitem": _getitem,
}


# words ----------------------------------------------------------------------------------------------------------


def _shape(text: str | None) -> Shape | None:
    """Whole numbers of a word; None for anything else."""
    if text is None or not re.fullmatch(r"-?\d{1,19}(,-?\d{1,19}){0,99}", text):
        return None
    return tuple(map(int, text.split(",")))


def _sizes(text: str | None) -> Shape | None:
    found = _shape(text)
    return None if found is None or min(found) < 0 else found


def _number(text: str | None) -> int | None:
    found = _shape(text)
    return found[0] if found and len(found) == 1 else None


def _float_of(text: str | None) -> float:
    try:
        return float(text if text is not None else "nan")
    except ValueError:
        return math.nan


def _text(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))
