"""Public networks of layers beyond plain 2-d convs, built small: all but the classifier is searchable, and right."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import timm
import torch
from handmade import assert_output_depends_on_the_image
from oracles import assert_subnet_is_right
from timm.layers import GroupNormAct, StdConv2d
from timm.models.nfnet import NfCfg, NormFreeNet
from timm.models.resnet import Bottleneck, ResNet
from timm.models.resnetv2 import ResNetV2
from torch import nn
from torchvision.models.video import resnet as video
from zoo import CLASSES, SIXTHS, prepare

IMAGE, CLIP = (3, 32, 32), (3, 4, 16, 16)


def normaliser_free(**options: object) -> nn.Module:
    """Scaled weight-standardised convs with gains, grouped ones among them, and a gate."""
    settings = {"depths": (1, 2), "channels": (24, 32), "stem_type": "3x3", "stem_chs": 16, "group_size": 8}
    return NormFreeNet(NfCfg(**(settings | options)), num_classes=CLASSES)


def big_transfer() -> nn.Module:
    norm, conv = partial(GroupNormAct, num_groups=4), partial(StdConv2d, eps=1e-8)
    return ResNetV2((1, 1), (32, 64), CLASSES, stem_chs=16, stem_type="fixed", conv_layer=conv, norm_layer=norm)


def clips(*convs: type[nn.Module], stem: type[nn.Module] = video.BasicStem) -> nn.Module:
    model = video.VideoResNet(video.BasicBlock, [*convs, *convs[-1:] * 4][:4], [1] * 4, stem, CLASSES)
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(128, CLASSES)  # half of it will do
    return model


NETS = {
    "nfnet_se": (lambda: normaliser_free(attn_layer="se", attn_kwargs={"rd_ratio": 0.5}), IMAGE),
    "eca_nfnet": (lambda: normaliser_free(attn_layer="eca", attn_kwargs={}, reg=True, skipinit=True), IMAGE),
    "bit": (big_transfer, IMAGE),
    "ecaresnet": (
        lambda: ResNet(Bottleneck, (1,) * 4, CLASSES, channels=(4, 8, 8, 12), block_args={"attn_layer": "eca"}),
        IMAGE,
    ),
    "convnextv2": (
        lambda: timm.create_model("convnextv2_atto", num_classes=CLASSES, depths=(1,) * 4, dims=(8, 12, 16, 20)),
        IMAGE,
    ),
    "r3d": (lambda: clips(video.Conv3DSimple), CLIP),
    "mc3": (lambda: clips(video.Conv3DSimple, video.Conv3DNoTemporal), CLIP),
    "r2plus1d": (lambda: clips(video.Conv2Plus1D, stem=video.R2Plus1dStem), CLIP),
}
HEAVY = ("eca_nfnet", "bit", "ecaresnet", "convnextv2", "mc3", "r2plus1d")  # tests/graph has their layers


@pytest.mark.parametrize("name", [pytest.param(key, marks=[pytest.mark.slow] * (key in HEAVY)) for key in NETS])
def test_all_but_the_classifier_is_searchable_and_right(name):
    build, shape = NETS[name]
    torch.manual_seed(0)
    twin = prepare(build(), shape, candidate_choices=SIXTHS, divisor=1).double()
    assert [layer.reason for layer in twin.mutator.fixed] == ["the model's output"]
    space = twin.mutator.search_space
    drawn = space.sample(np.random.default_rng(1))
    assert_output_depends_on_the_image(twin, drawn)
    for subnet in (space.min(), drawn):
        assert_subnet_is_right(twin, subnet)
