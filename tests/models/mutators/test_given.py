"""Widths that a user asks for: any that a group can have, and nothing else."""

from __future__ import annotations

import pytest

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import WidthGroup
from mmrazor_lite.models.mutables import MutableChannel
from mmrazor_lite.models.mutators.given import as_subnet, check_widths

MUTABLES = {
    "conv": MutableChannel(WidthGroup("conv", 8, 1, ("conv",)), (4, 8)),
    "heads": MutableChannel(WidthGroup("heads", 3, 4, ("heads",)), (4, 12)),
}


def test_any_width_that_a_group_can_have():
    for conv in range(1, 9):
        check_widths(as_subnet({"conv": conv, "heads": 8}), MUTABLES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"conv": 4}, "choice 'heads' is missing (allowed: 4 to 12 in steps of 4)"),
        ({"conv": 0, "heads": 4}, "choice 'conv' cannot be 0 (allowed: 1 to 8)"),
        ({"conv": 9, "heads": 4}, "choice 'conv' cannot be 9 (allowed: 1 to 8)"),
        ({"conv": 4, "heads": 6}, "choice 'heads' cannot be 6 (allowed: 4 to 12 in steps of 4)"),
        ({"conv": 4.0, "heads": 4}, "choice 'conv' cannot be 4.0 (allowed: 1 to 8)"),
        ({"conv": 4, "heads": 4, "head": 4}, "unknown choice 'head' (did you mean 'heads'?)"),
        ({"conv": [4], "heads": 4}, "choice 'conv' cannot be [4]: one number or name is needed"),
        ([4, 4], "a subnet maps the names of choices to candidates, got [4, 4]"),
    ],
)
def test_what_is_none_is_told(given, message):
    with pytest.raises(UserError) as error:
        check_widths(as_subnet(given), MUTABLES)
    assert str(error.value) == message
