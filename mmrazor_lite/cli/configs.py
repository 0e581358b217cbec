"""List the configs that come with the package, or copy some, with all that they are based on, to change them."""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmrazor_lite import shipped
from mmrazor_lite.errors import UserError, nearest

_BESIDE = re.compile(r"\{\{\s*fileDirname\s*\}\}/([\w.-]+)")  # a file of the same folder, as configs name it
_MODULE = re.compile(r"configs((?:\.\w+)+)\.\w+")  # the import path of a class in a module of the configs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.usage = "mmrazor-lite configs [-h] [PATTERN] | mmrazor-lite configs [-h] copy NAME DIR"
    words = "PATTERN: a part of the names, or such as 'spos_*_digits.py'; or copy NAME DIR, where NAME may be a PATTERN"
    parser.add_argument("words", nargs="*", metavar="PATTERN", help=words)


def run(args: argparse.Namespace) -> list[str] | list[Path]:
    """Print the names of the configs that fit and return them; or copy them and return the files written.

    Raises:
        UserError: Nothing fits, or a file of another content is where one would be written.
    """
    if args.words[:1] == ["copy"]:
        if len(args.words) != 3:
            raise UserError("configs copy: give NAME DIR, such as configs copy autoslim_supernet_digits.py configs")
        return copy(*args.words[1:])
    if len(args.words) > 1:
        raise UserError(
            f"configs: one PATTERN, not {len(args.words)} (in quotes, so that the shell leaves it as it is)"
        )
    names = [f"{shipped.PREFIX}configs/{path}" for path in _fitting(*args.words)]
    print("\n".join(names))
    return names


def copy(name: str, folder: str) -> list[Path]:
    """Copy the configs that ``name`` fits into ``folder``, at the paths that they have below ``configs/``.

    With them goes what they are based on, and the subnets and modules that they name, so that all stays as it is.
    """
    from mmrazor_lite.fileio import FileSet

    named = _chosen(name)
    files = dict.fromkeys(path for start in named for path in _with_bases(start))
    targets = {shipped.CONFIGS / path: Path(folder) / path for path in files}
    changed = [to for source, to in targets.items() if to.exists() and not _is_same(source, to)]
    if changed:
        raise UserError(f"'{changed[0]}' is there and is another: nothing was copied, give another DIR or move it away")
    with FileSet() as whole:
        for source, to in targets.items():
            if not to.exists():
                whole.new(to).write_bytes(source.read_bytes())
    print(f"{len(targets)} files in {folder}; {', '.join(str(Path(folder) / path) for path in named)}")
    return list(targets.values())


def _fitting(pattern: str = "") -> list[str]:
    found = shipped.inside(pattern)
    if not found:
        near = nearest(pattern, [path.rpartition("/")[2] for path in shipped.inside()])
        raise UserError(f"no config fits '{pattern}'{near}; 'mmrazor-lite configs' lists all")
    return found


def _chosen(name: str) -> list[str]:
    """The one config of this path or name, with or without its ending; or all that a shell pattern fits."""
    asked, known = name.removeprefix(shipped.PREFIX).removeprefix("configs/"), map(Path, shipped.inside())
    exact = [str(path) for path in known if asked in (str(path), str(path.with_suffix("")), path.name, path.stem)]
    if len(exact) == 1:
        return exact
    found = _fitting(name)
    if len(found) > 1 and not any(sign in name for sign in "*?["):
        raise UserError(f"configs copy: '{name}' is in the names of {len(found)}, such as {found[0]} and {found[1]}")
    return found


def _with_bases(start: str) -> Iterator[str]:
    """Yield the paths of a config, of its bases, and of what these name."""
    waiting, seen = [start], set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path
        if path.endswith(".py"):
            text = (shipped.CONFIGS / path).read_text(encoding="utf-8")
            beside = [*_bases(text), *_BESIDE.findall(text)]
            waiting += [os.path.normpath(f"{os.path.dirname(path)}/{name}") for name in beside]
            waiting += [f"{dotted[1:].replace('.', '/')}.py" for dotted in _MODULE.findall(text)]


def _bases(text: str) -> Sequence[str]:
    """What ``_base_`` of a config is; those of this package write it out, as paths."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "_base_" for to in node.targets):
            found = ast.literal_eval(node.value)
            return [found] if isinstance(found, str) else found
    return []


def _is_same(source: Path, other: Path) -> bool:
    return other.is_file() and other.read_bytes() == source.read_bytes()
