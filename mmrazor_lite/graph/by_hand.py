"""Width groups that the user gives by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from mmrazor_lite.errors import UserError, nearest

from .ids import CONSTANT
from .propagate import Propagation


def named_groups(flow: Propagation, by_hand: Sequence[Mapping]) -> list[dict[str, list[str]]]:
    """Groups given by hand with their patterns replaced by the names of layers, in network order."""
    named = []
    for number, group in enumerate(by_hand):
        unknown = set(group) - {"out", "into"}
        if unknown or "out" not in group or not group["out"]:
            raise UserError(f"groups[{number}]: expected dict(out=[layers], into=[layers]), got keys {sorted(group)}")
        named.append({})
        for key, patterns in group.items():
            for pattern in patterns:
                found = [name for name in flow.layers if name == pattern or fnmatchcase(name, pattern)]
                if not found:
                    raise UserError(
                        f"groups[{number}]: no conv, linear or norm named '{pattern}' was reached in the traced model"
                        f"{nearest(pattern, flow.layers)}"
                    )
                named[-1][key] = list(dict.fromkeys([*named[-1].get(key, []), *found]))
    return named


def tie_groups(flow: Propagation, by_hand: Sequence[Mapping]) -> None:
    """Tie the channels of each group, and those of its readers to them."""
    for number, group in enumerate(by_hand):
        first = flow.layers[group["out"][0]][1]
        for name in group["out"][1:]:
            other = flow.layers[name][1]
            if len(other) != len(first):
                raise UserError(
                    f"groups[{number}]: '{name}' has {len(other)} channels, '{group['out'][0]}' has {len(first)}; "
                    "layers of one group must have the same width"
                )
            flow.book.join(first, other, "given by hand")
        for name in group.get("into", ()):
            inputs, outputs = flow.layers[name]
            if (inputs == CONSTANT).all() and len(inputs) % len(first) == 0:
                flow.layers[name] = (first.repeat_interleave(len(inputs) // len(first)), outputs)
            elif len(inputs) == len(first):
                flow.book.join(first, inputs, "given by hand")
            else:
                raise UserError(f"groups[{number}]: '{name}' reads {len(inputs)} channels, the group has {len(first)}")
