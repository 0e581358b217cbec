"""Published Once-for-All networks: params, macs and MMRazor's flops to the last digit, at their own resolutions.

Configs and numbers: han-cai/files, ofa/ofa_specialized; README.md of once-for-all; MMRazor 1.x, configs/nas/mmcls/
onceforall. Of the largest network, MMRazor's table says 747.8 M flops, which is its count at 248 pixels.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from figures import COUNTS, counts, figures, specialised
from oracles import count
from torch import nn

from mmrazor_lite.models.backbones import OFAMobileNetV3, OFAProxylessNAS
from mmrazor_lite.models.mutators import NasMutator
from mmrazor_lite.subnet import SearchSpace, parse_document, read_subnet

SHIPPED = {
    "OFA_SUBNET_NOTE8_LAT22.yaml": "note8_lat-22ms_top1-70.4_finetune-25",
    "OFA_SUBNET_NOTE8_LAT31.yaml": "note8_lat-31ms_top1-72.8_finetune-25",
}
pytestmark = pytest.mark.wide  # a minute of traces; test_flops_ofa.py has one network in the usual run
PUBLISHED = specialised()
BUILT = ("note8_lat-22ms_top1-70.4_finetune-25", "1080ti_gpu64-12ms_top1-72.6_finetune-25")

SIZES = range(128, 261, 4)  # all that a published network has


class Net(nn.Module):
    """A backbone with a classifier of 1000 classes."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.fc = backbone, nn.Linear(backbone.out_channels, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 1000)."""
        return self.fc(self.backbone(x)[-1])


def prepared(backbone: nn.Module) -> NasMutator:
    mutator = NasMutator(resolutions=SIZES)
    mutator.prepare(Net(backbone), (3, SIZES[-1], SIZES[-1]))
    return mutator


@pytest.fixture(scope="module")
def mutators() -> dict[tuple[str, float], NasMutator]:
    """(space, width) -> a supernet."""
    return {
        ("ofa_mbv3", 1.0): prepared(OFAMobileNetV3(width_mult=1.0)),
        ("ofa_mbv3", 1.2): prepared(OFAMobileNetV3(width_mult=1.2)),
        ("ofa_proxyless", 1.3): prepared(OFAProxylessNAS(width_mult=1.3)),
    }


def short(entry: dict, resolution: int) -> dict:
    """A published network as lists of kernels, ratios and depths."""
    return {"ks": entry["ks_padded"], "e": entry["e_padded"], "d": entry["depth"], "r": [resolution]}


def of(mutator: NasMutator, document: dict) -> dict[str, int]:
    return mutator.cost_model.of(parse_document(document, mutator.search_space, "published").subnet)


def test_every_specialised_network(mutators):
    assert len(PUBLISHED) == 50
    for name, entry in PUBLISHED.items():
        mutator = mutators[entry["space"], entry["width_mult"]]
        found = of(mutator, short(entry, entry["resolution"]))
        assert {key: found[key] for key in COUNTS} == counts(entry["computed"]), name
        if "computed_at_224" in entry:
            assert of(mutator, short(entry, 224))["macs"] == entry["computed_at_224"]["macs"], name


def test_largest_and_smallest(mutators):
    spaces = figures("ofa/search_spaces")
    for (space, width), mutator in mutators.items():
        for which in ("max", "min"):
            subnet = {**getattr(mutator.search_space, which)(), "resolution": 224}
            found, expected = mutator.cost_model.of(subnet), spaces[space]["computed"][str(width)][which]
            assert {key: found[key] for key in COUNTS} == counts(expected)
        parameters = sum(parameter.numel() for parameter in mutator.architecture.parameters())
        assert parameters == spaces[space]["supernet_parameters_with_kernel_transforms"][str(width)]
    mutator, mmrazor = mutators["ofa_mbv3", 1.0], spaces["ofa_mbv3"]["mmrazor_published"]
    found = mutator.cost_model.of({**mutator.search_space.max(), "resolution": 248})
    assert (found["flops"], found["macs"]) == (mmrazor["flops_mmcv_style_at_248"], mmrazor["macs_at_248"])


@pytest.mark.parametrize("name", BUILT)
def test_counted_on_the_plain_network(mutators, name):
    entry = PUBLISHED[name]
    mutator, size = mutators[entry["space"], entry["width_mult"]], entry["resolution"]
    subnet = parse_document(short(entry, size), mutator.search_space, name).subnet
    assert count(mutator.export(subnet), (3, size, size)) == counts(entry["computed"])


@pytest.mark.parametrize("file", SHIPPED)
def test_shipped_file(root, mutators, file):
    mutator = mutators["ofa_mbv3", 1.0]
    sizes = range(128, 225, 4)  # those of the shipped configs
    choices = mutator.search_space.values()
    space = SearchSpace(
        (replace(choice, candidates=sizes) if choice.kind == "resolution" else choice for choice in choices),
        stages=mutator.search_space.stages,
    )
    entry = PUBLISHED[SHIPPED[file]]
    found = read_subnet(root / "configs" / "nas" / "mmcls" / "onceforall" / file, space)
    assert found.subnet == parse_document(short(entry, entry["resolution"]), space, file).subnet
    assert {key: found.resources[key] for key in COUNTS} == counts(entry["computed"])
    assert mutator.cost_model.of(found.subnet) == found.resources
    assert found.made_by["source"]
