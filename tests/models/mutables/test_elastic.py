"""Elastic kernels and depths on their own: every number against a loop, every gradient where it belongs."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.mutables import KernelConv2d, MutableDepth

SIZES = (3, 5, 7)
CHANNELS = 4
ALL_SIZES = pytest.mark.parametrize("size", SIZES)


def kernel_conv(stride: int = 1, sizes: tuple[int, ...] = SIZES, trained: bool = True) -> KernelConv2d:
    """In float64; ``trained`` ones have matrices that are no identity."""
    torch.manual_seed(0)
    conv = KernelConv2d(CHANNELS, sizes, stride).double()
    if trained:
        for name, parameter in conv.named_parameters():
            if name.startswith("transform"):
                nn.init.normal_(parameter, 0, 0.5)
    return conv


def with_size(conv: KernelConv2d, size: int) -> KernelConv2d:
    conv.active_kernel = size
    return conv


def loop(conv: KernelConv2d, size: int) -> torch.Tensor:
    """(C, 1, size, size): each weight a sum of products, one number at a time."""
    weight = conv.weight.detach()
    for large, small in ((7, 5), (5, 3)):
        if small < size:
            break
        matrix, edge = conv.get_parameter(f"transform_{large}to{small}").detach(), (large - small) // 2
        result = torch.zeros(CHANNELS, 1, small, small, dtype=weight.dtype)
        for channel in range(CHANNELS):
            for out in range(small * small):
                total = 0.0
                for source in range(small * small):
                    row, column = edge + source // small, edge + source % small
                    total += float(matrix[out, source]) * float(weight[channel, 0, row, column])
                result[channel, 0, out // small, out % small] = total
        weight = result
    return weight


@ALL_SIZES
def test_a_new_kernel_is_the_centre_of_the_largest(size):
    conv, edge = with_size(kernel_conv(trained=False), size), (7 - size) // 2
    assert torch.equal(conv.kernel_weight(), conv.weight[:, :, edge : edge + size, edge : edge + size])


@ALL_SIZES
def test_kernels_are_a_chain_of_matrices(size):
    conv = with_size(kernel_conv(), size)
    torch.testing.assert_close(conv.kernel_weight().detach(), loop(conv, size), rtol=1e-12, atol=1e-14)


def test_the_smallest_kernel_goes_through_the_middle_one():
    """Not straight from the largest: the matrix of the first step matters to it."""
    conv = with_size(kernel_conv(), 3)
    before = conv.kernel_weight().detach()
    with torch.no_grad():
        conv.transform_7to5.add_(1.0)
    assert (conv.kernel_weight() - before).abs().min() > 0


@ALL_SIZES
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [7, 8])
def test_forward_is_the_convolution_with_a_frame_of_zeros(size, stride, width):
    """All sizes give maps of one shape, centred alike."""
    conv = with_size(kernel_conv(stride), size)
    x = torch.randn(2, CHANNELS, width, width, dtype=torch.float64)
    framed = F.pad(loop(conv, size), [(7 - size) // 2] * 4)
    expected = F.conv2d(x, framed, None, stride, 3, 1, CHANNELS)
    assert conv(x).shape == expected.shape == (2, CHANNELS, -(-width // stride), -(-width // stride))
    torch.testing.assert_close(conv(x).detach(), expected, rtol=1e-12, atol=1e-13)


@ALL_SIZES
def test_only_what_a_kernel_is_made_of_learns(size):
    conv = with_size(kernel_conv(), size)
    conv(torch.randn(2, CHANNELS, 8, 8, dtype=torch.float64)).square().sum().backward()
    assert (conv.transform_7to5.grad is not None) == (size < 7)
    assert (conv.transform_5to3.grad is not None) == (size < 5)
    edge = 0 if size == 7 else 1  # the smallest reads all of the middle one
    outside = torch.ones(7, 7, dtype=torch.bool)
    outside[edge : 7 - edge, edge : 7 - edge] = False
    assert not conv.weight.grad[..., outside].any()
    assert conv.weight.grad[..., ~outside].all()


def test_gradients_are_those_of_finite_differences():
    conv, x = with_size(kernel_conv(), 3), torch.randn(1, CHANNELS, 5, 5, dtype=torch.float64)

    def run(*values: torch.Tensor) -> torch.Tensor:
        names = ("weight", "transform_7to5", "transform_5to3")
        return torch.func.functional_call(conv, dict(zip(names, values, strict=True)), (x,))

    values = [conv.weight, conv.transform_7to5, conv.transform_5to3]
    assert torch.autograd.gradcheck(run, [value.detach().clone().requires_grad_() for value in values])


def test_matrices_are_shared_by_the_channels():
    shapes = {name: tuple(p.shape) for name, p in kernel_conv().named_parameters()}
    assert shapes == {"weight": (CHANNELS, 1, 7, 7), "transform_5to3": (9, 9), "transform_7to5": (25, 25)}
    assert [name for name, _ in kernel_conv(sizes=(5,)).named_parameters()] == ["weight"]


def test_sizes_may_skip_one():
    conv = with_size(kernel_conv(sizes=(3, 7)), 3)
    centre = conv.weight[:, 0, 2:5, 2:5].reshape(CHANNELS, 9)
    torch.testing.assert_close(conv.kernel_weight().reshape(CHANNELS, 9), centre @ conv.transform_7to3.T)


@ALL_SIZES
def test_a_settled_kernel_is_a_plain_convolution_of_its_own(size):
    conv = with_size(kernel_conv(2), size).eval()
    plain = conv.settled()
    assert type(plain) is nn.Conv2d and plain.kernel_size == (size, size) and not plain.training
    assert [name for name, _ in plain.named_parameters()] == ["weight"] and plain.weight.dtype == torch.float64
    x = torch.randn(2, CHANNELS, 8, 8, dtype=torch.float64)
    assert torch.equal(plain(x), conv(x))
    before = plain.weight.detach().clone()
    with torch.no_grad():
        conv.weight.zero_()
    assert torch.equal(plain.weight, before)
    assert plain.weight.requires_grad and not conv.requires_grad_(False).settled().weight.requires_grad


def test_a_copy_has_a_kernel_of_its_own():
    conv = kernel_conv()
    other = with_size(copy.deepcopy(conv), 3)
    assert conv.active_kernel == 7 and other.active_kernel == 3
    assert set(other.state_dict()) == set(conv.state_dict())


@pytest.mark.parametrize("sizes", [(), (4,), (5, 3), (3, 3), (3.0, 5), (-1, 3), (True, 3)])
def test_sizes_that_make_no_kernels_are_refused(sizes):
    with pytest.raises(UserError, match=r"kernel_sizes \[.*\] must be odd and ascending, such as \[3, 5, 7\]$"):
        KernelConv2d(CHANNELS, sizes)


class _Plus(nn.Module):
    """Adds a number of its own, and counts its runs."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.runs = nn.Parameter(torch.tensor(float(number))), 0

    def forward(self, x):
        self.runs += 1
        return x + self.number


def stage(**options) -> MutableDepth:
    return MutableDepth(_Plus(1), _Plus(10), _Plus(100), **options)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_first_blocks_run_and_learn(depth):
    elastic = stage(depths=(1, 2, 3))
    elastic.active_depth = depth
    total = elastic(torch.zeros(()))
    assert total.item() == (1, 11, 111)[depth - 1]
    total.backward()
    assert [block.runs for block in elastic] == [1] * depth + [0] * (3 - depth)
    assert [block.number.grad is not None for block in elastic] == [True] * depth + [False] * (3 - depth)


def test_a_settled_stage_holds_the_blocks_that_run():
    elastic = stage(depths=(2, 3)).eval()
    elastic.active_depth = 2
    plain = elastic.settled()
    assert type(plain) is nn.Sequential and len(plain) == 2 and not plain.training
    assert list(plain.state_dict()) == ["0.number", "1.number"] and plain(torch.zeros(())).item() == 11


def test_without_depths_all_blocks_run():
    elastic = stage()
    assert elastic.depths == (3,) and elastic.active_depth == 3 and len(elastic) == 3


@pytest.mark.parametrize("depths", [(), (1, 2), (1, 4), (3, 2), (2, 2, 3), (0, 3), (1.0, 3), (True, 3)])
def test_depths_that_a_stage_cannot_have_are_refused(depths):
    with pytest.raises(UserError, match=r"depths \[.*\] must be ascending and end at the 3 blocks there are$"):
        stage(depths=depths)
