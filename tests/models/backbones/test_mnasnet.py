"""torchvision's MNASNet with a last convolution that widens with it."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import MNASNet

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.backbones import mnasnet


def test_without_another_width_it_is_torchvisions():
    torch.manual_seed(0)
    ours = mnasnet(0.25, num_classes=7)
    torch.manual_seed(0)
    theirs = MNASNet(0.25, 7)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_a_wider_last_convolution_changes_nothing_else():
    ours, theirs = mnasnet(0.25, last_channels=48, num_classes=7), MNASNet(0.25, 7)
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    changed = {name for name, value in ours.state_dict().items() if value.shape != shapes[name]}
    assert changed == {
        "layers.14.weight",
        *(f"layers.15.{key}" for key in ("weight", "bias", "running_mean", "running_var")),
        "classifier.1.weight",
    }
    assert type(ours) is MNASNet and ours.layers[15].momentum == theirs.layers[15].momentum
    fan_out = ours.layers[14].weight.shape[0]
    assert ours.layers[14].weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    assert ours(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha=0 must be a number above 0"),
        ({"alpha": True}, "alpha=True"),
        ({"last_channels": 0}, "last_channels=0 must be a whole number of 1 or more"),
        ({"last_channels": 64.5}, "last_channels=64.5"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        mnasnet(**options)
