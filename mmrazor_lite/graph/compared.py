"""What a file's network computes, compared with the network that is here: the first place where they differ.

Lines are those of :mod:`~mmrazor_lite.graph.computation`, and may come from a file of anybody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmrazor_lite.errors import UserError

from .computation import FORM
from .computation_line import CHANGED, CONSTANT, SLOTS, Line, absolute, is_constant, layer_kind, parsed, relative
from .flop_rules import ACTIVATIONS
from .opaque import OPAQUE
from .spellings import in_order, one_spelling, without_added

MAX_LINES = 200_000
# What stays the same at other sizes of images; views, pads and tables do not.
_ANY_SIZE = ACTIVATIONS | frozenset(
    "add sub mul div cat mean relu6 hardtanh hardswish hardsigmoid silu gelu sigmoid tanh softmax mish softplus "
    "matmul bmm scaled_dot_product_attention opaque choice max_pool2d avg_pool2d adaptive_avg_pool2d "
    "adaptive_max_pool2d channel_shuffle pixel_shuffle pixel_unshuffle transpose permute abs clamp clamp_min clamp_max "
    "pow square exp log sqrt rsqrt neg reciprocal sin cos where maximum minimum sum amax amin var std logsumexp "
    "linalg_vector_norm flip".split()
)
_OF_A_MAP = ("kernel_size", "stride", "padding", "other", "ceil_mode")


def difference(
    theirs: Any, mine: Mapping[str, Any], where: str, part: str | None = None, other_classes: bool = False
) -> str | None:
    """What a file's network computes otherwise than the one of the config, in words; None where it is the same.

    At another size of images, for other classes or with another release of torch, only what does not depend on that is
    compared.

    Args:
        theirs: A :func:`document` of a file.
        mine: The one of this network.
        where: Names the file in errors.
        part: Compare what is in this module only.
        other_classes: They may tell other numbers of classes apart.

    Raises:
        UserError: ``theirs`` is no such document.
    """
    form, release = (_checked(theirs, where).get(key) for key in ("form", "torch"))
    same_size = list(theirs["input_shape"]) == list(mine["input_shape"])
    sides = [[_parsed(line, where) for line in side["lines"]] for side in (theirs, mine)]
    if form is None:  # a file of before
        sides = [without_added(side) for side in sides]
    sides = [one_spelling(side) for side in sides]
    if release != mine["torch"] or form not in (None, FORM):
        return _first_difference(
            *([replace(line, reads=()) for line in side if layer_kind(line.kind)] for side in sides)
        )
    any_size = bool(not same_size or part or other_classes)
    sides = [_of_any_size(side) for side in sides] if any_size else sides

    def told(theirs: list[Line], mine: list[Line]) -> str | None:
        found = _without_whole_maps(theirs, mine) if any_size else [theirs, mine]
        if other_classes:  # what nobody looks into may be the classifier
            found = [[replace(line, told={}) if line.kind == OPAQUE else line for line in side] for side in found]
        if part:  # what it reads is outside of it
            inside = [[line for line in side if f"{line.place}.".startswith(f"{part}.")] for side in found]
            found = [[replace(line, reads=()) for line in side] for side in inside]
        return _first_difference(*found)

    # What is read from outside decides about the order, so a part is compared in that of the code.
    return None if not part and told(*map(in_order, sides)) is None else told(*sides)


def _checked(value: Any, where: str) -> Mapping[str, Any]:
    lines = value.get("lines") if isinstance(value, Mapping) else None
    good = isinstance(lines, (list, tuple)) and len(lines) <= MAX_LINES and all(isinstance(line, str) for line in lines)
    if not good or not isinstance(value.get("torch"), str) or not isinstance(value.get("input_shape"), (list, tuple)):
        raise UserError(f"{where}: its description of what the network computes is damaged; copy or write it again")
    return value


def _parsed(line: str, where: str) -> Line:
    try:
        return parsed(line)
    except ValueError:
        raise UserError(
            f"{where}: its description of what the network computes is damaged; copy or write it again"
        ) from None


def _of_any_size(lines: Sequence[Line]) -> list[Line]:
    """The lines that do not depend on the size of images; what is left out hands on what it read first."""
    kept: list[Line] = []
    numbers: list[int | str] = []  # of each line among those that are kept, or what stands for it
    for index, line in enumerate(lines):
        reads = [absolute(read, index, numbers) for read in line.reads]
        steps = line.kind == "slice" and line.told.get("step", "1") != "1"
        if line.kind in _ANY_SIZE or layer_kind(line.kind) or steps:
            fixed = not line.kind.startswith("adaptive")
            told = {
                key: value
                for key, value in line.told.items()
                if not (is_constant(key) or (fixed and key == "output_size") or (steps and key in ("start", "end")))
            }
            shown = tuple(relative(read, len(kept)) for read in reads)
            numbers.append(len(kept))
            reads = tuple(read for read in shown if read != CONSTANT)
            kept.append(Line(line.place, line.kind, told, reads, line.whole))
        else:
            numbers.append(reads[0] if reads else CONSTANT)
    return kept


def _without_whole_maps(theirs: list[Line], mine: list[Line]) -> list[list[Line]]:
    """Leave out the numbers that follow the size of images on both sides; a pool of a fixed size keeps its own."""
    sides = [theirs, mine]
    for index, pair in enumerate(zip(theirs, mine, strict=False)):
        if all(line.whole for line in pair):
            for side, line in zip(sides, pair, strict=True):
                told = {key: value for key, value in line.told.items() if key not in _OF_A_MAP}
                side[index] = Line(line.place, line.kind, told, line.reads)
    return sides


def _first_difference(theirs: Sequence[Line], mine: Sequence[Line]) -> str | None:
    first = next((i for i, pair in enumerate(zip(theirs, mine, strict=False)) if not _same(*pair)), None)
    if first is None:
        if len(theirs) == len(mine):
            return None
        first = min(len(theirs), len(mine))
    here = [line for side in (theirs, mine) for line in side[first : first + 1]]
    if len(here) == 2 and _same_op(*here) and here[0].stands_at == here[1].stands_at:
        reads = [_sources(side, first) for side in (theirs, mine)]
        return f"{_title(here[1].place)}: {here[1].kind} reads {reads[0]} in the file, {reads[1]} in the config"
    groups = [_by_place(side) for side in (theirs, mine)]
    both = {place: [group.get(place, []) for group in groups] for place in {**groups[1], **groups[0]}}
    places = [place for place, sides in both.items() if not _same_ops(*sides)]
    # Ops without tensors may stand in other modules: such a difference alone is none.
    at = next((line.place for line in reversed(here) if line.place in places), None)
    if len(theirs) == len(mine):
        places = [*{there.place for there, here in zip(theirs, mine, strict=True) if not _same(there, here)}]
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    if at is None:
        return _worded(here[-1].place, theirs[first : first + 1], mine[first : first + 1])
    return _worded(at, *both[at]) + more


def _by_place(lines: Iterable[Line]) -> dict[str, list[Line]]:
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.place, []).append(line)
    return groups


def _same(a: Line, b: Line) -> bool:
    return a.stands_at == b.stands_at and a.reads == b.reads and _same_op(a, b)


def _same_op(a: Line, b: Line) -> bool:
    return a.kind == b.kind and not _differing(a, b)


def _same_ops(a: Sequence[Line], b: Sequence[Line]) -> bool:
    return len(a) == len(b) and all(map(_same_op, a, b))


def _differing(a: Line, b: Line) -> list[str]:
    keys = {**a.told, **b.told}
    return [key for key in keys if not _equal(key, a.told.get(key), b.told.get(key))]


def _equal(key: str, a: str | None, b: str | None) -> bool:
    if a is None or b is None:  # files of before do not say the order, nor constants that are made on the way
        return a == b or key == SLOTS or is_constant(key)
    pairs = list(zip(a.split(","), b.split(","), strict=False))
    return a.count(",") == b.count(",") and all(_close(x, y, 1e-6 if is_constant(key) else 0.0) for x, y in pairs)


def _close(a: str, b: str, absolute: float) -> bool:
    try:
        is_float = "." in a + b or "e" in a + b
        return a == b or (is_float and math.isclose(float(a), float(b), rel_tol=1e-4, abs_tol=absolute))
    except ValueError:
        return False


def _worded(place: str, theirs: Sequence[Line], mine: Sequence[Line]) -> str:
    if [line.kind for line in theirs] == [line.kind for line in mine]:
        for there, here in zip(theirs, mine, strict=True):
            for key in _differing(there, here):
                if key == SLOTS:
                    return f"{_title(place)}: {here.kind} takes what it reads in another order"
                values = [_tuple(line.told.get(key)) for line in (there, here)]
                return f"{_title(place)}: {_word(key)} {values[0]} in the file, {values[1]} in the config"
    kinds = [", ".join(line.kind for line in lines)[:120] or "nothing" for lines in (theirs, mine)]
    return f"{_title(place)}: {kinds[0]} in the file, {kinds[1]} in the config"


def _title(place: str) -> str:
    return f"layer {place[:120]}" if place else "the network itself"


def _word(key: str) -> str:
    words = {"kernel_size": "kernel", "negative_slope": "slope", CHANGED: "what it reads is changed in place"}
    return "a constant" if is_constant(key) else words.get(key, key)


def _tuple(value: str | None) -> str:
    if value is None:
        return "not given"
    shown = value.replace(",", ", ") if len(value) < 80 else f"{value[:77]}..."
    return f"({shown})" if "," in value else shown


def _sources(lines: Sequence[Line], index: int) -> str:
    found = []
    for read in lines[index].reads:
        place = index + read if isinstance(read, int) else -1
        found.append((lines[place].place or lines[place].kind) if 0 <= place < len(lines) else str(read))
    return " and ".join(found)[:160] or "nothing"
