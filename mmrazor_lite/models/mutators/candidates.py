"""The widths a group may take: ratios or numbers, rounded to what the hardware and the groups allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.graph import WidthGroup

TWELFTHS = tuple(i / 12 for i in range(2, 13))


@dataclass(frozen=True)
class CandidateRule:
    """Which widths to offer.

    Args:
        candidate_choices: ratios of the full width in (0, 1], or numbers of channels.
        choice_mode: ``'ratio'`` or ``'number'``.
        divisor: widths are rounded to its multiples (to the nearest, but not below ``min_ratio`` of the value).
        min_value: no width below this.
        min_ratio: how much of a value rounding may keep at least.
    """

    candidate_choices: Sequence[float] = TWELFTHS
    choice_mode: str = "ratio"
    divisor: int = 8
    min_value: int = 1
    min_ratio: float = 0.9

    def __post_init__(self) -> None:
        if self.choice_mode not in ("ratio", "number"):
            raise UserError(f"choice_mode='{self.choice_mode}': allowed are 'ratio' and 'number'")
        if not self.candidate_choices:
            raise UserError("candidate_choices is empty: give ratios in (0, 1] or numbers of channels")
        if not isinstance(self.divisor, int) or self.divisor < 1:
            raise UserError(f"divisor={self.divisor!r}: a whole number of at least 1 is needed")
        for value in self.candidate_choices:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise UserError(f"candidate_choices: {value!r} is not a number above 0")
            if self.choice_mode == "ratio" and value > 1:
                raise UserError(
                    f"candidate_choices: ratio {value!r} is above 1; for numbers of channels set choice_mode='number'"
                )

    def widths(self, group: WidthGroup) -> tuple[int, ...]:
        """Ascending widths of a group without repeats, each a multiple of its unit; the full width is always one."""
        full = group.full
        widths = {full}
        for value in self.candidate_choices:
            target = value * full if self.choice_mode == "ratio" else value
            if target > full:
                raise UserError(f"candidate_choices: {value:g} is above the full width {full} of group '{group.name}'")
            widths.add(self.nearest(group, target))
        return tuple(sorted(widths))

    def nearest(self, group: WidthGroup, target: float) -> int:
        """The width of a group that rounding makes of ``target`` channels, at most its full width."""
        full, unit = group.full, group.unit
        step = math.lcm(self.divisor, unit)
        if step > full or (step == full and 1 < unit < full):  # the divisor would leave nothing to choose
            step = unit
        lowest = math.ceil(min(max(self.min_value, unit), full) / unit) * unit
        width = max(step, int(target + step / 2) // step * step)
        if width < self.min_ratio * target:
            width += step
        return min(full, max(lowest, width))

    def with_options(self, options: dict) -> CandidateRule:
        unknown = set(options) - set(self.__dataclass_fields__)
        if unknown:
            name = sorted(unknown)[0]
            raise UserError(
                f"unknown key '{name}' for width candidates{nearest(name, self.__dataclass_fields__)}; "
                f"allowed: {', '.join(self.__dataclass_fields__)}"
            )
        return replace(self, **options)


def rule_for(group: WidthGroup, default: CandidateRule, units: dict[str, dict]) -> CandidateRule:
    """The rule of one group: the first pattern in ``units`` that matches its name, else the default."""
    for pattern, options in units.items():
        if fnmatchcase(group.name, pattern):
            return default.with_options(options)
    return default


def any_width(group: WidthGroup) -> range:
    """Every width the group can take at all."""
    return range(group.unit, group.full + 1, group.unit)
