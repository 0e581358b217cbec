"""Uniform widths: subnets that keep the same share of every layer, named by one number instead of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.said import check_found
from mmrazor_lite.plain_data import plain
from mmrazor_lite.subnet import Subnet, parse_document, read_subnet

Entry = str | float | Mapping[str, Any]  # of ``channel_cfg``: a file, a uniform width, or the content of a file


def is_width(entry: Any) -> bool:
    """Whether an entry of ``channel_cfg`` is a uniform width, not a file."""
    return isinstance(entry, int | float) and not isinstance(entry, bool)


def parse_entry(text: str) -> float | str:
    """A subnet as a command line names it: the width that ``text`` is a number of, else the file."""
    try:
        return float(text)
    except ValueError:
        return text


def check_width(value: Any, key: str) -> None:
    """Raise ``UserError`` unless ``value`` is a share of the full width."""
    if not is_width(value) or not 0 < value <= 1:
        raise UserError(f"{key}: {value!r} is no uniform width; give a share of the full one, above 0 and at most 1")


def check_range(value: Any, key: str) -> None:
    """Raise ``UserError`` unless ``value`` is the two ends of a range of widths."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise UserError(f"{key}={value!r}: give the smallest and the largest width, such as (0.25, 1.0)")
    for end in value:
        check_width(end, key)
    if not value[0] < value[1]:
        raise UserError(f"{key}={value!r}: the smallest width comes first, and is below the largest")


def subnet_of(entry: Entry, mutator: Any) -> Subnet:
    """The subnet of a file, of its content, or of a uniform width, in the space of ``mutator``."""
    if is_width(entry):
        return mutator.uniform(entry)
    if isinstance(entry, Mapping):
        where = "algorithm.channel_cfg"
        found = parse_document(plain(entry), mutator.search_space, where)
    else:
        where, found = str(entry), read_subnet(entry, mutator.search_space)
    check_found(found, mutator, where)
    return found.subnet


def names_of(entries: Sequence[Entry]) -> list[str]:
    """What logs and metrics call them: ``width_0.75``, and a file by its place in the list, ``subnet_2``."""
    return [
        f"width_{entry:g}" if is_width(entry) else f"subnet_{number}" for number, entry in enumerate(entries, start=1)
    ]
