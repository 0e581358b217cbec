"""A look at a pickle before it is read: how many steps it takes, and how deep its tuples are.

``torch.load(weights_only=True)`` runs nothing that is not on a list, but it does not count: a pickle of a few megabytes
keeps it busy for minutes, and the hash of a tuple of 10^5 tuples ends the process.
"""

from __future__ import annotations

from typing import Any

MAX_PICKLE = 64 << 20  # bytes
MAX_STEPS = 1_500_000  # a tensor takes about 50
MAX_TUPLES = 1000  # in each other

# What torch's reader knows, from its protocol 2: bytes of the argument of what puts a value without a depth.
_LEAVES = {ord(key): size for key, size in (("N", 0), (")", 0), ("]", 0), ("}", 0), ("J", 4), ("K", 1), ("M", 2))}
_LEAVES |= {ord("G"): 8, 0x88: 0, 0x89: 0, 0x8F: 0}
_TEXTS = {ord("X"): 4, ord("U"): 1, 0x8A: 1}  # bytes of the length in front
_MARK, _TUPLE, _TUPLES = ord("("), ord("t"), {0x85: 1, 0x86: 2, 0x87: 3}
_GETS, _PUTS = {ord("h"): 1, ord("j"): 4}, {ord("q"): 1, ord("r"): 4}
_TO_MARK, _POPS = (ord("e"), ord("u")), {ord("a"): 1, ord("s"): 2, ord("b"): 1}
_REDUCE, _NEWOBJ, _PERSID = ord("R"), 0x81, ord("Q")
_GLOBAL, _PROTO, _STOP = ord("c"), 0x80, ord(".")


class PickleLimit(Exception):
    """A pickle goes beyond a limit; the text says which, to follow 'it has'."""


def check_pickle(data: Any, start: int = 0) -> int:
    """Follow a pickle from ``start``, without making what it describes.

    Args:
        data: Bytes, or a mapped file.

    Returns:
        Where it ends. What is no pickle that torch reads ends at the first wrong step: torch tells what is wrong.

    Raises:
        PickleLimit: Too many steps, or tuples too deep.
    """
    try:
        return _follow(data, start)
    except (IndexError, KeyError, ValueError):
        return len(data)


def _follow(data: Any, at: int) -> int:
    stack: list[int] = []  # how deep the tuples are in each value; lists and dicts have no hash, so they end a chain
    marks: list[int] = []
    memo: dict[int, int] = {}
    for _ in range(MAX_STEPS):
        op = data[at]
        at += 1
        if op in _LEAVES:
            stack.append(0)
            at += _LEAVES[op]
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
            at += size + int.from_bytes(data[at : at + size], "little")
            stack.append(0)
        elif op == _MARK:
            marks.append(len(stack))
        elif op == _TUPLE or op in _TUPLES:
            first = marks.pop() if op == _TUPLE else len(stack) - _TUPLES[op]
            depth = max(stack[first:], default=0) + 1
            if depth > MAX_TUPLES:
                raise PickleLimit(f"tuples more than {MAX_TUPLES} deep")
            stack[first:] = [depth]
        elif op in _TO_MARK:
            del stack[marks.pop() :]
        elif op in _POPS:
            del stack[-_POPS[op] :]
        elif op in (_REDUCE, _PERSID):
            del stack[-2 if op == _REDUCE else -1 :]
            stack.append(0)
        elif op == _NEWOBJ:
            stack[-2:] = [0]
        elif op == _GLOBAL:
            at = data.index(b"\n", data.index(b"\n", at) + 1) + 1 if isinstance(data, bytes) else _after_lines(data, at)
            stack.append(0)
        elif op == _PROTO:
            at += 1
        elif op == _STOP:
            return at
        else:
            return len(data)
    raise PickleLimit(f"a pickle of more than {MAX_STEPS:,} steps")


def _after_lines(data: Any, at: int) -> int:
    """Behind the two lines of a mapped file that name a global."""
    for _ in range(2):
        at = data.find(b"\n", at) + 1
        if at == 0:
            raise ValueError("no end of line")
    return at
