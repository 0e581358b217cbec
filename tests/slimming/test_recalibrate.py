"""Batch-norm recalibration of a network that was cut: taken where it helps, and nothing changed where it does not."""

import copy

import torch
from torch import nn

from mmrazor_lite.models.calibration import recalibrate
from mmrazor_lite.slimming.recalibrate import recalibrate_if_better


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4))


def images(*sizes: int) -> list:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(size, 3, 8, 8, generator=generator), None) for size in sizes]


def test_statistics_that_are_far_off_are_measured_anew():
    full = network()
    recalibrate(full, images(16, 16))
    small = copy.deepcopy(full)
    with torch.no_grad():
        small[1].running_mean += 1.0
    result = recalibrate_if_better(small, full, images(16, 16))
    assert result.taken and result.after < 1e-10 < result.before


def test_statistics_of_more_images_stay_whole():
    full = network()
    recalibrate(full, images(64, 64, 64, 64))
    small = copy.deepcopy(full)
    result = recalibrate_if_better(small, full, images(16, 16))
    assert not result.taken and result.before == 0.0 < result.after
    for name, tensor in full.state_dict().items():
        assert torch.equal(tensor, small.state_dict()[name])
    assert not small.training


def test_a_smaller_last_batch_does_not_count_for_more():
    full = network()
    recalibrate(full, images(16, 16))
    small = copy.deepcopy(full)
    with torch.no_grad():
        small[1].running_mean += 1.0
    assert recalibrate_if_better(small, full, images(16, 16, 1)).taken
    assert torch.allclose(small[1].running_mean, full[1].running_mean)


def test_without_norms_there_is_nothing_to_measure():
    full = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert not recalibrate_if_better(copy.deepcopy(full), full, images(4)).taken
