"""The names, keys and values of a config against what is built from it: one walk, from the outside in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mmrazor_lite.errors import UserError, nearest

from . import not_carried, packages, schema, values


def check(cfg: Mapping, source: str) -> None:
    """Raise :class:`UserError` for the first unknown name or key, or value that its place cannot take.

    Args:
        cfg: A config with our names.
        source: Its file, for messages.
    """
    for key, value in cfg.items():
        _check(value, (str(key),), cfg, source)


def _check(value: Any, path: tuple[str, ...], parent: Mapping, source: str, ours: bool = True) -> None:
    """Judge a value and what is below it; not ``ours`` are the values of somebody else's network."""
    if ours:
        values.check(value, path, parent, source)
    if path[-1] in schema.FREE:
        return
    if isinstance(value, Mapping):
        keys, is_net = _check_keys(value, path, source)
        for key in keys:
            _check(value[key], (*path, str(key)), value, source, ours and not is_net)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            if isinstance(part, Mapping | list | tuple):
                _check(part, (*path, str(index)), {}, source, ours)


def _check_keys(node: Mapping, path: tuple[str, ...], source: str) -> tuple[Collection[str], bool]:
    """Judge the name and the keys of a section; return the keys to look into, and whether it is somebody's network."""
    from mmrazor_lite.models.classifiers import nets

    where = f"{source}: {'.'.join(path)}"
    is_net = schema.is_place_of_net(path) and nets.source_of(node.get("type")) is not None
    if is_net and (path[-1] == "net" or nets.is_wrapper(nets.expand(node, where))):  # else a classifier of the user's
        around = () if path[-1] == "net" else nets.AROUND
        arguments = nets.argument_names(node["type"], where)
        if arguments is not None:
            _refuse_unknown(node, arguments | schema.META | set(around), where, "")
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
    if allowed is not None:
        _refuse_unknown(node, allowed, source, f" in {'.'.join(path)}")
    return node.keys(), is_net


def _refuse_unknown(node: Mapping, allowed: Collection[str], where: str, place: str) -> None:
    for key in node:
        if key not in allowed:
            options = sorted(set(allowed) - schema.META)
            known = f"{nearest(key, options)}; allowed: {', '.join(options)}"
            raise UserError(f"{where}: unknown key '{key}'{place}{known}")
