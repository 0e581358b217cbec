"""A look at a pickle before it is read: how many steps it takes, how deep its tuples are, which bytes it asks for.

``torch.load(weights_only=True)`` runs nothing that is not on a list, but it does not count: a pickle of a few megabytes
keeps it busy for minutes, the hash of a tuple of 10^5 tuples ends the process, and torch 2.6 takes a record of fewer
bytes than the pickle says for as many as it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_PICKLE = 64 << 20  # bytes
MAX_STEPS = 1_500_000  # a tensor takes about 50
MAX_TUPLES = 1000  # in each other
MAX_ITEMS = 500_000  # keys and values of all dicts and lists

# What torch's reader knows, from its protocol 2: bytes of the argument of what puts a value without a depth.
_LEAVES = {ord(key): 0 for key in "N)]}"} | {ord("G"): 8, 0x88: 0, 0x89: 0, 0x8F: 0}
_NUMBERS = {ord("J"): 4, ord("K"): 1, ord("M"): 2}
_TEXTS = {ord("X"): 4, ord("U"): 1}  # bytes of the length in front
_LONG = 0x8A  # the same, of one byte
_SHORT = 64  # bytes of a text that may be the name of a record
_MARK, _TUPLE, _TUPLES = ord("("), ord("t"), {0x85: 1, 0x86: 2, 0x87: 3}
_GETS, _PUTS = {ord("h"): 1, ord("j"): 4}, {ord("q"): 1, ord("r"): 4}
_TO_MARK, _POPS = (ord("e"), ord("u")), {ord("a"): 1, ord("s"): 2, ord("b"): 1}
_DICT = (ord("u"), ord("s"))  # two values, one item
_REDUCE, _NEWOBJ, _PERSID = ord("R"), 0x81, ord("Q")
_GLOBAL, _PROTO, _STOP = ord("c"), 0x80, ord(".")

# Bytes of an element, by the kinds of storages that torch writes.
_KINDS = {8: "Double Long ComplexFloat", 4: "Float Int QInt32", 2: "Half BFloat16 Short", 16: "ComplexDouble"}
_KINDS[1] = "Char Byte Bool QUInt8 QInt8 QUInt4x2 QUInt2x4 Untyped"
_BYTES = {f"torch\n{name}Storage".encode(): size for size, names in _KINDS.items() for name in names.split()}
_BYTES[b"torch.storage\nUntypedStorage"] = 1


class PickleLimit(Exception):
    """A pickle goes beyond a limit; the text says which, to follow 'it has'."""


@dataclass(frozen=True)
class Storage:
    """Memory that a pickle asks for: the name of its record, and how many bytes are to be in there."""

    key: str
    size: int


def check_pickle(data: Any, start: int = 0, storages: list[Storage] | None = None) -> int:
    """Follow a pickle from ``start``, without making what it describes.

    Args:
        data: Bytes, or a mapped file.
        start: Where it begins.
        storages: Gets all that it asks for, of the pickle of an archive.

    Returns:
        Where it ends. What is no pickle that torch reads ends at the first wrong step: torch tells what is wrong.

    Raises:
        PickleLimit: Too many steps or items, tuples too deep, or a storage that is not described as torch does it.
    """
    try:
        return _follow(data, start, storages)
    except (IndexError, KeyError, ValueError):
        return len(data)


def _follow(data: Any, at: int, storages: list[Storage] | None) -> int:
    # Of each value: how deep its tuples are; lists and dicts have no hash, so they end a chain. Or what may be part of
    # the description of a storage: a text or a global as bytes, a number as a tuple of one, and all five as a list.
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    items = 0
    for _ in range(MAX_STEPS):
        op = data[at]
        at += 1
        if op in _LEAVES:
            stack.append(0)
            at += _LEAVES[op]
        elif op in _NUMBERS:
            size = _NUMBERS[op]
            stack.append((int.from_bytes(data[at : at + size], "little"),))
            at += size
        elif op in _PUTS:
            size = _PUTS[op]
            memo[int.from_bytes(data[at : at + size], "little")] = stack[-1]
            at += size
        elif op in _GETS:
            size = _GETS[op]
            stack.append(memo[int.from_bytes(data[at : at + size], "little")])
            at += size
        elif op in _TEXTS:
            size = _TEXTS[op]
            length = int.from_bytes(data[at : at + size], "little")
            at += size + length
            stack.append(data[at - length : at] if length < _SHORT else 0)
        elif op == _LONG:
            length = data[at]
            at += 1 + length
            stack.append((int.from_bytes(data[at - length : at], "little"),))
        elif op == _MARK:
            marks.append(len(stack))
        elif op == _TUPLE or op in _TUPLES:
            first = marks.pop() if op == _TUPLE else len(stack) - _TUPLES[op]
            stack[first:] = [_tuple(stack[first:])]
        elif op in _TO_MARK or op in _POPS:
            first = marks.pop() if op in _TO_MARK else len(stack) - _POPS[op]
            items += (len(stack) - first) // (2 if op in _DICT else 1)
            if items > MAX_ITEMS:
                raise PickleLimit(f"more than {MAX_ITEMS:,} entries")
            del stack[first:]
        elif op == _REDUCE:
            stack[-2:] = [0]
        elif op == _PERSID:
            if storages is not None:
                storages.append(_storage(stack[-1]))
            stack[-1] = 0
        elif op == _NEWOBJ:
            stack[-2:] = [0]
        elif op == _GLOBAL:
            end = _after_lines(data, at)
            stack.append(data[at : end - 1] if end - at < _SHORT else 0)
            at = end
        elif op == _PROTO:
            at += 1
        elif op == _STOP:
            return at
        else:
            return len(data)
    raise PickleLimit(f"a pickle of more than {MAX_STEPS:,} steps")


def _tuple(values: Sequence[Any]) -> Any:
    """How deep a tuple is; or the tuple, where it may describe a storage: kind, class, name, device, elements."""
    if len(values) == 5 and values[0] == b"storage" and all(type(value) in (bytes, tuple) for value in values):
        return list(values)
    depth = 1 + max((1 if type(value) is list else value for value in values if type(value) in (int, list)), default=0)
    if depth > MAX_TUPLES:
        raise PickleLimit(f"tuples more than {MAX_TUPLES} deep")
    return depth


def _storage(value: Any) -> Storage:
    if type(value) is list:
        _, kind, key, _, number = value
        if kind in _BYTES and type(key) is bytes and type(number) is tuple:
            return Storage(key.decode("utf-8", "replace"), number[0] * _BYTES[kind])
    raise PickleLimit("a tensor that is not described as torch does it")


def _after_lines(data: Any, at: int) -> int:
    """Behind the two lines that name a global."""
    for _ in range(2):
        at = data.find(b"\n", at) + 1
        if at == 0:
            raise ValueError("no end of line")
    return at
