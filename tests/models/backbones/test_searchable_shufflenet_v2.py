"""The ShuffleNetV2 space of SPOS."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.backbones import SearchableShuffleNetV2
from mmrazor_lite.models.backbones.searchable_shufflenet_v2 import inner_widths
from mmrazor_lite.models.mutables import MutableOP

SMALL = {"arch_setting": [[24, 2], [32, 1]], "stem_stride": 1, "last_channels": 24}
NAMES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")


def choices(net: nn.Module) -> dict[str, MutableOP]:
    return {name: module for name, module in net.named_modules() if isinstance(module, MutableOP)}


def test_published_space():
    found = choices(SearchableShuffleNetV2())
    assert {module.names for module in found.values()} == {NAMES}
    blocks = [(stage, block) for stage, count in enumerate((4, 4, 8, 4)) for block in range(count)]
    assert list(found) == [f"layers.{stage}.{block}" for stage, block in blocks]
    assert [module.alias for module in found.values()] == [f"stage_{stage}_block_{block}" for stage, block in blocks]


@pytest.mark.parametrize("style", ["mmrazor", "official"])
def test_only_the_chosen_operators_get_gradients(style):
    net = SearchableShuffleNetV2(**SMALL, block_style=style)
    for name, module in choices(net).items():
        module.active = "shuffle_xception" if name == "layers.0.1" else "shuffle_7x7"
    (out,) = net(torch.randn(2, 3, 16, 16))
    assert out.shape == (2, 24, 4, 4)
    out.sum().backward()
    for name, parameter in net.named_parameters():
        place, _, rest = name.partition("._candidates.")
        chosen = not rest or rest.split(".")[0] == choices(net)[place].active
        assert (parameter.grad is not None) == chosen, name


def test_outputs():
    image = torch.zeros(1, 3, 32, 32)
    outs = SearchableShuffleNetV2(**{**SMALL, "stem_stride": 2}, out_indices=(0, 1))(image)
    assert [tuple(out.shape) for out in outs] == [(1, 24, 8, 8), (1, 32, 4, 4)]
    (out,) = SearchableShuffleNetV2(**SMALL, with_last_layer=False, widen_factor=2.0)(image)
    assert out.shape == (1, 64, 8, 8)


# Names and shapes in a checkpoint of MMRazor 1.x, of one operator of each kind and of the rest.
CHECKPOINT = {
    "conv1.conv.weight": (16, 3, 3, 3),
    "conv1.bn.weight": (16,),
    "layers.0.0._candidates.shuffle_5x5.branch1.0.conv.weight": (16, 1, 5, 5),
    "layers.0.0._candidates.shuffle_5x5.branch1.0.bn.running_mean": (16,),
    "layers.0.0._candidates.shuffle_5x5.branch1.1.conv.weight": (32, 16, 1, 1),
    "layers.0.0._candidates.shuffle_5x5.branch2.0.conv.weight": (32, 16, 1, 1),
    "layers.0.0._candidates.shuffle_5x5.branch2.1.conv.weight": (32, 1, 5, 5),
    "layers.0.0._candidates.shuffle_5x5.branch2.2.conv.weight": (32, 32, 1, 1),
    "layers.0.1._candidates.shuffle_7x7.branch2.1.conv.weight": (32, 1, 7, 7),
    "layers.1.0._candidates.shuffle_xception.branch2.0.depthwise_conv.conv.weight": (64, 1, 3, 3),
    "layers.1.0._candidates.shuffle_xception.branch2.0.pointwise_conv.conv.weight": (80, 64, 1, 1),
    "layers.1.0._candidates.shuffle_xception.branch2.2.pointwise_conv.bn.bias": (80,),
    "layers.4.conv.weight": (1024, 640, 1, 1),
    "layers.4.bn.weight": (1024,),
}


def test_names_of_the_weights():
    state = SearchableShuffleNetV2().state_dict()
    assert {name: tuple(state[name].shape) for name in CHECKPOINT} == CHECKPOINT
    # stem and last layer: 6 each; per block 18 of each shuffle and 36 of the xception, 12 more with a stride.
    assert len(state) == 12 + 20 * (3 * 18 + 36) + 4 * 4 * 12


def test_inner_widths():
    assert inner_widths(64) == (6, 12, 19, 25, 32, 38, 44, 51)
    assert inner_widths(8) == (1, 2, 3, 4, 5, 6)  # each once
    net = SearchableShuffleNetV2(**SMALL, search_channels=True)
    for module in choices(net).values():
        for name in module.names:
            block = module.candidate(name)
            assert block.mid_channels == module.inner_widths[-1]
            assert all(block.get_submodule(group["into"][0]).in_channels == block.mid_channels
                       for group in block.inner_groups)  # fmt: skip


def test_candidates_of_the_config():
    chosen = {"type": "OneShotMutableOP", "candidates": {"five": {"type": "ShuffleBlock", "kernel_size": 5}}}
    net = SearchableShuffleNetV2([[16, 1, chosen], [32, 1]], norm_cfg={"type": "BN", "affine": False})
    first, second = choices(net).values()
    assert (first.names, second.names) == (("five",), NAMES)
    assert "candidates" in chosen and "alias" not in chosen  # the config stays as it is
    affine = [module.candidate(module.names[0]).branch2[0].bn.affine for module in (first, second)]
    assert (affine, net.conv1.bn.affine) == ([True, False], False)


def test_weights_begin_as_in_the_paper():
    torch.manual_seed(0)
    net = SearchableShuffleNetV2()
    net.init_weights()
    block = choices(net)["layers.3.1"].candidate("shuffle_3x3")
    spread = {net.conv1: 0.01, block.branch2[0]: 1 / 320, block.branch2[1]: 1.0}
    for module, expected in spread.items():
        assert float(module.conv.weight.detach().std() / expected) == pytest.approx(1, abs=0.1)
        assert module.bn.bias.unique().tolist() == pytest.approx([1e-4])
    before = net.conv1.conv.weight.clone()
    net.init_weights()  # a second call, as mmengine's runner may make one
    assert torch.equal(net.conv1.conv.weight, before)
    other = SearchableShuffleNetV2(**SMALL, init_cfg={"type": "Kaiming", "layer": "Conv2d"})
    other.init_weights()
    assert not other.conv1.bn.bias.any()


def test_frozen_stages_and_norms():
    net = SearchableShuffleNetV2(**SMALL, frozen_stages=1, norm_eval=True).train()
    assert not any(parameter.requires_grad for parameter in [*net.conv1.parameters(), *net.layers[0].parameters()])
    assert all(parameter.requires_grad for parameter in net.layers[1].parameters())
    assert not any(module.training for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    assert net.layers[1].training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch_setting": [[16]]}, r"arch_setting has the row \[16\]; each is \[channels, blocks\]"),
        ({"arch_setting": [[16, 0]]}, r"arch_setting has the row \[16, 0\]"),
        ({"arch_setting": [[16, 2, {"type": "OneShotMutableOP"}]]}, r"candidates=dict\(...\)"),
        ({"arch_setting": 3}, "arch_setting must list at least one stage, got 3"),
        ({"out_indices": (3,)}, r"out_indices \(3,\) must be of the stages 0..2"),
        ({"frozen_stages": 3}, "frozen_stages must be -1..2, got 3"),
        ({"block_style": "paper"}, "block_style 'paper' is unknown"),
    ],
)
def test_options_that_make_no_network(options, message):
    with pytest.raises(UserError, match=message):
        SearchableShuffleNetV2(**{**SMALL, **options})
