"""The networks of AutoSlim's CIFAR-10 tables; their costs are in ``tests/estimators``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.backbones import CifarWideResNet, cifar_mobilenet_v2, cifar_resnet

IMAGES = torch.zeros(2, 3, 32, 32)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (lambda: cifar_resnet(20), (2, 64, 8, 8)),
        (lambda: cifar_resnet(20, widen_factor=0.25), (2, 16, 8, 8)),
        (lambda: CifarWideResNet(16, 2), (2, 128, 8, 8)),
        (lambda: CifarWideResNet(16, 1, widen_factor=0.5), (2, 32, 8, 8)),
        (lambda: cifar_mobilenet_v2(0.25), (2, 320, 4, 4)),
    ],
)
def test_shapes(net, shape):
    net = net()
    (out,) = net(IMAGES)
    assert out.shape == shape
    assert net.out_channel == shape[1]


def test_a_resnet_holds_no_class_of_this_project():
    for net in (cifar_resnet(20), cifar_mobilenet_v2(0.25)):
        assert not any(type(module).__module__.startswith("mmrazor_lite") for module in net.modules())


def test_depth_counts_layers_as_the_papers_do():
    def convolutions(net: nn.Module) -> list[str]:
        return [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]

    for depth in (20, 32):  # the classifier counts, what is beside a block does not
        assert sum("downsample" not in name for name in convolutions(cifar_resnet(depth))) + 1 == depth
    for depth in (16, 22):  # the other way round
        assert len(convolutions(CifarWideResNet(depth))) == depth


def test_pre_activation_reads_the_raw_input_beside():
    """Zeroed convolutions leave what the shortcuts carry: a linear function of the image, then norm and ReLU."""
    net = CifarWideResNet(16, 1).eval().double()
    for name, module in net.named_modules():
        if name.endswith("conv2"):
            nn.init.zeros_(module.weight)
    net.norm = nn.Identity()
    one, two = (torch.randn(1, 3, 32, 32, dtype=torch.float64) for _ in range(2))

    def carried(images):
        return net.layer3(net.layer2(net.layer1(net.conv1(images))))

    torch.testing.assert_close(carried(one) + carried(two), carried(one + two))


def test_every_block_of_mobilenet_v2_expands():
    net = cifar_mobilenet_v2()
    first = net.layer1[0]
    assert [conv.conv.kernel_size for conv in first.conv] == [(1, 1), (3, 3), (1, 1)]
    assert [conv.with_activation for conv in first.conv] == [True, True, False]
    assert all(len(block.conv) == 3 for name in net.layers[:-1] for block in getattr(net, name))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cifar_resnet(49), r"depth=49, it must be 6n\+2: 8, 14, 20"),
        (lambda: cifar_resnet(2), "depth=2"),
        (lambda: CifarWideResNet(20), r"6n\+4"),
        (lambda: CifarWideResNet(16, widen_factor=0.01), "every width needs a channel"),
        (lambda: cifar_resnet(20, widen_factor="half"), "'half'"),
        (lambda: cifar_mobilenet_v2(settings=[(1, 16, 1)]), "each stage is"),
        (lambda: cifar_mobilenet_v2(settings=[(0, 16, 1, 1)]), "four positive integers"),
    ],
)
def test_bad_options_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()
