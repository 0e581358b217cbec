"""The widths a group may take: ratios or numbers, rounded to what the hardware and the groups allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from mmrazor_lite.errors import UserError, check_number, check_one_of, nearest, short
from mmrazor_lite.graph import WidthGroup

TWELFTHS = tuple(i / 12 for i in range(2, 13))


@dataclass(frozen=True)
class CandidateRule:
    """Which widths to offer.

    Args:
        candidate_choices: ratios of the full width in (0, 1], or numbers of channels.
        choice_mode: ``'ratio'`` or ``'number'``.
        divisor: widths are rounded to its multiples (to the nearest, but not below ``min_ratio`` of the value). Of a
            group that is too narrow for it, widths are multiples of the largest number that divides it and fits.
        min_value: no width below this.
        min_ratio: how much of a value rounding may keep at least; from 0 to 1.
    """

    candidate_choices: Sequence[float] = TWELFTHS
    choice_mode: str = "ratio"
    divisor: int = 8
    min_value: int = 1
    min_ratio: float = 0.9

    def __post_init__(self) -> None:
        check_one_of("choice_mode", self.choice_mode, ("ratio", "number"))
        if isinstance(self.candidate_choices, str) or not self.candidate_choices:
            raise UserError(
                f"candidate_choices={short(self.candidate_choices)}: give ratios in (0, 1] or numbers of channels"
            )
        check_number("divisor", self.divisor, 1, whole=True)
        check_number("min_value", self.min_value, 1, whole=True)
        check_number("min_ratio", self.min_ratio, 0, 1)
        for value in self.candidate_choices:
            check_number("candidate_choices", value, 0, above=True)
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
        step = self._step(full, unit)
        lowest = math.ceil(min(max(self.min_value, unit), full) / unit) * unit
        width = max(step, int(target + step / 2) // step * step)
        if width < self.min_ratio * target:
            width += step
        return min(full, max(lowest, width))

    def _step(self, full: int, unit: int) -> int:
        """What widths of a group are multiples of: the divisor, or of its divisors the largest that leaves a choice."""
        for part in range(min(self.divisor, full), 0, -1):
            step = math.lcm(part, unit)
            whole = part == self.divisor and step == full and not 1 < unit < full
            if self.divisor % part == 0 and (step < full or whole):
                return step
        return unit

    def check_widest(self, widest: int, where: str) -> None:
        """Raise ``UserError`` where no group is as wide as an option asks for: it would change nothing.

        Args:
            widest: Channels of the widest of the groups that the rule is for.
            where: The key of the rule, for the message.
        """
        for name, value in (("divisor", self.divisor), ("min_value", self.min_value)):
            default = type(self).__dataclass_fields__[name].default
            if value > max(widest, default):
                raise UserError(f"{where}.{name}={short(value)} is above every width, the widest is {widest}: lower it")

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
