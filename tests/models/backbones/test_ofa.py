"""The networks of Once-for-All: what the full one computes, its published widths, and the order of its channels."""

from __future__ import annotations

import pytest
import torch
from elastic import BACKBONES, INSIDE, WIDTHS, build, by_hand, images
from figures import figures
from oracles import assert_close, assert_same_bits
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.backbones import OFAMobileNetV3, OFAProxylessNAS
from mmrazor_lite.models.backbones.ofa_blocks import OFABlock
from mmrazor_lite.models.mutables import KernelConv2d, MutableDepth
from mmrazor_lite.registry import MODELS

ALL = pytest.mark.parametrize("name", BACKBONES)
PUBLISHED = {"ofa_mbv3": OFAMobileNetV3, "ofa_proxyless": OFAProxylessNAS}


@ALL
def test_the_full_network_op_by_op(name):
    net = build(name).double().eval()
    assert_close(net(images()), by_hand(net, images()), 1e-12)


@ALL
def test_names_are_stage_and_block(name):
    net = build(name)
    blocks = [key for key, module in net.named_modules() if isinstance(module, OFABlock)]
    last = {"mobilenet_v3": 3, "proxyless": 1}[name]
    assert blocks == [
        "backbone.layers.0.0", *(f"backbone.layers.1.{i}" for i in range(3)),
        *(f"backbone.layers.2.{i}" for i in range(last)),
    ]  # fmt: skip
    stages = {key: module.depths for key, module in net.named_modules() if isinstance(module, MutableDepth)}
    assert stages == {"backbone.layers.1": (1, 2, 3), "backbone.layers.2": (1, 2, 3) if last == 3 else (1,)}
    assert not net.backbone.layers[0][0].is_elastic


@ALL
def test_a_block_declares_the_widths_it_is_built_with(name):
    for block in build(name).modules():
        if isinstance(block, OFABlock) and block.is_elastic:
            expected = WIDTHS[block.in_channels]
            for ratio, width in expected.items():
                assert block.inner_widths(ratio) == ((width, INSIDE[width]) if block.use_se else (width,))
            assert block.depth_conv.conv.in_channels == expected[4]
            for group, width in zip(block.inner_groups, block.inner_widths(4), strict=True):
                layers = [block.get_submodule(layer) for layer in group["out"]]
                assert {getattr(layer, "out_channels", None) or layer.num_features for layer in layers} == {width}
                assert {block.get_submodule(layer).in_channels for layer in group["into"]} == {width}


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_channels_and_sizes(family):
    facts = figures("ofa/search_spaces")[family]
    for mult in facts["width_mults"]:
        net = PUBLISHED[family](width_mult=mult)
        stages = [stage[-1].out_channels for stage in net.layers]
        tail = [net.feature_mix_layer.conv.out_channels]
        if family == "ofa_mbv3":
            tail = [net.final_expand_layer.conv.out_channels, *tail]
        assert [net.first_conv.conv.out_channels, *stages, *tail] == facts["widths"][str(mult)]
        assert net.out_channels == PUBLISHED[family].features_at(mult) == tail[-1]
        classifier = (net.out_channels + 1) * 1000
        matrices = {name for name, _ in net.named_parameters() if ".transform_" in name}
        size = sum(p.numel() for name, p in net.named_parameters() if name not in matrices)
        assert size + classifier == facts["computed"][str(mult)]["max"]["params"]
        elastic = sum(isinstance(module, KernelConv2d) for module in net.modules())
        assert elastic == facts["max_blocks"]
        assert sum(net.get_parameter(name).numel() for name in matrices) == 706 * elastic
        squeezed = [any(block.use_se for block in stage) for stage in list(net.layers)[1:]]
        assert squeezed == [stage.get("se", False) for stage in facts["stages"]]


def test_registered_where_configs_look():
    for cls in PUBLISHED.values():
        assert MODELS.get(cls.__name__) is cls


def test_features_follow_the_options():
    for name, make in BACKBONES.items():
        for options in ({}, {"width_mult": 1.5}, {"width_mult": 0.3}):
            net = make(**options)
            features = type(net).features_at(**{"width_mult": 1.0, **make.keywords, **options})
            assert net(torch.zeros(1, 3, 32, 32))[0].shape == (1, features) == (1, net.out_channels), name


def test_a_stem_of_stride_one_keeps_small_images():
    net = BACKBONES["mobilenet_v3"](stem_stride=1).eval()
    sizes = []
    net.layers.register_forward_hook(lambda module, args, output: sizes.append(output.shape[-1]))
    net(torch.zeros(1, 3, 16, 16))
    assert sizes == [4]


def test_initialising_leaves_the_matrices_the_identity():
    torch.manual_seed(0)
    net = BACKBONES["mobilenet_v3"](arch_setting=[[24, 1, 1, "ReLU", False]], stem_channels=64, first_channels=64)
    before = net.first_conv.conv.weight.clone()
    net.init_weights()
    for module in net.modules():
        if isinstance(module, KernelConv2d):
            assert torch.equal(module.transform_7to5, torch.eye(25))
            assert torch.equal(module.transform_5to3, torch.eye(9))
    assert not torch.equal(before, net.first_conv.conv.weight)
    conv = net.layers[1][0].inverted_bottleneck.conv  # 64 to 256: variance 2 / 256 by fan-out
    assert conv.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)


def test_dropout_is_on_the_features_in_training_only():
    net = BACKBONES["mobilenet_v3"](dropout=0.5)
    x = images(dtype=torch.float32)
    assert_same_bits(net.eval()(x), net.eval()(x))
    torch.manual_seed(0)
    dropped = net.train()(x)[0] == 0
    assert 0.2 < dropped.float().mean() < 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_mult": 0}, r"width_mult=0 must be a number of 0\.1 to 10"),
        ({"width_mult": "1"}, r"width_mult='1' must be"),
        ({"width_mult": True}, r"width_mult=True must be"),
        ({"arch_setting": []}, "must list at least one stage"),
        ({"arch_setting": "mobile"}, "must list at least one stage"),
        ({"arch_setting": [24]}, r"has the row \[24\]"),
        ({"arch_setting": [[24, 2, 2, "ReLU"]]}, "each is"),
        ({"arch_setting": [[24, 2, 3, "ReLU", True]]}, "each is"),
        ({"arch_setting": [[24, 0, 2, "ReLU", True]]}, "each is"),
        ({"arch_setting": [[24, 2, 2, "Swish", True]]}, "each is"),
        ({"arch_setting": [[24, 2, 2, "ReLU", 1]]}, "each is"),
        ({"depths": (3, 2)}, r"depths \[3, 2\] must be ascending"),
        ({"depths": (0, 2, 3)}, r"depths \[0, 2, 3\] must be ascending"),
        ({"depths": (2.0, 3)}, r"depths \[2\.0, 3\] must be ascending"),
        ({"kernel_sizes": (4, 6)}, "must be odd and ascending"),
        ({"kernel_sizes": ()}, "kernel_sizes"),
        ({"kernel_sizes": (4,)}, "kernel_sizes"),
        ({"expand_ratios": ()}, "expand_ratios"),
        ({"expand_ratios": (4, 2)}, "expand_ratios"),
        ({"expand_ratios": (2, 2, 3)}, "expand_ratios"),
        ({"expand_ratios": (0, 2)}, "expand_ratios"),
        ({"expand_ratios": ("2",)}, "expand_ratios"),
        ({"tail_channels": 24}, "tail_channels"),
        ({"tail_channels": (24, 32, 48)}, "tail_channels"),
        ({"tail_channels": (24, -1)}, "tail_channels"),
    ],
)
def test_options_that_make_no_network_are_refused(options, message):
    with pytest.raises(UserError, match=message) as error:
        BACKBONES["mobilenet_v3"](**options)
    assert "\n" not in str(error.value)


def test_each_stage_may_offer_its_own_kernels_ratios_and_depths():
    rows = [[16, 3, 2, "ReLU", False], [24, 2, 2, "HSwish", True]]
    net = OFAMobileNetV3(rows, kernel_sizes=[[3, 5], [3]], expand_ratios=[[2], [3, 6]], depths=[[1], [2]])
    offered = [(stage.depths, stage[0].kernel_sizes, stage[0].expand_ratios) for stage in net.layers[1:]]
    assert offered == [((1, 3), (3, 5), (2,)), ((2,), (3,), (3, 6))]
    with pytest.raises(UserError, match="kernel_sizes .* must be one list for all stages, or a list for each of the 2"):
        OFAMobileNetV3(rows, kernel_sizes=[[3, 5]])


def test_residual_blocks_may_begin_with_nothing():
    torch.manual_seed(0)
    net = OFAMobileNetV3([[16, 2, 2, "ReLU", False]], tail_channels=(8, 8), zero_init_residual=True)
    net.init_weights()
    weights = [block.point_linear.bn.weight.abs().sum().item() for stage in net.layers for block in stage]
    assert weights == [0, 16, 0]  # the block between has another shape behind it
