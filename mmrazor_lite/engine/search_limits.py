"""What a search config says about limits: budgets for a searcher that goes down to them, constraints for one within."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.search import Budget, Constraint
from mmrazor_lite.subnet import RESOURCE_UNITS, parse_budget
from mmrazor_lite.subnet.budget import parse_range

LIMITS = ("budgets", "constraints")
Limits = dict[str, list]  # 'budgets' or 'constraints' -> what the searcher takes under that name


def read_limits(
    takes: Sequence[str],
    searcher: str,
    targets: Mapping[str, Any],
    ranges: Mapping[str, Any] | None,
    largest: Mapping[str, float],
) -> Limits:
    """Read the limits that a searcher takes, and refuse the others, which it would ignore.

    Args:
        takes: Of ``'budgets'`` and ``'constraints'``, what the class of searchers says.
        searcher: Its name, for errors.
        targets: Resource -> one budget, several or ``None``: the loop's ``target_*``.
        ranges: Resource -> range as :func:`parse_range` takes it, or ``None``: the loop's ``constraints_range``.
        largest: The largest cost of any subnet, by resource; resources that are not in it cannot be limited.

    Raises:
        UserError: None given, the other kind given, a resource without costs, and what the parsers refuse.
    """
    given = {resource: value for resource, value in targets.items() if value is not None}
    options = " or ".join(f"target_{resource}" for resource in targets)
    if given and "budgets" not in takes:
        first = next(iter(given))
        way = "which takes no limits; leave it out"
        if takes:
            way = f"which searches within constraints; give constraints_range=dict({first}=(0, LIMIT))"
        raise UserError(f"target_{first} is not for the {searcher}, {way}")
    if ranges is not None and "constraints" not in takes:
        way = f"which takes budgets; give {options}" if takes else "which takes no limits; leave it out"
        raise UserError(f"constraints_range is not for the {searcher}, {way}")
    limits: Limits = {}
    if "budgets" in takes:
        if not given:
            raise UserError(f"the search has no budget; give {options}")
        limits["budgets"] = _budgets(given, largest)
    if "constraints" in takes:
        if ranges is None and "budgets" not in takes:
            raise UserError(
                f"the {searcher} has no constraint; give constraints_range=dict(flops=(0, 330)), or {{}} for none"
            )
        limits["constraints"] = _constraints(ranges or {}, largest)
    return limits


def finite(limits: Limits) -> dict[str, list[list]]:
    """The limits as JSON data, with ``None`` for no upper bound."""
    return {kind: [[None if end == math.inf else end for end in limit] for limit in limits[kind]] for kind in limits}


def _budgets(targets: Mapping[str, Any], largest: Mapping[str, float]) -> list[Budget]:
    budgets = []
    for resource, values in targets.items():
        several = values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
        budgets += [Budget(resource, parse_budget(value, resource, largest[resource])) for value in several]
    if not budgets:
        raise UserError(f"the search has no budget; give {' or '.join(f'target_{key}' for key in targets)}")
    return budgets


def _constraints(ranges: Mapping[str, Any], largest: Mapping[str, float]) -> list[Constraint]:
    if not isinstance(ranges, Mapping):
        raise UserError(f"constraints_range must be such as dict(flops=(0, 330)), got {short(ranges)}")
    constraints = []
    for resource, value in ranges.items():
        if value is None:
            continue
        if resource not in RESOURCE_UNITS:
            known = ", ".join(largest)
            raise UserError(
                f"constraints_range: unknown resource '{resource}'{nearest(resource, largest)} (allowed: {known})"
            )
        if resource not in largest:
            fix = "give latency_table" if resource == "latency" else "leave it out"
            known = ", ".join(largest)
            raise UserError(
                f"constraints_range: what a subnet costs in {resource} is not known; {fix}, or limit one of {known}"
            )
        constraints.append(Constraint(resource, *parse_range(value, resource, largest.get(resource))))
    return constraints
