"""Published AutoSlim networks: params, macs and MMRazor's flops to the last digit.

Integers: MMRazor 0.x, configs/pruning/autoslim (README table and AUTOSLIM_MBV2_*_OFFICIAL.yaml); channel lists: the
official slimmable_networks repository, AutoSlim model zoo, read as [stem, block 0, (expand, project) x 16, last].
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from zoo import Prepared, prepare

from mmrazor_lite.subnet import Subnet, read_subnet

SUPERNET = {"params": 6_858_152, "flops": 702_903_808, "macs": 672_832_704}
PUBLISHED = {
    "530M": (
        [32, 16, 144, 24, 176, 24, 192, 48, 240, 48, 144, 48, 264, 88, 288, 88, 336, 88, 432, 88, 576, 144, 576, 144,
         648, 144, 864, 240, 1440, 240, 1440, 240, 1440, 480, 1920, 1000],
        {"params": 6_495_992, "flops": 529_261_920, "macs": 504_934_400},
    ),
    "320M": (
        [8, 8, 96, 16, 96, 16, 96, 24, 144, 24, 144, 24, 144, 56, 288, 56, 288, 56, 288, 56, 288, 96, 432, 96, 432,
         96, 864, 240, 1440, 240, 960, 240, 1440, 480, 1920, 1000],
        {"params": 5_767_288, "flops": 320_247_520, "macs": 305_072_416},
    ),
    "220M": (
        [8, 8, 96, 16, 96, 16, 96, 24, 144, 24, 144, 24, 144, 48, 288, 48, 288, 48, 288, 48, 288, 64, 432, 64, 432,
         64, 648, 176, 720, 176, 720, 176, 1440, 280, 1920, 1000],
        {"params": 4_125_104, "flops": 221_412_560, "macs": 206_767_048},
    ),
}  # fmt: skip
STAGES = [1, 2, 3, 4, 3, 3, 1]  # blocks per stage


@pytest.fixture(scope="module")
def mobilenet() -> Prepared:
    from mmpretrain.registry import MODELS

    from mmrazor_lite.registry import register_all

    register_all()
    model = MODELS.build(
        {
            "type": "mmpretrain.ImageClassifier",
            "backbone": {"type": "MobileNetV2", "widen_factor": 1.5},
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": "LinearClsHead", "num_classes": 1000, "in_channels": 1920},
        }
    )
    return prepare(model, (3, 224, 224))


def subnet_of(channels: list[int], mobilenet: Prepared) -> Subnet:
    """Choice by choice from a channel list; the layers that share a choice must agree."""
    width = {"backbone.conv1.conv": channels[0], "backbone.conv2.conv": channels[34]}
    rest = iter([channels[0], *channels[1:34]])  # block 0 has no expansion
    for stage, blocks in enumerate(STAGES, 1):
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}.conv"
            first, last = next(rest), next(rest)
            width[f"{name}.0.conv"], width[f"{name}.{1 if stage == 1 else 2}.conv"] = first, last
    space = mobilenet.mutator.search_space
    choices: dict[str, int] = {}
    for layer, value in width.items():
        name = space.layers[layer].choice
        assert choices.setdefault(name, value) == value, layer
    return Subnet(choices)


def costs(mobilenet: Prepared, subnet: Subnet) -> dict[str, int]:
    mobilenet.mutator.search_space.validate(subnet)
    found = mobilenet.mutator.cost_model.of(subnet)
    return {key: found[key] for key in SUPERNET}


def test_supernet(mobilenet):
    assert costs(mobilenet, mobilenet.mutator.search_space.max()) == SUPERNET


@pytest.mark.parametrize("label", PUBLISHED)
def test_channel_list(mobilenet, label):
    channels, expected = PUBLISHED[label]
    assert costs(mobilenet, subnet_of(channels, mobilenet)) == expected


@pytest.mark.parametrize("label", PUBLISHED)
def test_shipped_subnet_file(mobilenet, label):
    configs = Path(__file__).resolve().parents[2] / "configs" / "pruning" / "autoslim"
    file = read_subnet(configs / f"AUTOSLIM_MBV2_{label}_OFFICIAL.yaml", mobilenet.mutator.search_space)
    assert file.subnet == subnet_of(PUBLISHED[label][0], mobilenet)
    assert costs(mobilenet, file.subnet) == PUBLISHED[label][1]


def test_mmrazor_channel_file(mobilenet, shared_path):
    path = shared_path("reference", "mmrazor_files") / "v0_channel_AUTOSLIM_MBV2_320M_OFFICIAL.yaml"
    subnet = read_subnet(path, mobilenet.mutator.search_space).subnet
    assert costs(mobilenet, subnet) == PUBLISHED["320M"][1]


def test_the_numbers_here_are_those_of_the_reference(shared_path):
    table = json.loads(shared_path("reference", "autoslim", "channel_configs.json").read_text())
    found = {}
    for entry in table["configs"]:
        if entry.get("name_mmrazor", "").startswith("AUTOSLIM_MBV2_"):
            computed = entry["computed"]
            numbers = {"params": computed["params"], "flops": computed["flops_mmcv_style"], "macs": computed["macs"]}
            found[entry["name_mmrazor"].removeprefix("AUTOSLIM_MBV2_")] = (entry["channels"], numbers)
    assert found == PUBLISHED
    supernet = table["supernet_mobilenet_v2_1p5x"]["computed"]
    keys = {"params": "params", "flops": "flops_mmcv_style", "macs": "macs"}
    assert {key: supernet[theirs] for key, theirs in keys.items()} == SUPERNET
