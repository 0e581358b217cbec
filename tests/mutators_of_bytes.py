"""Damaged forms of a file, drawn from a seed: what every reader of the project has to refuse, or to read, in one piece.

``mutations(whole, rng, n)`` gives ``n`` of them. They are of any kind of file: cut, flipped, spliced, in another
encoding; and of text with values in it (JSON, YAML): other types, huge numbers, deep nesting, lines doubled or lost.
"""

from __future__ import annotations

import gzip
import pickle
import re
from collections.abc import Callable, Iterator

import numpy as np

# What stands where a value was. Numbers that no float or int64 holds, words of YAML, tags that would run code.
_WORDS = (
    b"null true false 0 -1 1e300 -1e300 1e999 NaN -Infinity .inf .nan 0x10 1_000 0o17 12:30:45 1e-320 "
    b'"" "x" "NaN" [] {} [[]] [null] {"a":1} 9223372036854775808 -9223372036854775809 !!python/object:os.system '
    b"&a *a ~ 2026-01-01 yes 1.5 [1,2] \xff\xfe \x00"
)
VALUES = (*_WORDS.split(b" "), b"9" * 5000, b'"' + b"x" * 3000 + b'"', b"[" * 200 + b"]" * 200)

_SCALAR = re.compile(rb'"[^"\n]{0,80}"|-?\d[\d.eE+-]*|\b(?:true|false|null)\b|(?<=: )[A-Za-z_][^\s,}\]]*')
_PUNCTUATION = b"{}[]:,\"'\n-&*!#|>%@`\t \\"


def mutations(whole: bytes, rng: np.random.Generator, n: int) -> Iterator[bytes]:
    """``n`` damaged forms of ``whole``, each different from it; the same ones for the same ``rng``.

    Args:
        whole: A file that its reader takes.
        rng: What is drawn, and in which order.
        n: How many.
    """
    given = 0
    for _ in range(20 * n + 100):
        if given == n:
            return
        damaged = whole
        for _ in range(1 + int(rng.integers(4) == 0) * int(rng.integers(1, 4))):  # most of them have one fault
            damaged = _KINDS[int(rng.integers(len(_KINDS)))](damaged, rng)
        if damaged != whole:
            given += 1
            yield damaged


def hopeless() -> dict[str, bytes]:
    """Files that are of no kind that a reader knows, by what they are."""
    return {
        "empty": b"",
        "zeros": bytes(4096),
        "noise": np.random.default_rng(0).bytes(4096),
        "blanks": b" \n\t\n" * 100,
        "null": b"null",
        "number": b"42",
        "huge number": b"9" * 100_000,
        "infinity": b"1e999",
        "text": b"hello: [world",
        "list": b"[1, 2, 3]",
        "deep list": b"[" * 100_000 + b"]" * 100_000,
        "deep mapping": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "utf-16": '{"format": "x"}'.encode("utf-16"),
        "byte-order mark alone": b"\xef\xbb\xbf",
        "gzip": gzip.compress(b"{}", mtime=0),
        "pickle": pickle.dumps({"format": "x", "rows": [1, 2]}),
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "one long line": b"x" * 1_000_000,
        "many lines": b"{}\n" * 100_000,
        "aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(
            f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n".encode()
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    }


# kinds of damage ----------------------------------------------------------------------------------------------


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def _cut_the_front(data: bytes, rng: np.random.Generator) -> bytes:
    return data[int(rng.integers(len(data) + 1)) :]


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    if not data:
        return b"\x01"
    damaged = bytearray(data)
    for place in rng.integers(len(data), size=int(rng.integers(1, 9))):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _overwrite(data: bytes, rng: np.random.Generator) -> bytes:
    start, size = int(rng.integers(len(data) + 1)), int(rng.integers(1, 65))
    filler = (bytes(size), b"\xff" * size, rng.bytes(size))[int(rng.integers(3))]
    return data[:start] + filler + data[start + size :]


def _punctuate(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data) + 1))
    mark = _PUNCTUATION[int(rng.integers(len(_PUNCTUATION)))]
    return data[:start] + bytes([mark]) + data[start + int(rng.integers(2)) :]


def _remove(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _range(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 4)) + data[end:]


def _splice(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _range(data, rng)
    place = int(rng.integers(len(data) + 1))
    return data[:place] + data[start:end] + data[place:]


def _lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Lines doubled, lost or in another order."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data + b"\n"
    here, there = (int(place) for place in rng.integers(len(lines), size=2))
    what = int(rng.integers(4))
    if what == 0:
        lines.insert(there, lines[here])
    elif what == 1:
        lines[here], lines[there] = lines[there], lines[here]
    elif what == 2:
        del lines[here]
    else:
        lines[here] = b"  " + lines[here]
    return b"".join(lines)


def _swap_value(data: bytes, rng: np.random.Generator) -> bytes:
    """A value of another type or size where one was; a key too, as it looks the same."""
    found = list(_SCALAR.finditer(data))
    if not found:
        return data
    at = found[int(rng.integers(len(found)))]
    return data[: at.start()] + VALUES[int(rng.integers(len(VALUES)))] + data[at.end() :]


def _exchange_values(data: bytes, rng: np.random.Generator) -> bytes:
    """Two values of the file in each other's place."""
    found = list(_SCALAR.finditer(data))
    if len(found) < 2:
        return data
    first, second = sorted(int(place) for place in rng.choice(len(found), 2, replace=False))
    a, b = found[first], found[second]
    return data[: a.start()] + b.group() + data[a.end() : b.start()] + a.group() + data[b.end() :]


def _nest(data: bytes, rng: np.random.Generator) -> bytes:
    """A value within so many lists or mappings."""
    found = list(_SCALAR.finditer(data))
    at = found[int(rng.integers(len(found)))] if found else None
    start, end = (at.start(), at.end()) if at else (0, len(data))
    depth = int(rng.choice([1, 2, 30, 2000, 100_000]))
    before, after = ((b"[", b"]"), (b'{"a":', b"}"))[int(rng.integers(2))]
    return data[:start] + before * depth + data[start:end] + after * depth + data[end:]


def _encode(data: bytes, rng: np.random.Generator) -> bytes:
    text = data.decode("latin-1")
    how = ("utf-8-sig", "utf-16", "utf-32", "cp037")[int(rng.integers(4))]
    return text.encode(how, errors="replace")


def _end_lines(data: bytes, rng: np.random.Generator) -> bytes:
    return data.replace(b"\n", (b"\r\n", b"\r", b"\xe2\x80\xa8", b"\x00")[int(rng.integers(4))])


def _range(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(data) + 1))
    return start, min(len(data), start + int(rng.choice([1, 2, 8, 64, 1024])))


_KINDS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    _cut, _cut_the_front, _flip, _flip, _overwrite, _punctuate, _remove, _repeat, _splice, _lines, _swap_value,
    _swap_value, _swap_value, _exchange_values, _nest, _encode, _end_lines,
)  # fmt: skip
