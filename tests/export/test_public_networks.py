"""Supernets and slimmable networks of other projects: their files give networks that compute what theirs do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from draws import some
from public_networks import AutoSlimMobileNetV2, SlimmableMobileNetV1, SlimmableResNet, Spos, randomise
from torch import nn

from mmrazor_lite.checkpoints import fit
from mmrazor_lite.checkpoints.ofa_names import official_names
from mmrazor_lite.checkpoints.weight_names import short_names
from mmrazor_lite.config.build import register_quietly
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import load_weights, read_checkpoint
from mmrazor_lite.models.algorithms.loading import load_checked
from mmrazor_lite.subnet import write_subnet

STAGES, LAST, CLASSES = ((24, 2), (40, 2)), 32, 5
PATHS = ([0, 1, 2, 3], [3, 0, 1, 3])


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    register_quietly()


def classifier(backbone: dict, channels: int, head: str = "LinearClsHead") -> dict:
    made = {"type": head, "num_classes": CLASSES, "in_channels": channels, "topk": (1,)}
    return {"type": "mmpretrain.ImageClassifier", "backbone": backbone, "neck": {"type": "GlobalAveragePooling"},
            "head": made}  # fmt: skip


def images(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def saved(net: nn.Module, path: Path) -> dict:
    """As those projects write them: from DataParallel, under 'state_dict' or 'model'."""
    torch.save({"model": {f"module.{key}": value for key, value in net.state_dict().items()}}, path)
    return read_checkpoint(path)


def spos(affine: bool, **options: object) -> dict:
    backbone = {"type": "mmrazor_lite.SearchableShuffleNetV2", "arch_setting": STAGES, "last_channels": LAST,
                "block_style": "official", "norm_cfg": {"type": "BN", "affine": affine}, **options}  # fmt: skip
    return classifier(backbone, LAST, "mmrazor_lite.BiasFreeLinearClsHead")


@pytest.mark.parametrize("affine", some([True, False], True))
def test_the_supernet_of_single_path_one_shot(tmp_path, affine):
    """Its norms have no weight and bias; where ours have, they are 1 and 0."""
    from mmrazor_lite.models.algorithms import SPOS

    theirs = randomise(Spos(STAGES, LAST, CLASSES, None))
    ours = SPOS(spos(affine), input_shape=(3, 64, 64)).double().eval()
    load_checked(ours, saved(theirs, tmp_path / "a.pth"), "a.pth")
    names = [name for name in ours.search_space if ours.search_space[name].kind == "operator"]
    kinds = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
    for path in PATHS:
        subnet = {name: kinds[index] for name, index in zip(names, path, strict=True)}
        ours.mutator.activate(ours.search_space.subnet(ours.search_space.index(subnet)))
        assert torch.allclose(ours(images()), theirs(images(), path), atol=1e-10)


def test_a_subnet_of_single_path_one_shot(tmp_path):
    from mmrazor_lite.models.algorithms import SubModel

    path = PATHS[1]
    theirs = randomise(Spos(STAGES, LAST, CLASSES, path))
    kinds = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
    places = [f"stage_{stage}_block_{block}" for stage, (_, blocks) in enumerate(STAGES) for block in range(blocks)]
    subnet = {name: {"chosen": kinds[index]} for name, index in zip(places, path, strict=True)}
    saved(theirs, tmp_path / "a.pth")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "a.pth")}
    ours = SubModel(spos(True), fix_subnet=subnet, input_shape=(3, 64, 64), init_cfg=init).double().eval()
    load_weights(ours, read_checkpoint(tmp_path / "a.pth"))  # in float64
    assert torch.allclose(ours(images()), theirs(images()), atol=1e-10)
    saved(randomise(Spos(STAGES, LAST, CLASSES, None)), tmp_path / "supernet.pth")
    supernet = {**init, "checkpoint": str(tmp_path / "supernet.pth")}
    with pytest.raises(UserError, match="holds a supernet.*model.init_weight_from_supernet=True"):
        SubModel(spos(False), fix_subnet=subnet, input_shape=(3, 64, 64), init_cfg=supernet)
    with pytest.raises(UserError, match="names of SinglePathOneShot.*block_style='official'"):
        SubModel(spos(True, block_style="mmrazor"), fix_subnet=subnet, input_shape=(3, 64, 64), init_cfg=init)


V1 = ([8, 16], [16, 32], [24, 48], [24, 48])  # widths of 0.5 and 1.0
V1_BLOCKS = ((32, 1), (48, 2), (48, 1))


def mobilenet(**options: object) -> nn.Module:
    from mmrazor_lite.models.algorithms import AutoSlim

    backbone = {"type": "mmrazor_lite.MobileNetV1", "stem_channels": 16, "blocks": V1_BLOCKS}
    return AutoSlim(classifier(backbone, 48), {"type": "OneShotChannelMutator", "divisor": 8}, input_shape=(3, 64, 64),
                    **options)  # fmt: skip


@pytest.mark.parametrize("shared", [False, True], ids=["slimmable", "universally slimmable"])
def test_slimmable_mobilenet(tmp_path, shared):
    theirs = randomise(SlimmableMobileNetV1(V1, [stride for _, stride in V1_BLOCKS], CLASSES, shared))
    content = saved(theirs, tmp_path / "a.pt")
    joint = mobilenet(channel_cfg=[0.5, 1.0]).double().eval()
    load_weights(joint, content)
    for at, subnet in enumerate(joint.subnets):
        joint.mutator.activate(subnet)
        assert torch.allclose(joint(images()), theirs.logits(images(), at), atol=1e-10)
    full = mobilenet().double().eval()  # the supernet, at full width
    load_weights(full, content)
    assert torch.allclose(full(images()), theirs.logits(images(), 1), atol=1e-10)
    other = mobilenet(channel_cfg=[1.0, 0.5]).double().eval()  # the widths tell which is which
    load_weights(other, content)
    other.mutator.activate(other.subnets[1])
    assert torch.allclose(other(images()), theirs.logits(images(), 0), atol=1e-10)
    with pytest.raises(UserError, match="names of slimmable_networks: algorithm.channel_cfg must list the widths"):
        load_weights(mobilenet(channel_cfg=[1.0, 0.75]), content)
    with pytest.raises(
        UserError, match=r"the batch norms of 2 subnets .*: tools/model_converters/split_checkpoint\.py"
    ):
        load_weights(mobilenet(channel_cfg=0.5), content)


def test_slimmable_resnet(tmp_path):
    from mmrazor_lite.models.algorithms import AutoSlim

    theirs = randomise(SlimmableResNet([8, 16], [[32, 64], [64, 128]], [3, 4], CLASSES))
    backbone = {"type": "ResNet", "depth": 50, "num_stages": 2, "strides": (1, 2), "dilations": (1, 1),
                "out_indices": (1,), "stem_channels": 16, "base_channels": 16}  # fmt: skip
    content = saved(theirs, tmp_path / "a.pt")
    architecture = classifier(backbone, 128)
    joint = AutoSlim(architecture, {"type": "OneShotChannelMutator", "divisor": 8}, input_shape=(3, 64, 64),
                     channel_cfg=[0.5, 1.0]).double().eval()  # fmt: skip
    load_weights(joint, content)
    for at, subnet in enumerate(joint.subnets):
        joint.mutator.activate(subnet)
        assert torch.allclose(joint(images()), theirs.logits(images(), at), atol=1e-10)


def test_autoslim_mobilenet_v2_is_as_wide_as_its_widest_subnet(tmp_path):
    """Of our network at full width, the published one has the channels that some of its subnets use."""
    from torchvision.models import MobileNetV2

    from mmrazor_lite.export import split
    from mmrazor_lite.models.algorithms import AutoSlim

    # channels of each subnet, as in channel_num_list: stem, output; width and output of each further block; tail
    lists = [
        [8, 8, 32, 8, 32, 8, 40, 24, 48],
        [16, 8, 48, 16, 64, 16, 48, 16, 64],
        [24, 16, 96, 16, 88, 16, 72, 24, 96],
    ]
    theirs = randomise(AutoSlimMobileNetV2(lists, strides=(1, 2, 1, 2), classes=CLASSES))
    content = saved(theirs, tmp_path / "autoslim.pt")
    layers = ["0.0", "1.conv.1", "2.conv.0.0", "2.conv.2", "3.conv.0.0", "2.conv.2", "4.conv.0.0", "4.conv.2", "5.0"]

    def ours(channel_cfg: object = None) -> nn.Module:
        net = MobileNetV2(CLASSES, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]])
        return AutoSlim(net, {"type": "OneShotChannelMutator", "divisor": 8}, input_shape=(3, 64, 64),
                        channel_cfg=channel_cfg).double().eval()  # fmt: skip

    space = ours(0.5).search_space  # of any width
    files = [str(tmp_path / f"{index}.yaml") for index in range(3)]
    for path, widths in zip(files, lists, strict=True):
        subnet = {f"net.features.{layer}": width for layer, width in zip(layers, widths, strict=True)}
        write_subnet(path, space.subnet(space.index({**space.max(), **subnet})), space)
    order = [2, 0, 1]
    joint = ours([files[index] for index in order])
    load_weights(joint, content)
    for subnet, at in zip(joint.subnets, order, strict=True):
        joint.mutator.activate(subnet)
        assert torch.allclose(joint(images()), theirs.logits(images(), at), atol=1e-10)
    weight = next(value for key, value in joint.state_dict().items() if key.endswith("features.0.0.weight"))
    assert len(weight) == 32 and not weight[24:].any()
    parts = split(ours(files[:2]), tmp_path / "autoslim.pt", files[:2])  # two of the three
    small = ours(files[1])
    load_weights(small, read_checkpoint(parts[1]))
    assert torch.allclose(small(images()), theirs.logits(images(), 1), atol=1e-4)
    with pytest.raises(UserError, match=r"features.0.0.weight \(24, 3, 3, 3\) in the file and \(32, 3, 3, 3\)"):
        load_weights(ours(), content)  # the supernet has more than the file


def test_a_network_of_slimmable_networks_that_is_not_among_ours():
    """Its ShuffleNet has groups of layers in a block: models/s_shufflenet.py."""
    names = ["features.0.0.weight", "features.0.1.bn.0.weight", "features.0.1.bn.1.weight"]
    state = {f"module.{name}": torch.ones(1) for name in [*names, "features.3.b.1.weight"]}
    with pytest.raises(UserError, match="whose MobileNet v1 and v2, MNasNet and ResNet are read; this is another"):
        load_weights(nn.Sequential(nn.Linear(1, 1)), state)


def small_ofa() -> torch.nn.Module:
    from mmrazor_lite.models.algorithms import OFA

    backbone = {"type": "mmrazor_lite.OFAMobileNetV3", "tail_channels": (24, 32), "depths": (1, 2), "arch_setting": [
        [16, 2, 2, "ReLU", False], [24, 2, 2, "HSwish", True]]}  # fmt: skip
    return OFA({**classifier(backbone, 32), "neck": None}, input_shape=(3, 32, 32))


def test_the_supernet_of_once_for_all_as_its_authors_name_it():
    from mmrazor_lite.export.ofa_checkpoint import to_official

    theirs = randomise(small_ofa())
    newer = {f"module.{key}": value for key, value in to_official(theirs).items()}
    older = {
        re.sub(r"\b(bn|conv|linear)\.\1\.", r"\1.", key.replace(".conv.", ".mobile_inverted_conv.", 1)): value
        for key, value in newer.items()
    }
    assert "module.blocks.1.mobile_inverted_conv.depth_conv.conv.weight" in older
    for state in (newer, older):
        net = small_ofa().double().eval()
        found = fit(net, state, "file")
        assert any("names of mit-han-lab/once-for-all" in note for note in found.notes)
        net.load_state_dict(found.weights)
        assert torch.equal(net(images(32)), theirs(images(32)))
    # one of its subnets, alone: there the names have no levels of elastic layers
    subnet = theirs.search_space.min()
    plain = theirs.mutator.export(subnet)
    alone = {f"module.{key}": value for key, value in official_subnet(plain).items()}
    again = theirs.mutator.export(theirs.search_space.min())
    for value in again.state_dict().values():
        value.zero_()
    load_weights(again, alone)
    assert torch.equal(again(images(32)), plain(images(32)))


def official_subnet(plain: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a subnet as the authors' ``MobileNetV3`` has them."""
    names = official_names(short_names(plain.state_dict(), "a subnet"))
    assert all(names.values()) and "blocks.1.conv.depth_conv.conv.weight" in names.values()
    return {names[short]: plain.state_dict()[key] for short, key in short_names(plain.state_dict(), "").items()}


def test_a_network_of_another_width_is_told_by_its_names(tmp_path):
    from mmrazor_lite.export.ofa_checkpoint import to_official

    state = to_official(randomise(small_ofa()))
    wide = {
        **state,
        "classifier.linear.weight": torch.zeros(5, 1536),
        "first_conv.conv.weight": torch.zeros(1, 3, 3, 3),
    }
    with pytest.raises(UserError, match=r"2 of another shape.* supernet is OFAMobileNetV3 with width_mult=1.2"):
        load_weights(small_ofa(), wide)
    with pytest.raises(UserError, match="look like names of Once-for-All"):
        load_weights(mobilenet(), {"blocks.0.mobile_inverted_conv.depth_conv.conv.weight": torch.zeros(1)})
