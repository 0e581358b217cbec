"""A line of what a network computes, taken apart; see :mod:`~mmrazor_lite.graph.computation`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .layers.record import LAYER_KINDS, LayerKind
from .opaque import OPAQUE

IMAGE = "image"
OUTPUT = "output"
CHOICE = "choice"
WIDTHS = "widths"
CONSTANT = "values"
SLOTS = "slots"  # where an op takes which of the tensors that it reads, if their order does not say it
WHOLE = "whole_map"  # of a pool over all places, and a division by their number: both follow the size of images
TAKES, GIVES = "takes", "gives"  # shapes, by which one spelling is told from another
CHANGED = "changed"  # of the tensors that an op reads: in place, after they were made
ADDED = (TAKES, GIVES, CHANGED)  # what files of before lack
NUMBER = re.compile(r"-?[0-9]{1,7}")
_WITH_STATISTICS = frozenset({"batch_norm", "instance_norm"})


@dataclass(frozen=True)
class Line:
    """A line, taken apart: ``reads`` are numbers of lines, or names of tensors."""

    place: str
    kind: str
    told: Mapping[str, str]
    reads: tuple[int | str, ...]
    whole: bool = False

    @property
    def stands_at(self) -> str:
        """The place, where it says which tensors the op has; what holds none may stand in any module."""
        return self.place if layer_kind(self.kind) or self.kind in (OPAQUE, CHOICE, WIDTHS, OUTPUT) else ""

    def written(self) -> str:
        """As text, without the place of an op that may stand anywhere."""
        words = [self.kind, *(f"{key.rstrip(chr(39))}={value}" for key, value in self.told.items())]
        words += [f"{WHOLE}=True"] * self.whole
        return "\t".join((self.stands_at, " ".join(words), ",".join(map(str, self.reads))))


def parsed(line: str) -> Line:
    """Take a line apart.

    Raises:
        ValueError: It has not three parts.
    """
    place, words, reads = line.split("\t")
    kind, *told_words = words.split(" ")
    told: dict[str, str] = {}
    for word in told_words:
        key, _, value = word.partition("=")
        while key in told and is_constant(key):  # of another tensor
            key += "'"
        told[key] = value
    whole = told.pop(WHOLE, None) is not None
    if kind in _WITH_STATISTICS:  # of a network inside a classifier, files of before say them as if they were constants
        told.pop(CONSTANT, None)
    read = tuple(int(word) if NUMBER.fullmatch(word) else word for word in reads.split(",") if word)
    return Line(place, kind, told, read, whole)


def is_constant(key: str) -> bool:
    """Whether this says the values of a constant that an op reads."""
    return key.rstrip("'") == CONSTANT


def layer_kind(op: str) -> LayerKind | None:
    """The kind of layer that an op is the call of, wherever it stands; None for an op that is also used otherwise."""
    kind = LAYER_KINDS.of_op(op)
    return kind if kind is not None and kind.rows is not None else None


def relative(read: int | str, count: int) -> int | str:
    """What is read, as line ``count`` says it: by how many lines it stands before."""
    return read - count if isinstance(read, int) else read


def absolute(read: int | str, index: int, numbers: Sequence[int | str], unknown: str = IMAGE) -> int | str:
    """What stands now for what line ``index`` reads: ``numbers`` says it of all lines before."""
    if not isinstance(read, int):
        return read
    place = index + read
    return numbers[place] if 0 <= place < len(numbers) else unknown
