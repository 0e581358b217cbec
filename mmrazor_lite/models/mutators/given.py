"""What callers give for a subnet, judged before a layer sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.models.mutables import MutableChannel
from mmrazor_lite.subnet import Subnet


def as_subnet(given: Any) -> Subnet:
    """Return ``given`` as a subnet.

    Raises:
        UserError: It maps no names to plain values.
    """
    if isinstance(given, Subnet):
        return given
    if not isinstance(given, Mapping):
        raise UserError(f"a subnet maps the names of choices to candidates, got {short(given)}")
    try:
        return Subnet(given)
    except TypeError:  # a list, or a mapping again
        name = next(name for name, value in given.items() if isinstance(value, (list, dict, set)))
        raise UserError(f"choice '{name}' cannot be {short(given[name])}: one number or name is needed") from None


def check_widths(subnet: Subnet, mutables: Mapping[str, MutableChannel]) -> None:
    """Check that every group has a width that it can have; any such width, whether it is a candidate or not.

    Raises:
        UserError: One is missing, unknown or impossible.
    """
    for name, mutable in mutables.items():
        width, group = subnet.get(name), mutable.group
        if type(width) is not int or not 0 < width <= group.full or width % group.unit:
            steps = f" in steps of {group.unit}" if group.unit > 1 else ""
            problem = f"cannot be {short(width)}" if name in subnet else "is missing"
            raise UserError(f"choice '{name}' {problem} (allowed: {group.unit} to {group.full}{steps})")
    if len(subnet) > len(mutables):
        name = next(name for name in subnet if name not in mutables)
        raise UserError(f"unknown choice {short(name)}{nearest(name, mutables)}")
