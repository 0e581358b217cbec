"""The options that the documentation names, as keys of a config: dotted where the page says of which section."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from mmrazor_lite.config import schema

_FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_ASSIGNED = re.compile(r"(?<![\w.\-/$])([a-z_]\w*(?:\.\w+)*)=(?!=)")
_DOTTED = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)+")
_SECTIONS = {*schema.TOP_LEVEL, "algorithm"} - {"model"}  # 'model.config' is a file too: of model, with a value only


def options_of(page: Path) -> set[str]:
    """``key`` and ``section.key`` of inline code and of command lines, ``section.key`` of blocks of Python."""
    text = page.read_text(encoding="utf-8")
    found = set()
    for code in re.findall(r"`([^`\n]+)`", _FENCED.sub("", text)):
        found |= set(_ASSIGNED.findall(code))
        if _DOTTED.fullmatch(code) and code.partition(".")[0] in _SECTIONS:
            found.add(code)
    for block in _FENCED.findall(text):
        try:
            found |= set(_of_python(ast.parse(block)))
        except SyntaxError:  # a command line
            found |= {key for key in _ASSIGNED.findall(block) if "." in key}
    return {_plain(key) for key in found}


def _of_python(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id in schema.TOP_LEVEL:
            yield target.id
            yield from _below(statement.value, target.id)


def _below(node: ast.expr, path: str) -> Iterator[str]:
    """The keys of ``dict(...)`` and ``{...}``, also of those in lists."""
    if isinstance(node, ast.List | ast.Tuple):
        for part in node.elts:
            yield from _below(part, path)
    pairs: list[tuple[object, ast.expr]] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        pairs = [(getattr(key, "value", None), value) for key, value in zip(node.keys, node.values, strict=True)]
    for key, value in pairs:
        if isinstance(key, str):
            yield f"{path}.{key}"
            yield from _below(value, f"{path}.{key}")


def _plain(key: str) -> str:
    """As the walk has it: ``algorithm`` is ``model``."""
    return "model" + key.removeprefix("algorithm") if key.partition(".")[0] == "algorithm" else key


def is_known(key: str, walked: set[str]) -> bool:
    """Whether the walk goes over ``key``, or over one that ends in it: a page may leave out the outer sections.

    Which place in a list it is, and how many datasets are around one, does not matter.
    """
    return any(known == _short(key) or known.endswith(f".{_short(key)}") for known in map(_short, walked))


def _short(key: str) -> str:
    return re.sub(r"(dataset\.)+", "dataset.", re.sub(r"\.\d+(?=\.|$)", "", key))
