"""Recalibration of a plain network, with images in the place of preprocessed batches."""

import torch
from torch import nn

from mmrazor_lite.models.calibration import recalibrate


def test_statistics_of_a_plain_network_are_averages_over_its_images():
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3))
    batches = [(torch.randn(8, 3, 5, 5) + index, None) for index in range(3)]
    recalibrate(network, batches)
    means = torch.stack([images.mean((0, 2, 3)) for images, _ in batches])
    variances = torch.stack([images.transpose(0, 1).flatten(1).var(1) for images, _ in batches])
    assert torch.allclose(network[0].running_mean, means.mean(0), atol=1e-6)
    assert torch.allclose(network[0].running_var, variances.mean(0), atol=1e-6)
    assert network[0].momentum == 0.3 and not network.training
