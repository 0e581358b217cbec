"""Which widths a group offers."""

from __future__ import annotations

import math

import pytest

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import WidthGroup
from mmrazor_lite.models.mutators.candidates import CandidateRule, any_width, rule_for


def group(full: int, unit: int = 1, name: str = "conv") -> WidthGroup:
    return WidthGroup(name, full // unit, unit, (name,))


def widths(full: int, unit: int = 1, **options: object) -> tuple[int, ...]:
    return CandidateRule(**options).widths(group(full, unit))


@pytest.mark.parametrize("full", [24, 40, 48])
def test_rounded_widths_come_once(full):
    """Eleven ratios of a narrow layer round to few multiples of 8; repeats would bias sampling and waste steps."""
    found = widths(full)
    assert list(found) == sorted(set(found)) == list(range(8, full + 1, 8))


def test_ratios_of_a_wide_layer():
    assert widths(240, divisor=1) == tuple(20 * i for i in range(2, 13))
    assert widths(240) == (40, 64, 80, 104, 120, 144, 160, 184, 200, 224, 240)
    assert all(width % 8 == 0 and width >= 0.9 * 240 * i / 12 for i, width in enumerate(widths(240), 2))


def test_rounding_keeps_at_least_the_given_share():
    assert widths(100, candidate_choices=[0.19], divisor=8, min_ratio=0.9) == (24, 100)
    assert widths(100, candidate_choices=[0.19], divisor=8, min_ratio=0.8) == (16, 100)


def test_numbers():
    assert widths(64, candidate_choices=[16, 30, 64], choice_mode="number") == (16, 32, 64)
    assert widths(64, candidate_choices=[16], choice_mode="number") == (16, 64)  # the full width is always offered


def test_smallest_width():
    assert widths(64, candidate_choices=[0.1], min_value=20) == (20, 64)
    assert widths(64, candidate_choices=[0.01], divisor=8) == (8, 64)
    assert widths(4, divisor=8) == (2, 4)  # a divisor above the width would leave nothing to choose


@pytest.mark.parametrize("full", [6, 12, 24, 40, 48, 96])
@pytest.mark.parametrize("unit", [1, 3])
def test_a_larger_divisor_makes_no_width_less_aligned(full, unit):
    full *= unit
    powers = []
    for divisor in (1, 2, 4, 8, 16, 32, 64, 128):
        narrower = [width for width in widths(full, unit, divisor=divisor) if width != full]
        assert narrower, divisor
        aligned = math.gcd(*narrower)
        powers.append(aligned & -aligned)  # the power of two in it
    assert powers == sorted(powers)


def test_what_is_above_every_width_is_refused():
    for options in ({"divisor": 100_000}, {"min_value": 100_000}, {"divisor": 10**30}):
        with pytest.raises(UserError, match=f"mutator.{next(iter(options))}=.*the widest is 64") as error:
            CandidateRule(**options).check_widest(64, "mutator")
        assert len(str(error.value)) < 200
    CandidateRule(divisor=8).check_widest(4, "mutator")  # the default is nobody's wish


@pytest.mark.parametrize("full, unit", [(48, 3), (96, 4), (80, 5), (90, 9)])
def test_widths_are_whole_units(full, unit):
    found = widths(full, unit)
    assert found[-1] == full and all(width % unit == 0 for width in found) and len(found) > 1
    assert any_width(group(full, unit)) == range(unit, full + 1, unit)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"candidate_choices": []}, "give ratios in .0, 1. or numbers of channels"),
        ({"candidate_choices": [0.5, 1.5]}, "choice_mode='number'"),
        ({"candidate_choices": [0]}, "give a number above 0"),
        ({"candidate_choices": ["half"]}, "give a number above 0"),
        ({"candidate_choices": [True]}, "give a number above 0"),
        ({"candidate_choices": [float("nan")]}, "give a number above 0"),
        ({"choice_mode": "percent"}, "allowed are 'ratio', 'number'"),
        ({"divisor": 0}, "divisor=0"),
        ({"divisor": True}, "divisor=True"),
        ({"min_value": -5}, "min_value=-5"),
        ({"min_ratio": 5}, "min_ratio=5: give a number from 0 to 1"),
    ],
)
def test_bad_rules_are_refused_when_built(options, words):
    with pytest.raises(UserError, match=words):
        CandidateRule(**options)


def test_a_number_above_the_full_width_is_refused_with_the_group():
    with pytest.raises(UserError, match=r"72 is above the full width 64 of group 'conv'"):
        widths(64, candidate_choices=[72], choice_mode="number")


def test_units_override_by_pattern_and_the_first_match_counts():
    default = CandidateRule()
    units = {"layer1.*": {"divisor": 4}, "layer*": {"candidate_choices": [16], "choice_mode": "number"}}
    assert rule_for(group(32, name="layer1.conv"), default, units).divisor == 4
    assert rule_for(group(32, name="layer2.conv"), default, units).widths(group(32)) == (16, 32)
    assert rule_for(group(32, name="stem"), default, units) is default
    with pytest.raises(UserError, match=r"unknown key 'devisor'.*divisor"):
        rule_for(group(32, name="stem"), default, {"stem": {"devisor": 2}})


@pytest.mark.parametrize(("full", "unit"), [(16, 1), (144, 1), (96, 6), (30, 5)])
def test_the_nearest_width_to_a_share_is_what_the_share_offers_as_a_candidate(full, unit):
    for percent in range(1, 101):
        share = percent / 100
        rule = CandidateRule(candidate_choices=[share])
        nearest = rule.nearest(group(full, unit), share * full)
        assert rule.widths(group(full, unit)) == tuple(sorted({nearest, full}))
        assert nearest % unit == 0 and min(0.9 * share * full, full) <= nearest <= full


def test_widths_that_grow_with_a_share_never_shrink():
    rule = CandidateRule()
    widths = [rule.nearest(group(240), i / 100 * 240) for i in range(1, 101)]
    assert widths == sorted(widths) and widths[-1] == 240
