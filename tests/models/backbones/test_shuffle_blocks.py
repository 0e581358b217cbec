"""The blocks of the ShuffleNetV2 space, in both conventions."""

from __future__ import annotations

import pytest
import torch
from oracles import assert_close
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.backbones import ShuffleBlock, ShuffleXception

BLOCKS = {
    "3x3": (ShuffleBlock, {"kernel_size": 3}),
    "7x7": (ShuffleBlock, {"kernel_size": 7}),
    "xception": (ShuffleXception, {}),
}


def build(name: str, *args: int, **options: object) -> nn.Module:
    cls, own = BLOCKS[name]
    torch.manual_seed(0)
    return cls(*args, **own, **options).double().eval()


def interleaved(halves: Tensor) -> Tensor:
    """Channels of the two halves in turn."""
    return torch.stack(halves.chunk(2, dim=1), dim=2).flatten(1, 2)


@pytest.mark.parametrize("style", ["mmrazor", "official"])
@pytest.mark.parametrize("name", BLOCKS)
def test_shapes(name, style):
    assert build(name, 16, 16, 1, style=style)(torch.zeros(2, 16, 9, 9).double()).shape == (2, 16, 9, 9)
    assert build(name, 16, 40, 2, style=style)(torch.zeros(2, 16, 9, 9).double()).shape == (2, 40, 5, 5)


@pytest.mark.parametrize("name", BLOCKS)
def test_half_of_the_channels_passes(name):
    x = torch.randn(2, 16, 6, 6).double()
    # MMRazor: the first half passes, and the shuffle puts it at the even channels.
    block = build(name, 16, 16)
    assert_close(block(x), interleaved(torch.cat((x[:, :8], block.branch2(x[:, 8:])), dim=1)))
    # The authors: the shuffle comes first, so that the even channels pass, and stay in front.
    block = build(name, 16, 16, style="official")
    assert_close(block(x), torch.cat((x[:, ::2], block.branch2(x[:, 1::2])), dim=1))


@pytest.mark.parametrize("name", BLOCKS)
def test_both_branches_of_a_stride(name):
    x = torch.randn(2, 16, 6, 6).double()
    block = build(name, 16, 40, 2)
    branches = block.branch1(x), block.branch2(x)
    assert [branch.shape[1] for branch in branches] == [20, 20]
    assert_close(block(x), interleaved(torch.cat(branches, dim=1)))
    block = build(name, 16, 40, 2, style="official")
    branches = block.branch1(x), block.branch2(x)
    assert [branch.shape[1] for branch in branches] == [16, 24]
    assert_close(block(x), torch.cat(branches, dim=1))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", BLOCKS)
def test_inner_groups_are_all_that_has_the_inner_width(name, stride):
    block = build(name, 16, 16 * stride, stride, mid_channels=11)
    layers = {key: module for key, module in block.named_modules() if not list(module.children())}
    wide = {
        key
        for key, module in layers.items()
        if getattr(module, "out_channels", None) == 11 or getattr(module, "num_features", None) == 11
    }
    grouped = [key for group in block.inner_groups for key in group["out"]]
    assert sorted(grouped) == sorted(wide)
    dense = {key for key, module in layers.items() if isinstance(module, nn.Conv2d) and module.groups == 1}
    readers = {key for key in dense if layers[key].in_channels == 11}
    assert {key for group in block.inner_groups for key in group["into"]} == readers


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((16, 20, 1), {}, "16 to 20 channels with stride 1"),
        ((15, 15, 1), {}, "both must be even"),
        ((16, 32, 3), {}, "stride must be 1 or 2, got 3"),
        ((16, 16, 1), {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ((16, 16, 1), {"style": "oficial"}, "allowed: mmrazor, official"),
        ((16, 16, 2), {"style": "official"}, "need more channels out than in"),
    ],
)
def test_blocks_that_are_none(arguments, options, message):
    with pytest.raises(UserError, match=message):
        ShuffleBlock(*arguments, **options)
