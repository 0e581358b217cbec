"""The searcher of a config: its class by its name, and the object, called with what the search has for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mmrazor_lite import search
from mmrazor_lite.engine.search_limits import LIMITS, Limits
from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.registry import SEARCHERS
from mmrazor_lite.search import Cost, Searcher
from mmrazor_lite.subnet import SearchSpace

_PARTS = ("takes", *(name for name in vars(Searcher) if not name.startswith("_") and name != "takes"))

for _name in search.__all__:  # search/ knows no registry, hence no torch
    if _name.endswith("Searcher") and _name != "Searcher":
        SEARCHERS.register_module(module=getattr(search, _name), force=True)


def searcher_class(config: Mapping[str, Any]) -> type:
    """The class that ``type`` names.

    Raises:
        UserError: It is unknown, or does not say which limits it takes.
    """
    kind = str(config["type"]).removeprefix(f"{SEARCHERS.scope}.")
    if kind not in SEARCHERS.module_dict:
        options = ", ".join(SEARCHERS.module_dict)
        raise UserError(
            f"search_cfg.searcher: unknown type {short(kind)}{nearest(kind[:80], SEARCHERS.module_dict)} ({options})"
        )
    cls = SEARCHERS.module_dict[kind]
    takes = getattr(cls, "takes", None)
    if not isinstance(takes, tuple) or not set(takes) <= set(LIMITS):
        raise UserError(
            f"search_cfg.searcher ({kind}): the class must say which limits it takes, such as takes = ('budgets',) or "
            "(), see mmrazor_lite.search.Searcher"
        )
    return cls


def build_searcher(
    cls: type, config: Mapping[str, Any], space: SearchSpace, cost: Cost, seed: int, limits: Limits
) -> Searcher:
    """Call ``cls`` with the options of ``config`` and with what the search gives.

    Raises:
        UserError: An option that it does not have, or that the search sets; a class that is no searcher.
    """
    where = f"search_cfg.searcher ({cls.__name__})"
    options = {key: value for key, value in config.items() if key != "type"}
    given = {"space": space, "cost": cost, **limits}
    ours = ", ".join(given)
    for key in options:
        if key in ("space", "cost", "seed", "budgets", "constraints"):
            fix = {"seed": "; give --seed", "budgets": "; give target_*", "constraints": "; give constraints_range"}
            raise UserError(f"{where}: '{key}' is set by the search{fix.get(key, '; leave it out')}")
    parameters, takes_any = _parameters(cls)
    lacks = next((key for key in given if key not in parameters), None)
    if lacks is not None and not takes_any:
        raise UserError(
            f"{where}: the class takes no '{lacks}'; a search calls it with {ours} and its own options, see "
            "mmrazor_lite.search.Searcher"
        )
    if "seed" in parameters or takes_any:
        given["seed"] = seed
    check_arguments(cls, options, where, given)
    searcher = cls(**options, **given)
    lacks = next((name for name in _PARTS if not hasattr(searcher, name)), None)
    if lacks is not None:
        raise UserError(f"{where}: it is no searcher, it has no '{lacks}', see mmrazor_lite.search.Searcher")
    return searcher


def check_arguments(
    call: Callable, arguments: Mapping[str, Any], where: str, given: Mapping[str, Any] | None = None
) -> None:
    """Refuse what ``call`` does not take, and what it needs and does not get.

    Args:
        call: A class or function.
        arguments: What the config says.
        where: The beginning of errors.
        given: Arguments that do not come from the config, and are none of its business.
    """
    parameters, takes_any = _parameters(call)
    allowed = [name for name in parameters if name not in (given or {})]
    for key in arguments:
        if key not in allowed and not takes_any:
            names = ", ".join(allowed) or "no options"
            raise UserError(f"{where}: unknown key {short(key)}{nearest(str(key)[:80], allowed)} (allowed: {names})")
    for key in allowed:
        if parameters[key].default is inspect.Parameter.empty and key not in arguments:
            raise UserError(f"{where}: the key '{key}' is missing")


def _parameters(call: Callable) -> tuple[dict[str, inspect.Parameter], bool]:
    """The named parameters, and whether any others are taken too."""
    found = inspect.signature(call).parameters
    named = {
        name: parameter
        for name, parameter in found.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return named, any(parameter.kind is parameter.VAR_KEYWORD for parameter in found.values())
