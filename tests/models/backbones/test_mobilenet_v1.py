"""MobileNet v1."""

from __future__ import annotations

import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.backbones import MobileNetV1


def test_shapes():
    net = MobileNetV1(0.25, blocks=[(64, 1), (128, 2)], stem_stride=1)
    (out,) = net(torch.zeros(2, 3, 16, 16))
    assert out.shape == (2, 32, 8, 8)


def test_parameters_of_the_paper():
    """4.2 M with the classifier (arXiv:1704.04861, table 8); 4,231,976 to the digit in slimmable_networks."""
    assert sum(p.numel() for p in MobileNetV1().parameters()) == 4_231_976 - 1_025_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widen_factor": 0}, "widen_factor=0 must be a number above 0"),
        ({"widen_factor": "1"}, "widen_factor='1'"),
        ({"blocks": [(64, 1), (128, 2, 1)]}, r"blocks has \(128, 2, 1\), each block is two positive integers"),
        ({"blocks": [(64, 0)]}, "two positive integers"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        MobileNetV1(**options)
