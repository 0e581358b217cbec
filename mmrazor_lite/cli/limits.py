"""The limits of a command and those of its config, together: both hold, or one is refused."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.walk import kind_of

# Options of the evolution that the front's search has too, under its own names; it has no use for the others.
FRONT_OPTIONS = {
    "mutate_prob": "mutate_prob",
    "crossover_prob": "crossover_prob",
    "max_epochs": "generations",
    "num_candidates": "population",
}


def limited(
    settings: Mapping[str, Any], resource: str, limits: Sequence[Any], args: argparse.Namespace
) -> dict[str, Any]:
    """The ``search_cfg`` of one search for ``limits`` of a resource, with everything else that the config asks for.

    A searcher that takes constraints gets the limit as the upper end in place of the config's; the lower end and the
    constraints of other resources stay. One that takes budgets gets them in place of the config's of that resource.

    Args:
        settings: The config's.
        resource: What the command limits.
        limits: As typed; one, or several for a front.
        args: The flags, with ``front``.

    Raises:
        UserError: Something of the config that cannot hold beside the limits; says how to leave it out.
    """
    from mmrazor_lite.engine.searchers import searcher_class

    settings = dict(settings)
    kind = kind_of(settings)
    searcher = dict(settings.get("searcher") or {})
    if args.front:
        if kind == "EvolutionSearchLoop":
            raise UserError(
                "--front: search_cfg.type='EvolutionSearchLoop' is the evolution; give a config with type='SearchLoop'"
            )
        settings["searcher"] = searcher = _front(searcher, args.cfg_options)
    default = "EvolutionSearcher" if kind == "EvolutionSearchLoop" or not _targets(settings) else "GreedySearcher"
    cls = searcher_class({"type": default, **searcher})
    if not cls.takes:
        raise UserError(f"--{resource}: the {cls.__name__} of the config takes no limits; give another searcher")
    ranges = settings.pop("constraints_range", None)
    if ranges is not None and not isinstance(ranges, Mapping):
        raise UserError(f"search_cfg.constraints_range must be such as dict(flops=(0, 330)), got {short(ranges)}")
    ranges = {name: value for name, value in dict(ranges or {}).items() if value is not None}
    targets, low = _targets(settings), _low(ranges.get(resource))
    if "budgets" in cls.takes:
        targets.pop(f"target_{resource}", None)
        settings[f"target_{resource}"] = list(limits)
        ranges = {**ranges, resource: (low, None)} if low else {k: v for k, v in ranges.items() if k != resource}
    else:
        ranges[resource] = (low, limits[0])
    for key, value in targets.items():
        raise UserError(_clash(f"--{resource} is the one limit of a search", key, value, key))
    if ranges and "constraints" not in cls.takes:
        name = next(iter(ranges))
        why = f"the {cls.__name__} takes no constraints"
        raise UserError(_clash(why, f"constraints_range.{name}", ranges[name], "constraints_range"))
    return settings | ({"constraints_range": ranges} if ranges else {})


def _clash(why: str, key: str, value: Any, drop: str) -> str:
    return f"{why}, and the config has {key}={short(value)}: leave it out with --cfg-options search_cfg.{drop}=None"


def refuse_given(cfg_options: Sequence[str], keys: Sequence[str], why: str) -> None:
    """Refuse ``KEY=VALUE`` options, given with a command, of a part of the config that the command has no use for."""
    for option in cfg_options:
        key = option.partition("=")[0]
        if any(key == part or key.startswith(f"{part}.") for part in keys):
            raise UserError(f"--cfg-options {short(key)[1:-1]}: {why}; leave it out")


def _front(searcher: dict[str, Any], cfg_options: Sequence[str]) -> dict[str, Any]:
    """The options of the front's search from those of the config's searcher."""
    kind = kind_of(searcher) or "EvolutionSearcher"
    if kind == "FrontSearcher":
        return searcher
    searcher.pop("type", None)
    lost = [key for key in searcher if key not in FRONT_OPTIONS]
    given = [f"search_cfg.searcher.{key}" for key in lost]
    refuse_given(cfg_options, given, f"it is of the {kind}, and --front searches with the FrontSearcher")
    if lost:
        print(f"--front: {', '.join(lost)} of the config's {kind} mean nothing to the FrontSearcher")
    return {"type": "FrontSearcher", **{new: searcher[old] for old, new in FRONT_OPTIONS.items() if old in searcher}}


def _targets(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key.startswith("target_") and value is not None}


def _low(value: Any) -> Any:
    """The lower end of a range as a config gives it; 0 for none."""
    return (value[0] or 0) if isinstance(value, list | tuple) and len(value) == 2 else 0
