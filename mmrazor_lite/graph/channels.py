"""How one side of a layer is made of width groups.

Shape letters: C channels of a side, S subnets, D width groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

FIXED = -1


@dataclass(frozen=True)
class WidthGroup:
    """Channels that are kept or dropped together.

    The group is a row of ``units``; a subnet keeps the first n of them. ``unit`` is how many output channels of the
    naming layer one unit stands for (more than 1 behind a group conv, a group norm or a channel shuffle), so the
    width is n * unit and the full width units * unit. ``producers`` make the channels; ``members`` only pass them on.
    """

    name: str
    units: int
    unit: int
    producers: tuple[str, ...]
    members: tuple[str, ...] = ()

    @property
    def full(self) -> int:
        return self.units * self.unit


@dataclass(frozen=True, eq=False)
class Side:
    """The input or output channels of a layer or tensor, in order.

    ``group`` (C,) is the index of the width group of each channel, :data:`FIXED` where it always stays; ``unit`` (C,)
    its unit inside the group. A channel is active when its unit is below the number of units its group keeps.
    """

    group: np.ndarray
    unit: np.ndarray
    counts: dict[int, int] = field(init=False)  # group -> channels of this side per unit of the group
    constant: int = field(init=False)

    def __post_init__(self) -> None:
        counts: dict[int, int] = {}
        for index in np.unique(self.group):
            if index != FIXED:
                mask = self.group == index
                counts[int(index)] = int(mask.sum()) // (int(self.unit[mask].max()) + 1)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "constant", int((self.group == FIXED).sum()))

    @staticmethod
    def fixed(size: int) -> Side:
        """A side that always has all its ``size`` channels."""
        return Side(np.full(size, FIXED, np.int64), np.zeros(size, np.int64))

    def __len__(self) -> int:
        return len(self.group)

    def renumbered(self, offset: int) -> Side:
        """The same side where the groups of its graph come after ``offset`` others."""
        return Side(np.where(self.group == FIXED, FIXED, self.group + offset), self.unit)

    @property
    def is_fixed(self) -> bool:
        return not self.counts

    def key(self) -> tuple[bytes, bytes]:
        """Equal for sides that keep the same positions in every subnet."""
        return self.group.tobytes(), self.unit.tobytes()

    def active(self, kept: np.ndarray) -> np.ndarray:
        """Mask (C,) of the channels that stay when group d keeps ``kept[d]`` units."""
        limits = np.append(np.asarray(kept, np.int64), np.iinfo(np.int64).max)  # FIXED indexes the last entry
        return self.unit < limits[self.group]
