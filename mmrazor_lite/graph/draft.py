"""Width groups while they are being formed: split where readers take some of their units only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .channels import Side, WidthGroup


@dataclass
class Draft:
    """Groups, and the (group, unit) of every component that is in one."""

    groups: list[WidthGroup]
    place: dict[int, tuple[int, int]]

    def uneven(self, sides: Sequence[Side]) -> set[int]:
        """Groups of which a side holds some units more often than others."""
        return {index for side in sides for index in side.counts if len(set(self._found(index, side).tolist())) > 1}

    def classes(self, index: int, sides: Sequence[Side]) -> list[int]:
        """Class of each unit of a group, from 0: units that every side takes equally often are of one class."""
        found = [self._found(index, side).tolist() for side in sides if index in side.counts]
        signatures = list(zip(*found, strict=True))
        order = {signature: number for number, signature in enumerate(dict.fromkeys(signatures))}
        return [order[signature] for signature in signatures]

    def _found(self, index: int, side: Side) -> np.ndarray:
        """How often a side has each unit of a group."""
        return np.bincount(side.unit[side.group == index], minlength=self.groups[index].units)

    def split(self, parts: Mapping[int, Sequence[int]], outputs: Mapping[str, np.ndarray]) -> Draft:
        """Groups of the classes of their units; a class of one unit has no choice and gets none.

        Args:
            parts: Group -> the class of each of its units.
            outputs: Layer -> the component of each channel that it makes.
        """
        made: list[WidthGroup] = []
        moved: dict[tuple[int, int], tuple[int, int]] = {}
        for index, group in enumerate(self.groups):
            classes = parts.get(index, [0] * group.units)
            for number in range(max(classes) + 1):
                row = [unit for unit, kind in enumerate(classes) if kind == number]
                if len(row) < 2:
                    continue
                moved.update({(index, unit): (len(made), rank) for rank, unit in enumerate(row)})
                first = next(c for c, at in self.place.items() if at == (index, row[0]))
                unit = int((outputs[group.producers[0]] == first).sum())
                name = group.name if index not in parts else free_name(group.producers, made)
                made.append(WidthGroup(name, len(row), unit, group.producers, group.members))
        return Draft(made, {c: moved[at] for c, at in self.place.items() if at in moved})

    def without(self, dropped: Collection[int]) -> Draft:
        """The other groups."""
        kept = [index for index in range(len(self.groups)) if index not in dropped]
        moved = {old: new for new, old in enumerate(kept)}
        place = {c: (moved[group], unit) for c, (group, unit) in self.place.items() if group in moved}
        return Draft([self.groups[index] for index in kept], place)


def free_name(producers: Sequence[str], groups: Sequence[WidthGroup]) -> str:
    """The first producer's name, with a number behind it where a group has it already: one layer may feed several."""
    taken = {group.name for group in groups}
    name, number = producers[0], 1
    while name in taken:
        number += 1
        name = f"{producers[0]}#{number}"
    return name
