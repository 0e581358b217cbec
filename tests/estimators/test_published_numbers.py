"""Published AutoSlim networks: params, macs and MMRazor's flops to the last digit.

Channel lists of the authors, read as [stem, block 0, (expand, project) x 16, last].
"""

from __future__ import annotations

from pathlib import Path

import pytest
from figures import DATA, counts, figures
from zoo import Prepared, prepare

from mmrazor_lite.subnet import Subnet, read_subnet

TABLE = figures("autoslim/channel_configs")
SUPERNET = counts(TABLE["supernet_mobilenet_v2_1p5x"]["computed"])
PUBLISHED = {  # MMRazor's label -> channels and costs
    entry["name_mmrazor"].removeprefix("AUTOSLIM_MBV2_"): (entry["channels"], counts(entry["computed"]))
    for entry in TABLE["configs"]
    if "name_mmrazor" in entry
}
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


def test_the_labels_of_mmrazor():
    assert list(PUBLISHED) == ["220M", "320M", "530M"]


def test_mmrazor_channel_file(mobilenet):
    path = DATA / "mmrazor_files" / "v0_channel_AUTOSLIM_MBV2_320M_OFFICIAL.yaml"
    subnet = read_subnet(path, mobilenet.mutator.search_space).subnet
    assert costs(mobilenet, subnet) == PUBLISHED["320M"][1]
