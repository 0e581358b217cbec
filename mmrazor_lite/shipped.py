"""The configs that come with the package: in a clone beside it, in an installed package inside it, by one name.

``mmrazor_lite::configs/pruning/autoslim/autoslim_supernet_digits.py`` is the same file in both, from any folder.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError, nearest

PREFIX = "mmrazor_lite::"
_HERE = Path(__file__).resolve().parent
INSTALLED = (_HERE / "configs").is_dir()
CONFIGS = _HERE / "configs" if INSTALLED else _HERE.parent / "configs"
_SUFFIXES = (".py", ".yaml")


def is_named(text: Any) -> bool:
    """Whether a text is the name of a file that comes with the package."""
    return isinstance(text, str) and text.startswith(PREFIX)


def find(name: str) -> str:
    """Return the path of ``mmrazor_lite::configs/PATH``; ``configs/`` may be left out, as in names of mmpretrain's.

    Raises:
        UserError: There is no such file.
    """
    asked = name.removeprefix(PREFIX).removeprefix("configs/")
    if _is_file(asked):
        return str(CONFIGS / asked)
    raise UserError(f"'{name}' does not come with this package{_near(asked)}; 'mmrazor-lite configs' lists what does")


def offered(path: str | os.PathLike) -> str | None:
    """Return the name of the file of this package that a path is, from the folder of a clone; None where it is none."""
    asked = os.path.normpath(path).removeprefix("configs/")
    return f"{PREFIX}configs/{asked}" if _is_file(asked) else None


def name_of(path: str | os.PathLike) -> str:
    """Return the name of a file where it is inside an installed package; the path itself where it is not."""
    found = Path(path)
    if not INSTALLED or not found.is_absolute() or not found.is_relative_to(CONFIGS):
        return str(path)
    return f"{PREFIX}configs/{found.relative_to(CONFIGS).as_posix()}"


def inside(pattern: str = "") -> list[str]:
    """Return what lies in the folder of the configs and fits: paths below it, sorted, those of ``_base_`` last.

    Args:
        pattern: A part of the path in any case; or, with ``*``, ``?`` or ``[``, a shell pattern of the path, or of its
            last part.
    """
    asked = pattern.removeprefix(PREFIX).removeprefix("configs/").lower()
    if not any(sign in asked for sign in "*?["):
        asked = f"*{asked}*"
    found = [path for path in _files() if any(fnmatch.fnmatchcase(text.lower(), asked) for text in _texts(path))]
    return sorted(found, key=lambda path: (path.startswith("_base_"), path))


def resolved(value: Any) -> Any:
    """Return a value, or a list or tuple of values, with the names of files of this package replaced by their paths."""
    if isinstance(value, list | tuple):
        return type(value)(map(resolved, value))
    return find(value) if is_named(value) else value


def _is_file(asked: str) -> bool:
    """Whether the folder has it; what leads out of the folder again is no name of a file in it."""
    outside = os.path.isabs(asked) or ".." in asked.split("/")
    return not outside and asked.endswith(_SUFFIXES) and os.path.isfile(CONFIGS / asked)


def _files() -> Iterator[str]:
    for path in CONFIGS.rglob("*"):
        if path.suffix in _SUFFIXES and "__pycache__" not in path.parts:
            yield path.relative_to(CONFIGS).as_posix()


def _texts(path: str) -> tuple[str, str]:
    return path, path.rpartition("/")[2]


def _near(asked: str) -> str:
    """The hint: the file of this name in another folder, or the one with the nearest path."""
    known = {path: f"configs/{path}" for path in _files()}
    same = [name for path, name in known.items() if path.rpartition("/")[2] == asked.rpartition("/")[2]]
    return f" (did you mean '{PREFIX}{same[0]}'?)" if same else nearest(f"configs/{asked}", known.values())
