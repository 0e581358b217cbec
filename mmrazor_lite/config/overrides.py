"""``--cfg-options``: read KEY=VALUE pairs and refuse those that would change nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmrazor_lite.errors import UserError, check_flag, nearest, short
from mmrazor_lite.migration import generation_of, reads
from mmrazor_lite.walk import mappings

from . import names, schema
from .schema import DEEPEST

_CLASSIFIER = re.compile(r"model\.(backbone|neck|head|train_cfg|pretrained)\b")  # of 0.x, where it is a helper variable
_WITH_THE_FILE = ("custom_imports", "_base_")  # what mmengine reads before any option can change it
_OLD_KEYS = {"model.mutable_cfg": "model.fix_subnet", "model._channel_cfg_paths": "model.channel_cfg"}  # of MMRazor
_LONGEST_LIST = 20_000  # characters; mmengine's reader takes seconds for more
_QUOTES = ("'", '"')
_NUMBER = re.compile(r"(?:^|(?<=[\[(,=:\s]))([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?=$|[\])},\s])")


def parse(pairs: Sequence[str], ours: bool = True) -> dict[str, Any]:
    """Return the options with their values read as mmengine does: numbers, booleans, None, lists, else text.

    In a config of ``ours``, ``algorithm.x`` means ``model.x``, and what MMRazor's manuals call the subnet means ours.

    Raises:
        UserError: One that cannot be read, or is longer or deeper than a config is.
    """
    options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--cfg-options '{pair}': expected KEY=VALUE")
        if ours and (key == "algorithm" or key.startswith("algorithm.")):
            key = "model" + key.removeprefix("algorithm")
        key = _OLD_KEYS.get(key, key) if ours else key
        parts = key.split(".")
        if len(parts) > DEEPEST or _depth(text) > DEEPEST:
            raise UserError(f"--cfg-options '{pair}': more than {DEEPEST} levels deep: a config is not")
        if "" in parts:
            raise UserError(f"--cfg-options '{pair}': expected KEY=VALUE, with names between the dots of KEY")
        if "_delete_" in parts:
            raise UserError(f"--cfg-options '{pair}': write it with what comes instead, KEY=dict(_delete_=True, ...)")
        options[key] = _value(text, pair)
        if lost := lost_number(text):
            raise UserError(f"--cfg-options '{pair}': {lost} is too small for a number and would be read as 0")
    return options


def lost_number(text: str) -> str | None:
    """The first number of a text that is not 0 as it is written but as it is read, such as ``1e-400``."""
    written = (match[1] for match in _NUMBER.finditer(text))
    return next((word for word in written if not float(word) and re.search("^[^eE]*[1-9]", word)), None)


def _depth(text: str) -> int:
    """How many brackets are open at most."""
    deepest = depth = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _value(text: str, pair: str) -> Any:
    """Read the text after ``KEY=`` of a pair."""
    from mmengine.config import DictAction

    if text.count("(") != text.count(")") or text.count("[") != text.count("]"):
        raise UserError(f"--cfg-options '{pair}': brackets do not match; quote a pair with spaces")
    if text.startswith(("dict(", "{")):
        found = _literal(text)
        if not isinstance(found, dict):
            raise UserError(f"--cfg-options '{pair}': cannot be read as a mapping; write KEY=dict(name=value, ...)")
        return found
    unread = UserError(f"--cfg-options '{pair}': cannot be read; lists as KEY=[A,B], mappings as KEY=dict(name=A)")
    if text.startswith(("[", "(")) and ("dict(" in text or "{" in text):
        found = _literal(text)
        if found is None:
            raise unread
        return found
    if any(sign in text for sign in ",[("):
        if len(text) > _LONGEST_LIST:
            raise UserError(f"--cfg-options '{pair}': more than {_LONGEST_LIST:,} characters; write it in the config")
        try:
            return DictAction._parse_iterable(text)
        except (RecursionError, AssertionError):
            raise unread from None
    if (text.startswith(_QUOTES) or text.endswith(_QUOTES)) and (len(text) < 2 or text[0] != text[-1]):
        raise UserError(f"--cfg-options '{pair}': quotes do not match")
    return DictAction._parse_int_float_bool(text.strip("'\""))  # mmengine's reader would drop the spaces of a path


def _literal(text: str) -> Any:
    """Read literals, with mappings as ``dict(name=value)`` or ``{'name': value}``; nothing is evaluated.

    Returns:
        None where it is something else.
    """
    from mmengine.config import DictAction

    def value_of(node: ast.expr) -> Any:
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "dict" and not node.args:
            return mapping((part.arg, value_of(part.value)) for part in node.keywords)
        if isinstance(node, ast.Dict):
            names = [None if key is None else value_of(key) for key in node.keys]
            return mapping(zip(names, map(value_of, node.values), strict=True))
        if isinstance(node, ast.List | ast.Tuple):
            items = [value_of(part) for part in node.elts]
            return tuple(items) if isinstance(node, ast.Tuple) else items
        if isinstance(node, ast.Attribute | ast.BinOp):  # a word without quotes, such as max_subnet.accuracy/top1
            word = ast.get_source_segment(text, node)
            if not re.fullmatch(r"[A-Za-z_][\w./]*", word):
                raise ValueError
            return word
        found = DictAction._parse_int_float_bool(node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)
        if not isinstance(found, str | int | float | None):  # complex numbers, bytes, sets, an ellipsis
            raise ValueError
        return found

    def mapping(items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in items:
            if name is None or name in found:  # **more, and one of two that would be lost
                raise ValueError
            found[name] = value
        return found

    try:
        return value_of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def divide(cfg: Mapping, pairs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide options into those of a config as its file has it, which reads their first key, and those of our form.

    Raises:
        UserError: One of a helper variable, whose value was copied before.
    """
    early, late = [], []
    for pair in pairs:
        key = re.split("[.=]", pair, maxsplit=1)[0]
        is_read = reads(cfg, key)
        is_helper = key in cfg and key not in schema.TOP_LEVEL
        if generation_of(cfg) == "0.x":
            is_helper = not is_read and (is_helper or bool(key in cfg and _CLASSIFIER.match(pair)))
        if is_helper:
            raise _of_helper(pair.partition("=")[0], key)
        (early if is_read else late).append(pair)
    return early, late


def _of_helper(key: str, variable: str) -> UserError:
    return UserError(
        f"--cfg-options {key}: '{variable}' is a helper variable of the config file, its value was already copied: "
        "change the keys that use it"
    )


def check(cfg: Mapping, key: str, ours: bool = True) -> None:
    """Raise :class:`UserError` unless ``key`` names a value of ``cfg`` or a key that its place accepts.

    Of a config that is not in our form yet (``ours``), any top-level key may be one. Nothing is imported for it.
    """
    parts = key.split(".")
    if ours and parts[0] in cfg and parts[0] not in schema.TOP_LEVEL:
        raise _of_helper(key, parts[0])
    node: Any = cfg
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth]) or "the config"
        if isinstance(node, Mapping):
            if part in node:
                node = node[part]
                continue
            if not ours and generation_of(cfg) == "0.x":
                return  # its translation tells which keys there are
            allowed = _allowed(node, tuple(parts[:depth]))
            if allowed is None or part in allowed or parts[:depth] == ["default_hooks"]:
                return  # the place accepts it; what lies below is checked when the whole config is
            raise UserError(f"--cfg-options {key}: no '{part}' in {where}{nearest(part, {*node, *allowed})}")
        if isinstance(node, list | tuple):
            if re.fullmatch("[0-9]{1,9}", part) and int(part) < len(node):
                node = node[int(part)]
                continue
            raise UserError(f"--cfg-options {short(key)}: {where} is a list of {len(node)}, give an index from 0")
        if node is None:
            return
        raise UserError(f"--cfg-options {key}: {where} is a {type(node).__name__}, it has no '{part}'")


def _allowed(node: Mapping, path: tuple[str, ...]) -> frozenset[str] | None:
    """The keys of a section that still has the names of its file; an import path is looked at when it is judged."""
    kind = node.get("type")
    named = {**node, "type": names.renamed(kind)} if isinstance(kind, str) else node
    return schema.allowed_keys(named, path, imports=False)


def apply(cfg: Any, pairs: Sequence[str], ours: bool = True) -> None:
    """Merge the options into ``cfg`` (an mmengine ``Config``), ``data_root`` into every dataset below it.

    A config that is not in our form yet (``ours``) takes its options as its own project reads them.
    """
    options = parse(pairs, ours)
    if "data_root" in options:
        if "data_root" not in cfg:
            raise UserError("--cfg-options data_root: the config reads no data folder")
        move_data_root(cfg._cfg_dict, cfg["data_root"], options["data_root"])
    for key in options:
        if key.partition(".")[0] in _WITH_THE_FILE:
            raise UserError(f"--cfg-options {short(key)}: it is read with the config file; write it there")
    for key, value in options.items():  # one may set the type whose option the next one is
        check(cfg._cfg_dict, key, ours)
        first, *rest = key.split(".")
        cfg[first] = replaced(cfg.get(first), rest, value)


def replaced(node: Any, parts: Sequence[str], value: Any) -> Any:
    """Return a copy of ``node`` with ``value`` at ``parts``, in lists too, which mmengine cannot change inside.

    A mapping is merged into the one that is there, as mmengine does it, or with ``_delete_=True`` takes its place.
    """
    if not parts:
        if not isinstance(value, dict) or not isinstance(node, Mapping):
            return value
        value = dict(value)
        delete = value.pop("_delete_", False)
        check_flag("--cfg-options: _delete_", delete)
        node = {} if delete else node
        return {**node, **{key: replaced(node.get(key), (), part) for key, part in value.items()}}
    part, *rest = parts
    if isinstance(node, list | tuple):
        items = list(node)
        items[int(part)] = replaced(items[int(part)], rest, value)
        return type(node)(items)
    node = {} if node is None else node.copy()
    node[part] = replaced(node.get(part), rest, value)
    return node


def move_data_root(cfg: Mapping, old: str, new: str) -> None:
    """Replace the value ``old`` of every key ``data_root`` in the sections of ``cfg``: mmengine has copied it there."""
    for _, node in mappings(cfg):
        if node.get("data_root") == old:
            node["data_root"] = new
