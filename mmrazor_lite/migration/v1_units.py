"""The width mutators of MMRazor 1.x: units, as a section or as a JSON file, and how the model is traced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError
from mmrazor_lite.walk import kind_of

from .told import Told

Section = dict[str, Any]
WHERE = "model.mutator"
UNITS = f"{WHERE}.channel_unit_cfg.units"
MOST_BYTES = 16 << 20
# A unit is called after its first layer, with the channels of it that it holds and how many there are.
_UNIT_NAME = re.compile(r"(?P<layer>.+)_\(\d+, ?\d+\)_\d+")
_CANDIDATES = ("candidate_choices", "choice_mode", "divisor", "min_value", "min_ratio")
_TRACED = {"type", "demo_input", "tracer_type"}


def flatten(mutator: Section, told: Told) -> None:
    """Write the options of ``channel_unit_cfg`` into the mutator itself, and drop those of the tracer."""
    units = taken_out(mutator, told)
    if not units:
        return
    mutator["units"] = {**{layer_of(name): _options(unit) for name, unit in units.items()}, **mutator.get("units", {})}


def taken_out(mutator: Section, told: Told) -> Section:
    """Take ``channel_unit_cfg`` and ``parse_cfg`` out of a mutator; return the units, read where they are a file."""
    _drop_tracer(mutator, told)
    config = mutator.pop("channel_unit_cfg", None)
    if config is None:
        return {}
    if not isinstance(config, dict):
        told.problem(f"{WHERE}.channel_unit_cfg: give a dict")
        return {}
    kind = kind_of(config)
    if kind not in ("", "OneShotMutableChannelUnit", "SlimmableChannelUnit"):
        told.problem(f"{WHERE}.channel_unit_cfg.type={kind}: what is carried is OneShotMutableChannelUnit")
    unknown = sorted(set(config) - {"type", "_scope_", "default_args", "units"})
    if unknown:
        told.problem(f"{WHERE}.channel_unit_cfg: unknown key '{unknown[0]}'; allowed: type, default_args, units")
    told.change(f"{WHERE}.channel_unit_cfg", f"the same keys in {WHERE}")
    for key, value in (config.get("default_args") or {}).items():
        mutator.setdefault(key, value)
    return _read(config.get("units") or {}, told)


def subnets(units: Section, index: Any, told: Told) -> list[Section] | Section | None:
    """The subnets that units list, each as the content of a subnet file; that at ``index`` alone unless it is -1."""
    widths = {name: (unit.get("init_args") or {}).get("candidate_choices") for name, unit in units.items()}
    counts = {len(choices) if isinstance(choices, list) else 0 for choices in widths.values()}
    if len(counts) != 1 or not min(counts, default=0):
        if not told.problems:
            told.problem(f"{UNITS}: every unit needs the same number of candidate_choices, one for each subnet")
        return None
    (number,) = counts
    if type(index) is not int or not -1 <= index < number:
        told.problem(f"model.deploy_index={index}: the units list {number} subnets; give 0 to {number - 1}")
        return None
    told.change(UNITS, "model.channel_cfg, the subnets that it lists")
    listed = [{name: {"chosen": choices[k]} for name, choices in widths.items()} for k in range(number)]
    return listed if index == -1 else listed[index]


def layer_of(name: str) -> str:
    """The layer that a unit is called after."""
    match = _UNIT_NAME.fullmatch(name)
    return match["layer"] if match else name


def demo_shape(parse: Section) -> tuple[int, ...] | None:
    """The shape of one image that ``parse_cfg`` shows the tracer, (C, H, W); None where it says none."""
    demo = parse.get("demo_input")
    shape = demo.get("input_shape") if isinstance(demo, dict) else demo
    whole = isinstance(shape, list | tuple) and all(type(size) is int and size > 0 for size in shape)
    return tuple(shape[-3:]) if whole and len(shape) in (3, 4) else None


def _drop_tracer(mutator: Section, told: Told) -> None:
    parse = mutator.pop("parse_cfg", None)
    if parse is None:
        return
    kind = kind_of(parse) or "ChannelAnalyzer"
    unknown = sorted(set(parse) - _TRACED - {"_scope_"}) if isinstance(parse, dict) else ["no dict"]
    if kind != "ChannelAnalyzer" or unknown:
        what = f"type={kind}" if kind != "ChannelAnalyzer" else unknown[0]
        told.problem(f"{WHERE}.parse_cfg: {what}: models are traced by torch.export; give {WHERE}.groups by hand")
        return
    told.change(f"{WHERE}.parse_cfg", "nothing: models are traced by torch.export")


def _options(unit: Any) -> Section:
    """What a unit says of its candidates: in ``init_args``, as MMRazor writes it, or beside them."""
    if not isinstance(unit, Mapping):
        return {}
    said = {**unit, **(unit.get("init_args") or {})}
    return {key: said[key] for key in _CANDIDATES if key in said}


def _read(units: Any, told: Told) -> Section:
    """Units as a section: those of a JSON file, or the section that there is."""
    if isinstance(units, Mapping):
        found = dict(units)
    elif not isinstance(units, str) or not Path(units).is_file():
        told.problem(f"{UNITS}: the file '{units}' is not there; give --cfg-options {UNITS}=FILE")
        return {}
    else:
        try:
            found = jsonio.parse(jsonio.read_bytes(Path(units), MOST_BYTES, "a file of units"))
        except (jsonio.BadJSON, UserError) as error:
            told.problem(f"{UNITS}: {units}: {error}")
            return {}
    if not isinstance(found, dict) or not all(isinstance(unit, Mapping) for unit in found.values()):
        told.problem(f"{UNITS}: give a mapping from units to their options, or a JSON file of one")
        return {}
    return found
