"""The order of channels in a network of Once-for-All: what sorting keeps, and what a phase sorts."""

from __future__ import annotations

import copy

import pytest
import torch
from elastic import BACKBONES, SHAPE, WIDTHS, Net, build, images
from oracles import assert_close
from torch import nn

from mmrazor_lite.models.algorithms import OFA
from mmrazor_lite.models.backbones.ofa_blocks import OFABlock
from mmrazor_lite.models.mutables import MutableDepth

ALL = pytest.mark.parametrize("name", BACKBONES)
PHASES = {None: (), "expand_1": (4,), "expand_2": (3, 4)}  # phase -> the ratios that those before have trained


@pytest.fixture(autouse=True)
def _classes(registered):
    return None


def made(name: str, phase: str | None = None) -> tuple[Net, OFA]:
    """The network before, and the algorithm that has it, in double precision."""
    net = build(name).double()
    plain = copy.deepcopy(net)
    options = {} if phase is None else {"phase": phase, "kd_ratio": 0.0}
    return plain, OFA(net, input_shape=SHAPE, **options)


def elastic_blocks(net: nn.Module) -> list[OFABlock]:
    return [module for module in net.modules() if isinstance(module, OFABlock) and module.is_elastic]


def importance(block: OFABlock) -> torch.Tensor:
    return block.point_linear.conv.weight.detach().abs().sum((0, 2, 3))


def se_importance(block: OFABlock) -> torch.Tensor:
    return block.depth_conv.se.expand.weight.detach().abs().sum((0, 2, 3))


def set_net(net: nn.Module, size: int, depth: int) -> nn.Module:
    for module in net.modules():
        if isinstance(module, OFABlock) and module.is_elastic:
            module.activate({"kernel_size": size})
        if isinstance(module, MutableDepth):
            module.active_depth = min(depth, module.depths[-1])
    return net


@ALL
@pytest.mark.parametrize("phase", [pytest.param(p, marks=[pytest.mark.wide] * (p != "expand_2")) for p in PHASES])
def test_sorting_changes_nothing_at_the_full_width(name, phase):
    net, algorithm = made(name, phase)
    algorithm.sort_channels()
    other = algorithm.architecture
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    for size in (3, 5, 7):  # one matrix for all channels: smaller kernels and depths stay, too
        for depth in (1, 3):
            for mode in (False, True):
                first, second = (set_net(copy.deepcopy(n), size, depth).train(mode)(images()) for n in (net, other))
                assert_close(first, second, 1e-12)


@ALL
def test_the_order_is_by_importance(name):
    net, algorithm = made(name)
    algorithm.mutator.activate(algorithm.search_space.min())
    algorithm.sort_channels()
    assert algorithm.mutator.active == algorithm.search_space.min()
    algorithm.mutator.activate(algorithm.search_space.max())
    for before, block in zip(elastic_blocks(net), elastic_blocks(algorithm.architecture), strict=True):
        weights = importance(before)
        assert_close(importance(block), weights.sort(descending=True).values, 1e-12)
        if block.use_se:
            assert_close(se_importance(block), se_importance(before).sort(descending=True).values, 1e-12)
        for ratio, width in WIDTHS[block.in_channels].items():  # what a smaller block keeps is the most important
            kept = importance(block)[:width].sum()
            assert kept == pytest.approx(weights.topk(block.inner_widths(ratio)[0]).values.sum().item(), rel=1e-12)


@ALL
@pytest.mark.parametrize("phase", ["expand_1", "expand_2"])
def test_channels_of_trained_widths_stay_in_front(name, phase):
    net, algorithm = made(name, phase)
    blocks = elastic_blocks(algorithm.architecture)
    for block in blocks:
        with torch.no_grad():  # a number of its own in every channel
            block.depth_conv.bn.running_mean.copy_(torch.arange(WIDTHS[block.in_channels][4]))
    algorithm.sort_channels()
    for before, block in zip(elastic_blocks(net), blocks, strict=True):
        weights = importance(before)
        order = block.depth_conv.bn.running_mean.long()
        assert order.sort().values.tolist() == list(range(len(weights)))
        begin = 0
        for end in (*(WIDTHS[block.in_channels][ratio] for ratio in PHASES[phase]), len(weights)):
            segment = order[begin:end]
            assert segment.sort().values.tolist() == list(range(begin, end))
            assert (weights[segment].diff() <= 0).all()
            begin = end
        assert torch.equal(importance(block), weights[order])


def test_sorting_twice_is_sorting_once():
    _, algorithm = made("mobilenet_v3")
    algorithm.sort_channels()
    before = copy.deepcopy(algorithm.state_dict())
    algorithm.sort_channels()
    assert all(torch.equal(before[key], value) for key, value in algorithm.state_dict().items())
