"""The names, keys and values of a config against what is built from it: one walk, from the outside in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmrazor_lite.errors import UserError, nearest

from . import not_carried, packages, schema, values


def problems(cfg: Mapping, source: str) -> list[str]:
    """What to say of every unknown name or key, and of every value that its place cannot take.

    Args:
        cfg: A config with our names.
        source: Its file, for messages, which begin with what is in it.
    """
    found: list[str] = []
    for key, value in cfg.items():
        _judge(value, (str(key),), cfg, source, found)
    return [text.removeprefix(f"{source}: ") for text in found]


def _judge(
    value: Any, path: tuple[str, ...], parent: Mapping, source: str, found: list[str], ours: bool = True
) -> None:
    """Judge a value and what is below it; not ``ours`` are the values of somebody else's network."""
    if ours:
        with _telling(found):
            values.check(value, path, parent, source)
    if path[-1] in schema.FREE:
        return
    if isinstance(value, Mapping):
        keys, is_net = value.keys(), False
        with _telling(found):
            keys, is_net = _judge_keys(value, path, source, found)
        for key in keys:
            _judge(value[key], (*path, str(key)), value, source, found, ours and not is_net)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            if isinstance(part, Mapping | list | tuple):
                _judge(part, (*path, str(index)), {}, source, found, ours)


@contextmanager
def _telling(found: list[str]) -> Iterator[None]:
    """Add what is wrong to a list, and go on."""
    try:
        yield
    except UserError as error:
        found.append(str(error))


def _judge_keys(node: Mapping, path: tuple[str, ...], source: str, found: list[str]) -> tuple[Collection[str], bool]:
    """Judge the name and the keys of a section; return the keys to look into, and whether it is somebody's network."""
    from mmrazor_lite.models.classifiers import nets

    where = f"{source}: {'.'.join(path)}"
    is_net = schema.is_place_of_net(path) and nets.source_of(node.get("type")) is not None
    if is_net and (path[-1] == "net" or nets.is_wrapper(nets.expand(node, where))):  # else a classifier of the user's
        around = () if path[-1] == "net" else nets.AROUND
        arguments = nets.argument_names(node["type"], where)
        if arguments is not None:
            found += _unknown(node, arguments | schema.META | set(around), where, "")
        return [key for key in around if key in node], True
    name = node.get("type")
    if name is not None and path[-1] not in schema.NOT_REGISTERED and not schema.find(name):
        if why := not_carried.reason(name):
            raise UserError(f"{where}: {why}")
        if why := packages.missing(name):
            raise UserError(f"{where}.type={name!r} {why}")
        close = nearest(str(name).rpartition(".")[2], schema.registered())
        raise UserError(f"{where}.type is '{name}', which is not registered{close}")
    allowed = schema.allowed_keys(node, path)
    known = node.keys() if allowed is None else allowed
    found += _unknown(node, known, source, f" in {'.'.join(path)}")
    return [key for key in node if key in known], is_net


def _unknown(node: Mapping, allowed: Collection[str], where: str, place: str) -> list[str]:
    options = sorted(set(allowed) - schema.META)
    return [
        f"{where}: unknown key '{key}'{place}{nearest(key, options)}; allowed: {', '.join(options)}"
        for key in node
        if key not in allowed
    ]
