"""Weights of the full width for a network of one subnet, or of several: loaded, then sliced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from public_networks import SlimmableMobileNetV1, randomise
from torch import nn

from mmrazor_lite.config.build import register_quietly
from mmrazor_lite.errors import UserError

CLASSES, BLOCKS = 5, ((32, 1), (48, 2))
BACKBONE = {"type": "mmrazor_lite.MobileNetV1", "stem_channels": 16, "blocks": BLOCKS}
MUTATOR = {"type": "OneShotChannelMutator", "divisor": 8}
SHAPE = (3, 32, 32)


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    register_quietly()


def architecture(backbone: dict | None = None, classes: int = CLASSES, **options: object) -> dict:
    return {
        "type": "mmpretrain.ImageClassifier",
        "backbone": {**BACKBONE, **(backbone or {})},
        "neck": {"type": "GlobalAveragePooling"},
        "head": {"type": "LinearClsHead", "num_classes": classes, "in_channels": 48, "topk": (1,)},
        **options,
    }


def autoslim(config: dict, channel_cfg: object, **options: object) -> nn.Module:
    from mmrazor_lite.models.algorithms import AutoSlim

    return AutoSlim(config, MUTATOR, input_shape=SHAPE, channel_cfg=channel_cfg, **options)


def half_of(full: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the subnet of half the width computes inside of the full network."""
    full.mutator.activate(full.mutator.uniform(0.5))
    return full.architecture(images)


@pytest.fixture(scope="module")
def full() -> nn.Module:
    """A supernet with random weights, in eval mode."""
    register_quietly()
    return randomise(autoslim(architecture(), None)).float()


@pytest.fixture
def plain(full: nn.Module, tmp_path: Path) -> Path:
    """The file of its plain network."""
    torch.save({"state_dict": full.architecture.state_dict()}, tmp_path / "full.pth")
    return tmp_path / "full.pth"


IMAGES = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))


def pretrained(path: Path, **options: object) -> dict:
    return {"type": "Pretrained", "checkpoint": str(path), **options}


def test_a_subnet_starts_from_its_part_of_the_full_width(full, plain):
    for net in (
        autoslim(architecture(init_cfg=pretrained(plain)), 0.5),
        autoslim(architecture(), 0.5, init_cfg=pretrained(plain)),
    ):
        net.init_weights()
        net.eval()
        assert torch.allclose(net(IMAGES), half_of(full, IMAGES), atol=1e-5)
        assert net._whole is None


def test_a_backbone_alone(full, plain):
    net = autoslim(architecture({"init_cfg": pretrained(plain, prefix="backbone.")}), 0.5)
    net.init_weights()
    net.eval()
    full.mutator.activate(full.mutator.uniform(0.5))
    assert torch.allclose(net.architecture.backbone(IMAGES)[0], full.architecture.backbone(IMAGES)[0], atol=1e-5)


def test_several_subnets_together(full, plain):
    net = autoslim(architecture(init_cfg=pretrained(plain)), [1.0, 0.5])
    net.init_weights()
    net.eval()
    net.mutator.activate(net.subnets[1])
    assert torch.allclose(net(IMAGES), half_of(full, IMAGES), atol=1e-5)


def test_a_file_of_the_subnet_is_taken_as_it_is(full, plain, tmp_path):
    small = full.mutator.export(full.mutator.uniform(0.5))
    torch.save(small.state_dict(), tmp_path / "small.pth")
    net = autoslim(architecture(init_cfg=pretrained(tmp_path / "small.pth")), 0.5)
    net.init_weights()
    net.eval()
    assert torch.allclose(net(IMAGES), half_of(full, IMAGES), atol=1e-5)


def sub_model(full: nn.Module, init: dict, classes: int = CLASSES) -> nn.Module:
    from mmrazor_lite.models.algorithms import SubModel
    from mmrazor_lite.subnet import subnet_document

    document = subnet_document(full.mutator.uniform(0.5), full.search_space)
    config = {"architecture": architecture(classes=classes), "mutator": MUTATOR}
    return SubModel(config, document, input_shape=SHAPE, init_cfg=init).eval()


def test_sub_model(full, plain, tmp_path):
    assert torch.allclose(sub_model(full, pretrained(plain))(IMAGES), half_of(full, IMAGES), atol=1e-5)
    torch.save(full.mutator.export(full.mutator.uniform(0.5)).state_dict(), tmp_path / "small.pth")
    assert torch.allclose(sub_model(full, pretrained(tmp_path / "small.pth"))(IMAGES), half_of(full, IMAGES), atol=1e-5)


def test_another_number_of_classes(full, plain):
    """The error names the way out, which keeps all but the classifier."""
    with pytest.raises(UserError, match=r"2 of another shape: head.fc.weight \(5, 48\).*init_cfg.reset_head=True"):
        sub_model(full, pretrained(plain), classes=7)
    net = autoslim(architecture(classes=7, init_cfg=pretrained(plain)), 0.5)
    with pytest.raises(UserError, match=r"2 of another shape: head.fc.weight \(5, 48\).*init_cfg.reset_head=True"):
        net.init_weights()
    reset = autoslim(architecture(classes=7, init_cfg=pretrained(plain, reset_head=True)), 0.5)
    reset.init_weights()
    full.mutator.activate(full.mutator.uniform(0.5))
    for made in (reset, sub_model(full, pretrained(plain, reset_head=True), classes=7)):
        made.eval()
        features = made.architecture.backbone(IMAGES)[0]
        assert torch.allclose(features, full.architecture.backbone(IMAGES)[0], atol=1e-5)
        head = made.architecture.head.fc
        assert head.weight.shape == (7, 24) and head.weight.std() < 0.05  # as mmpretrain begins


def test_batch_norms_of_several_widths_are_no_network_of_one(full, tmp_path):
    theirs = randomise(SlimmableMobileNetV1(([8, 16], [16, 32], [24, 48]), (1, 2), CLASSES, shared=False)).float()
    torch.save({"model": theirs.state_dict()}, tmp_path / "a.pt")
    net = autoslim(architecture(init_cfg=pretrained(tmp_path / "a.pt")), 0.5)
    with pytest.raises(UserError, match=r"batch norms of several widths.*channel_cfg=\[...\], and split"):
        net.init_weights()
    with pytest.raises(UserError, match=r"batch norms of several widths.*channel_cfg=\[...\], and split"):
        sub_model(full, pretrained(tmp_path / "a.pt"))


def test_a_checkpoint_of_other_classes_to_start_from(full, tmp_path):
    """What ``tools/train.py --reset-head`` does with ``load_from``."""
    from mmrazor_lite.models.algorithms.loading import load_checked

    content = {"state_dict": full.state_dict(), "meta": {"mmrazor_lite": full.checkpoint_meta()}}
    net = autoslim(architecture(classes=7), None)
    with pytest.raises(UserError, match="tools/train.py --reset-head"):
        load_checked(net, content, "a.pth")
    before = net.architecture.head.fc.weight.detach().clone()
    load_checked(net, content, "a.pth", reset_head=True)
    net.eval()
    full.mutator.activate(full.search_space.max())
    assert torch.equal(net.architecture.head.fc.weight, before)
    assert torch.equal(net.architecture.backbone(IMAGES)[0], full.architecture.backbone(IMAGES)[0])


def test_a_slimmed_network_of_its_authors(tmp_path):
    """AutoSlim's own files: one batch norm in each list, all at the widths of the subnet."""
    theirs = randomise(SlimmableMobileNetV1(([8], [16], [24]), (1, 2), CLASSES, shared=False)).float()
    torch.save({"model": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "a.pt")
    net = autoslim(architecture(init_cfg=pretrained(tmp_path / "a.pt")), 0.5)
    net.init_weights()
    net.eval()
    assert torch.allclose(net(IMAGES), theirs.logits(IMAGES, 0), atol=1e-5)
