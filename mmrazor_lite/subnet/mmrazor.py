"""Readers of the subnet files that MMRazor writes: data in, choices of our space out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.subnet.space import SearchSpace

_UNIT_NAME = re.compile(r"(?P<layer>.+)_\((?P<start>\d+), ?(?P<end>\d+)\)_(?P<full>\d+)")
_DIVISOR = 8  # of the widths that AutoSlim offers
# What MMRazor 0.x and 1.x put before the names of the plain model's modules.
_PREFIXES = ("architecture.model.", "architecture.", "model.")


def read_channels(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, int]:
    """MMRazor 0.x channel yaml: layer -> ``in_channels``, ``out_channels``, ``raw_in_channels``, ``raw_out_channels``.

    A layer's width sets its choice; layers of one choice must agree, and layers without a choice must be at full
    width. Choices that no layer of the file sets are left out.

    Raises:
        UserError: An unknown layer, another full width than the model's, a width that is none, or a disagreement.
    """
    if not space.layers:
        raise UserError(f"{where}: a list of channels per layer, but the model has no widths to choose")
    chosen: dict[str, int] = {}
    set_by: dict[str, str] = {}  # choice -> the first layer that sets it, with its channels
    for key, entry in document.items():
        name = _resolve(key, space.layers, "layer", where)
        layer = space.layers[name]
        place = f"{where}: layer '{name}'"
        out = _channels(entry, "out_channels", place)
        full = _channels(entry, "raw_out_channels", place)
        if full != layer.full:
            raise UserError(f"{place}: the file is for {full} channels at full width, this model has {layer.full}")
        if layer.choice is None:
            if out != full:
                raise UserError(f"{place}: {out} channels, but this layer always keeps its {full}")
            continue
        largest = space[layer.choice].candidates[-1]
        width, rest = divmod(out * largest, full)
        if rest:
            raise UserError(f"{place}: {out} channels cannot be made; it has {full} when '{layer.choice}' is {largest}")
        space[layer.choice].index(width, place)
        if chosen.setdefault(layer.choice, width) != width:
            raise UserError(
                f"{place}: {out} channels do not agree with {set_by[layer.choice]}; both are set by the choice "
                f"'{layer.choice}'"
            )
        set_by.setdefault(layer.choice, f"layer '{name}' ({out} channels)")
    return chosen


def read_chosen(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, Any]:
    """MMRazor 0.x mutable yaml (``name: {chosen: [x]}``) and 1.x fix_subnet yaml (``name: {chosen: x}``).

    Raises:
        UserError: A name that is no choice of the space and no alias of one, or more or less than one value.
    """
    chosen: dict[str, Any] = {}
    known = {**{name: name for name in space}, **space.aliases}
    for key, entry in document.items():
        name = known[_resolve(key, known, "choice", where)]
        value = _part(entry, "chosen", f"{where}: '{key}'")
        if isinstance(value, list):
            if space[name].kind == "resolution" and len(value) == 2 and value[0] == value[1]:
                value = value[:1]  # a square input is written [height, width]
            if len(value) != 1:
                raise UserError(f"{where}: '{key}' has {len(value)} values chosen, {short(value)}; a subnet has one")
            value = value[0]
        if name in chosen:
            raise UserError(f"{where}: the choice '{name}' is given twice, the second time as '{key}'")
        chosen[name] = value
    return chosen


def is_units(document: Mapping[str, Any], space: SearchSpace) -> bool:
    """Tell whether this is MMRazor 1.x's mapping of width units, named after a layer and the channels that it holds."""
    return bool(space.layers) and any(_UNIT_NAME.fullmatch(key) for key in document)


def read_units(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, int]:
    """MMRazor 1.x width units: ``LAYER_(0, 48)_48`` -> ``chosen`` (what a search writes) or ``choice`` (JSON of units).

    A value is a number of channels, or a share of the full width, which is rounded as AutoSlim does: to a multiple of
    8, and not below 90 % of it. Choices that no unit of the file sets are left out.

    Raises:
        UserError: As :func:`read_channels`.
    """
    layers: dict[str, dict[str, int]] = {}
    for key, entry in document.items():
        match = _UNIT_NAME.fullmatch(key)
        if match is None:
            raise UserError(f"{where}: '{short(key)}' is no unit such as 'backbone.conv1.conv_(0, 48)_48'")
        place, full = f"{where}: unit '{key}'", int(match["full"])
        value = entry.get("chosen", entry.get("choice")) if isinstance(entry, dict) else None
        layers[match["layer"]] = {"out_channels": _unit_width(value, full, place), "raw_out_channels": full}
    return read_channels(layers, space, where)


def _unit_width(value: Any, full: int, place: str) -> int:
    """The channels of a unit of ``full``, of a number of them or of a share."""
    if type(value) is int and 1 <= value <= full:
        return value
    if not isinstance(value, float) or not 0 < value <= 1:
        raise UserError(f"{place}: 'chosen' must be a number of channels, or a share of {full}; got {short(value)}")
    target = value * full
    width = max(_DIVISOR, int(target + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return min(full, width + _DIVISOR * (width < 0.9 * target))


def read_modules(document: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, Any]:
    """MMRazor 1.0 rc yaml: ``modules: {name: x}``, and ``channels:`` with nothing below it.

    Raises:
        UserError: As :func:`read_chosen`, another key, or channels, which no space of operators has.
    """
    odd = [key for key in document if key not in ("modules", "channels")]
    if odd:
        raise UserError(f"{where}: unknown key '{odd[0]}' beside 'modules' (allowed: modules, channels)")
    channels = document.get("channels")
    if channels:
        raise UserError(f"{where}: 'channels' beside 'modules' cannot be read, only operators can: {short(channels)}")
    modules = document["modules"]
    if not isinstance(modules, dict) or not all(isinstance(key, str) for key in modules):
        raise UserError(f"{where}: 'modules' must map names to operators, got {short(modules)}")
    return read_chosen({key: {"chosen": value} for key, value in modules.items()}, space, where)


def _resolve(key: str, known: Iterable[str], what: str, where: str) -> str:
    for prefix in ("", *_PREFIXES):
        name = key.removeprefix(prefix)
        if name in known:
            return name
    raise UserError(f"{where}: unknown {what} '{key}'{nearest(key, known)}; the file is of another model or config")


def _part(entry: Any, key: str, place: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise UserError(f"{place}: '{key}' is missing")
    return entry[key]


def _channels(entry: Any, key: str, place: str) -> int:
    value = _part(entry, key, place)
    if type(value) is not int or value < 1:
        raise UserError(f"{place}: '{key}' must be a whole number of channels, got {short(value)}")
    return value
