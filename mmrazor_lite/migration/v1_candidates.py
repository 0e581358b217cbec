"""Spellings of the release candidates of MMRazor 1.0 (rc0 to rc2), made those of 1.0 itself."""

from __future__ import annotations

from typing import Any

from mmrazor_lite.walk import kind_of

from .told import Told

Section = dict[str, Any]
_UNITS = {  # how a mutator called its section of units, in the order in which they came
    **dict.fromkeys(("mutable_cfg", "channl_group_cfg", "channel_group_cfg"), "channel_unit_cfg"),
    "tracer_cfg": "parse_cfg",
}
_TYPES = {
    **dict.fromkeys(("OneShotMutableChannel", "OneShotMutableChannelGroup", "OneShotChannelGroup"),
                    "OneShotMutableChannelUnit"),
    **dict.fromkeys(("SlimmableMutableChannel", "SlimmableChannelGroup"), "SlimmableChannelUnit"),
}  # fmt: skip
_TRACERS = ("BackwardTracer", "PruneTracer", "FxTracer", "RazorFxTracer")
_LOOPS = {"AutoSlimValLoop": "SubnetValLoop", "GreedySearchLoop": "AutoSlimGreedySearchLoop"}
_ARGUMENTS = ("candidate_choices", "candidate_mode", "choice_mode", "divisor", "min_value", "min_ratio")


def settle(config: Section, told: Told) -> None:
    """Rewrite what a config of a release candidate says otherwise than one of 1.0, in place."""
    model = config.get("model")
    if isinstance(model, dict):
        _rename(model, {"num_samples": "num_random_samples", "channel_cfg_paths": "channel_cfg"}, "model", told)
        _mutators(model, told)
        if isinstance(model.get("mutator"), dict):
            _mutator(model["mutator"], told)
    for key in ("train_cfg", "val_cfg", "test_cfg"):
        section = config.get(key)
        kind = kind_of(section)
        if kind in _LOOPS:
            told.change(f"{key}.type={section['type']}", _LOOPS[kind])
            section["type"] = f"mmrazor.{_LOOPS[kind]}"
        if isinstance(section, dict) and "flops_range" in section:
            _flops_range(section, key, told)


def _rename(section: Section, names: dict[str, str], where: str, told: Told) -> None:
    for old, new in names.items():
        if old in section and new not in section:
            section[new] = section.pop(old)
            told.change(f"{where}.{old}", f"{where}.{new}")


def _mutators(model: Section, told: Told) -> None:
    """A mutator of widths and one of values beside each other are one here."""
    several = model.get("mutators")
    if isinstance(several, dict) and "type" not in several and several:
        kinds = {kind_of(part) for part in several.values()}
        if kinds <= {"OneShotChannelMutator", "DynamicValueMutator", "OneShotModuleMutator"}:
            told.change("model.mutators", "model.mutator=dict(type='NasMutator'), for all kinds of choices")
            del model["mutators"]
            model["mutator"] = {"type": "mmrazor.NasMutator"}


def _mutator(mutator: Section, told: Told) -> None:
    _rename(mutator, _UNITS, "model.mutator", told)
    units, parse = mutator.get("channel_unit_cfg"), mutator.get("parse_cfg")
    if isinstance(units, dict) and kind_of(units) in _TYPES:
        units["type"] = _TYPES[kind_of(units)]
        _rename(units, {"groups": "units"}, "model.mutator.channel_unit_cfg", told)
        given = {key: units.pop(key) for key in _ARGUMENTS if key in units}
        options = {**given, **(units.get("default_args") or {})}
        if "candidate_mode" in options:
            options["choice_mode"] = options.pop("candidate_mode")
        if options:
            # The candidates round to the nearest width, and know neither a divisor nor a least share.
            units["default_args"] = {"divisor": 1, "min_ratio": 0.0, **options}
    if isinstance(parse, dict) and kind_of(parse) in _TRACERS:
        told.change(f"model.mutator.parse_cfg.type={kind_of(parse)}", "nothing: models are traced by torch.export")
        del mutator["parse_cfg"]


def _flops_range(section: Section, key: str, told: Told) -> None:
    """The limits of flops, in millions or, where they are large, in ones; None is no limit."""
    limits = section.pop("flops_range")
    if limits is None:
        section.setdefault("constraints_range", {})
        told.change(f"{key}.flops_range=None", f"{key}.constraints_range={{}}: there is no limit")
        return
    given = list(limits) if isinstance(limits, list | tuple) else []
    if len(given) != 2 or not all(type(value) in (int, float) for value in given):
        told.problem(f"{key}.flops_range={limits!r}: must be two numbers, the least and the most; or remove it")
        return
    low, high = given
    scale = 1e6 if high > 1e5 else 1.0
    section.setdefault("constraints_range", {"flops": (low / scale, high / scale)})
    told.change(f"{key}.flops_range", f"{key}.constraints_range.flops, in millions")
