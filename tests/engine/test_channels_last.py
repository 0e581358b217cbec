"""``channels_last`` is refused where the CPU damages memory, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmrazor_lite.engine.channels_last import check_channels_last
from mmrazor_lite.errors import UserError


def config_of(run_config, channels_last: bool = True) -> dict:
    config = run_config(channels_last=channels_last)
    architecture = config["model"]["architecture"]
    architecture["backbone"] = {"type": "mmrazor_lite.CifarResNet", "depth": 8}
    architecture["head"]["in_channels"] = 64
    config["model"]["input_shape"] = (3, 16, 16)
    return config


def test_a_supernet_whose_smallest_subnet_has_such_a_layer_is_refused(runner, run_config):
    config = config_of(run_config)
    config["model"]["mutator"]["candidate_choices"] = [0.25, 1.0]
    with pytest.raises(UserError, match=r"layer2.0.downsample.0', .* with 4 input channels .* channels_last=False"):
        runner(config)


def test_wider_ones_are_taken(runner, run_config):
    config = config_of(run_config)
    config["model"]["mutator"]["candidate_choices"] = [0.5, 1.0]
    algorithm = runner(config).algorithm
    assert algorithm.mutator.active == algorithm.search_space.max()
    assert algorithm.channels_last


@pytest.mark.parametrize(
    ("layer", "refused"),
    [
        (nn.Conv2d(7, 16, 1, stride=2), True),
        (nn.Conv2d(8, 16, 1, stride=2), False),
        (nn.Conv2d(4, 16, 1), False),
        (nn.Conv2d(4, 16, 3, stride=2, padding=1), False),
        (nn.Conv2d(4, 4, 1, stride=2, groups=4), False),
    ],
)
def test_plain_networks(layer, refused, monkeypatch):
    model = nn.Sequential(layer)
    if refused:
        with pytest.raises(UserError, match="'0', a strided 1x1"):
            check_channels_last(model)
    else:  # what is taken must run
        check_channels_last(model)
        model.to(memory_format=torch.channels_last)
        images = torch.randn(8, layer.in_channels, 16, 16).contiguous(memory_format=torch.channels_last)
        for _ in range(3):
            model(images).sum().backward()
    monkeypatch.setattr("mmrazor_lite.engine.channels_last.get_device", lambda: "cuda")
    check_channels_last(model)
