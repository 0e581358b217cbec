"""The backbone for small images."""

from __future__ import annotations

import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.backbones import inverted_residual_net


def test_shapes_and_residuals():
    net = inverted_residual_net([(1, 8, 1, 1), (4, 16, 2, 2)], stem_channels=8, last_channels=24)
    (out,) = net(torch.zeros(2, 3, 16, 16))
    assert out.shape == (2, 24, 8, 8)
    blocks = [*net.layer1, *net.layer2]
    assert [block.use_res_connect for block in blocks] == [True, False, True]
    assert not any(type(module).__module__.startswith("mmrazor_lite") for module in net.modules())


def test_defaults_are_mobilenet_v2():
    settings = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    net = inverted_residual_net(settings, stem_stride=2)
    # MobileNetV2 has 3,504,872 parameters, 1,281,000 of them in its classifier (torchvision).
    assert sum(p.numel() for p in net.parameters()) == 3_504_872 - 1_281_000


@pytest.mark.parametrize("stage", [(1, 8, 1), (1, 8, 0, 1), (1, 8.5, 1, 1)])
def test_stage_is_four_positive_integers(stage):
    with pytest.raises(UserError, match="four positive integers"):
        inverted_residual_net([stage])
