"""The MobileNet spaces."""

from __future__ import annotations

import pytest
import torch
from oracles import assert_close, assert_same_bits
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.backbones import Identity, MBBlock, SearchableMobileNet
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.registry import MODELS

SMALL = {"arch_setting": [[16, 1, 1], [24, 2, 2]], "first_channels": 8, "last_channels": 32, "stem_stride": 1}
BLOCKS = ("mb_k3e3", "mb_k5e3", "mb_k7e3", "mb_k3e6", "mb_k5e6", "mb_k7e6")


def choices(net: nn.Module) -> dict[str, MutableOP]:
    return {name: module for name, module in net.named_modules() if isinstance(module, MutableOP)}


def test_published_space():
    found = choices(SearchableMobileNet(arch_setting_type="proxyless_gpu", first_channels=40, last_channels=1728))
    blocks = [(stage, block) for stage, count in enumerate((1, 4, 4, 4, 4, 4, 1)) for block in range(count)]
    assert list(found) == [f"layer{stage + 1}.{block}" for stage, block in blocks]
    assert [module.alias for module in found.values()] == [f"stage_{stage}_block_{block}" for stage, block in blocks]
    first, *others = found.values()
    assert first.names == ("mb_k3e1",)
    assert {module.names for module in others} == {(*BLOCKS, "identity")}


def test_one_class_under_two_names():
    assert MODELS.get("SearchableMobileNetV2") is MODELS.get("SearchableMobileNet") is SearchableMobileNet


def test_only_the_chosen_operators_get_gradients():
    net = SearchableMobileNet(**SMALL)
    for operator, module in zip(("mb_k3e1", "identity", "mb_k7e6"), choices(net).values(), strict=True):
        module.active = operator
    (out,) = net(torch.randn(2, 3, 16, 16))
    assert out.shape == (2, 32, 8, 8)
    out.sum().backward()
    for name, parameter in net.named_parameters():
        place, _, rest = name.partition("._candidates.")
        chosen = not rest or rest.split(".")[0] == choices(net)[place].active
        assert (parameter.grad is not None) == chosen, name


# Names and shapes in a checkpoint of MMRazor 1.x.
CHECKPOINT = {
    "conv1.conv.weight": (40, 3, 3, 3),
    "layer1.0._candidates.mb_k3e1.depthwise_conv.conv.weight": (40, 1, 3, 3),
    "layer1.0._candidates.mb_k3e1.linear_conv.conv.weight": (24, 40, 1, 1),
    "layer2.0._candidates.mb_k5e6.expand_conv.conv.weight": (144, 24, 1, 1),
    "layer2.0._candidates.mb_k5e6.expand_conv.bn.weight": (144,),
    "layer2.0._candidates.mb_k5e6.depthwise_conv.conv.weight": (144, 1, 5, 5),
    "layer2.0._candidates.mb_k5e6.linear_conv.bn.running_var": (32,),
    "layer2.0._candidates.identity.downsample.conv.weight": (32, 24, 1, 1),
    "layer2.0._candidates.identity.downsample.bn.bias": (32,),
    "conv2.conv.weight": (1728, 432, 1, 1),
}


def test_names_of_the_weights():
    net = SearchableMobileNet(arch_setting_type="proxyless_gpu", first_channels=40, last_channels=1728)
    state = net.state_dict()
    assert {name: tuple(state[name].shape) for name in CHECKPOINT} == CHECKPOINT
    # stem and last layer: 6 each; 12 of the first block; 6 x 18 of every other; 6 of each identity that is no skip.
    assert len(state) == 12 + 12 + 21 * 6 * 18 + 6 * 6


def test_blocks():
    x = torch.randn(2, 8, 9, 9).double()
    block = MBBlock(8, 8, 3, 6).double().eval()
    assert_close(block(x), x + block.linear_conv(block.depthwise_conv(block.expand_conv(x))))
    block = MBBlock(8, 8, 5, 1, stride=2).double().eval()
    assert block.expand_conv is None and block(x).shape == (2, 8, 5, 5)
    assert_close(block(x), block.linear_conv(block.depthwise_conv(x)))
    assert_same_bits(Identity(8, 8)(x), x)
    assert not list(Identity(8, 8).parameters())
    changed = Identity(8, 12, stride=2).double()
    assert changed(x).shape == (2, 12, 5, 5)
    assert changed(x).min() < 0  # no activation


def test_identity_as_a_skip_is_no_choice_where_the_shape_changes():
    kept = {
        name: "identity" in module.names
        for name, module in choices(SearchableMobileNet(**SMALL, identity="skip")).items()
    }
    assert kept == {"layer1.0": False, "layer2.0": False, "layer2.1": True}
    own = {
        "candidates": {
            "a": {"type": "mmrazor_lite.Identity"},
            "b": {"type": "MBBlock", "kernel_size": 3, "expand_ratio": 3},
        }
    }
    net = SearchableMobileNet([[16, 1, 1], [24, 2, 2, own]], identity="skip")
    assert [module.names for module in choices(net).values()] == [("mb_k3e1",), ("b",), ("a", "b")]


def test_widths_are_multiples_of_eight():
    net = SearchableMobileNet(widen_factor=0.35)
    assert net.conv1.conv.out_channels == 16 and net.conv2.conv.out_channels == 1280
    outs = [module.candidate(module.names[0]).linear_conv.conv.out_channels for module in choices(net).values()]
    # MobileNetV2 x 0.35, as torchvision and mmpretrain round it
    assert sorted(set(outs)) == [8, 16, 24, 32, 56, 112]
    assert SearchableMobileNet(widen_factor=1.4).conv2.conv.out_channels == 1792


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch_setting": [[16, 1]]}, r"each is \[channels, blocks, stride\]"),
        ({"arch_setting_type": "original"}, "give arch_setting or arch_setting_type, not both"),
        ({"arch_setting": None, "arch_setting_type": "proxyles_gpu"}, "did you mean 'proxyless_gpu'"),
        ({"identity": "none"}, "identity 'none' is unknown"),
        ({"arch_setting": [[16, 1, 3]]}, "stride 1 or 2, got 1 and 3"),
    ],
)
def test_options_that_make_no_network(options, message):
    with pytest.raises(UserError, match=message):
        SearchableMobileNet(**{**SMALL, **options})
