"""Published SPOS and AngleNAS networks: params, macs and MMRazor's flops to the last digit.

Of the numbers, MMRazor publishes 3.35 M / 0.33 G and 5.94 M / 0.49 G, the authors of SPOS 323 M and 328 M macs, to
which the integers round.
"""

from __future__ import annotations

import copy

import pytest
from figures import COUNTS, DATA, counts, figures
from oracles import count
from torch import nn

from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.models.mutators import NasMutator
from mmrazor_lite.subnet import read_subnet

INPUT = (3, 224, 224)
SHUFFLES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
MOBILES = ("mb_k3e3", "mb_k3e6", "mb_k5e3", "mb_k5e6", "mb_k7e3", "mb_k7e6", "identity")  # -1: identity
TABLE = figures("spos/subnets")
ENTRIES = {entry["name"]: entry for entry in TABLE["subnets"]}
UNIFORM = {entry["block"]: entry for entry in TABLE["uniform_shufflenet_nets"]}  # one operator everywhere
WITH_CHANNELS = "spos_official_block_and_channel_search"
USUAL = 4  # index of the scale 1.0


def blocks(name: str) -> list[str]:
    return [name] * 20 if name in UNIFORM else shuffles(ENTRIES[name]["blocks"])


def computed(name: str, style: str) -> dict[str, int]:
    """Costs of a ShuffleNet with the blocks of MMRazor, or with those of the authors (``official``)."""
    return counts((UNIFORM.get(name) or ENTRIES[name]["computed"])[f"{style}_blocks"])


SHUFFLENETS = ["spos_official_block_search", "spos_mmrazor_330M", *UNIFORM]
PROXYLESS = ["anglenas_spos_abs", "anglenas_proxylessnas_abs"]
FAIRNAS = "anglenas_fairnas_abs"
FILES = {
    "SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml": "spos_official_block_search",
    "SPOS_SUBNET.yaml": "spos_mmrazor_330M",
    "SPOS_MOBILENET_490M_FROM_ANGELNAS.yaml": "anglenas_spos_abs",
    "PROXYLESSNAS_MOBILENET_487M_FROM_ANGELNAS.yaml": "anglenas_proxylessnas_abs",
    "SPOS_SHUFFLENETV2_328M_CHANNELS_OFFICIAL.yaml": WITH_CHANNELS,
}


def classifier(backbone: str, channels: int, head: str = "LinearClsHead", **options: object) -> nn.Module:
    from mmpretrain.registry import MODELS

    return MODELS.build(
        {
            "type": "mmpretrain.ImageClassifier",
            "backbone": {"type": f"mmrazor_lite.{backbone}", **options},
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": head, "num_classes": 1000, "in_channels": channels},
        }
    )


def prepared(*args: object, **options: object) -> NasMutator:
    mutator = NasMutator()
    mutator.prepare(classifier(*args, **options), INPUT)
    return mutator


@pytest.fixture(scope="module")
def mmrazor(registered) -> NasMutator:
    return prepared("SearchableShuffleNetV2", 1024)


@pytest.fixture(scope="module")
def official(registered) -> NasMutator:
    head = "mmrazor_lite.BiasFreeLinearClsHead"
    return prepared("SearchableShuffleNetV2", 1024, head, block_style="official", search_channels=True)


@pytest.fixture(scope="module")
def mobilenet(registered) -> NasMutator:
    widths = {"first_channels": 40, "last_channels": 1728}
    return prepared("SearchableMobileNet", 1728, arch_setting_type="proxyless_gpu", **widths)


def subnet_of(mutator: NasMutator, operators: list[str], scales: list[int] | None = None) -> dict:
    names = [name for name, choice in mutator.search_space.items() if choice.kind == "operator"]
    subnet = dict(zip(names, operators, strict=True))
    for name, index in zip(names, scales or (), strict=bool(scales)):
        subnet[f"{name}.mid_channels"] = mutator.search_space[f"{name}.mid_channels"].candidates[index]
    return subnet


def shuffles(indices: list[int]) -> list[str]:
    return [SHUFFLES[index] for index in indices]


def mobiles(indices: list[int]) -> list[str]:
    return ["mb_k3e1", *(MOBILES[index] for index in indices)]


def costs(mutator: NasMutator, subnet: dict) -> dict[str, int]:
    mutator.search_space.validate(subnet)
    found = mutator.cost_model.of(subnet)
    return {key: found[key] for key in COUNTS}


def counted(model: nn.Module) -> dict[str, int]:
    return count(model, INPUT)


def by_hand(model: nn.Module, operators: list[str]) -> nn.Module:
    """A copy with the chosen module in the place of each choice, made without the mutator."""
    model = copy.deepcopy(model)
    choices = [(name, module) for name, module in model.named_modules() if isinstance(module, MutableOP)]
    for (name, module), operator in zip(choices, operators, strict=True):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.candidate(operator))
    return model


@pytest.mark.parametrize("name", SHUFFLENETS)
def test_shufflenet_with_the_blocks_of_mmrazor(mmrazor, name):
    assert costs(mmrazor, subnet_of(mmrazor, blocks(name))) == computed(name, "mmrazor")


@pytest.mark.wide
@pytest.mark.parametrize("name", SHUFFLENETS)
def test_shufflenet_with_the_blocks_of_the_authors(official, name):
    assert costs(official, subnet_of(official, blocks(name), [USUAL] * 20)) == computed(name, "official")


@pytest.mark.wide
def test_shufflenet_with_searched_widths(official):
    subnet = subnet_of(official, blocks(WITH_CHANNELS), ENTRIES[WITH_CHANNELS]["channel_scale_ids"])
    expected = computed(WITH_CHANNELS, "official")
    assert costs(official, subnet) == expected
    assert counted(official.export(subnet)) == expected


@pytest.mark.wide
@pytest.mark.parametrize("name", PROXYLESS)
def test_mobilenet(mobilenet, name):
    entry = ENTRIES[name]
    assert costs(mobilenet, subnet_of(mobilenet, mobiles(entry["ops"]))) == counts(entry["computed"])


@pytest.mark.wide
def test_counted_without_mutator(mmrazor, mobilenet):
    name = "spos_mmrazor_330M"
    assert counted(by_hand(mmrazor.architecture, blocks(name))) == computed(name, "mmrazor")
    entry = ENTRIES["anglenas_spos_abs"]
    assert counted(by_hand(mobilenet.architecture, mobiles(entry["ops"]))) == counts(entry["computed"])


def test_identity_of_anglenas_is_only_where_the_shape_is_kept(registered):
    options = {"arch_setting_type": "proxyless_gpu", "first_channels": 40, "last_channels": 1728}
    model = classifier("SearchableMobileNet", 1728, identity="skip", **options)
    sizes = [len(module.names) for module in model.modules() if isinstance(module, MutableOP)]
    assert (sizes.count(1), sizes.count(6), sizes.count(7)) == (1, 6, 15)  # 7**15 * 6**6, besides the first block
    entry = ENTRIES["anglenas_spos_abs"]
    assert counted(by_hand(model, mobiles(entry["ops"]))) == counts(entry["computed"])


def test_fairnas(registered):
    model = classifier("SearchableMobileNet", 1280, arch_setting_type="fairnas_cpu")
    assert all(len(module.names) in (1, 6) for module in model.modules() if isinstance(module, MutableOP))
    entry = ENTRIES[FAIRNAS]
    assert counted(by_hand(model, mobiles(entry["ops"]))) == counts(entry["computed"])


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, marks=[pytest.mark.wide] * (name == WITH_CHANNELS or name in PROXYLESS))
        for file, name in FILES.items()
    ],
)
def test_shipped_subnet_file(request, root, file):
    name = FILES[file]
    if name == WITH_CHANNELS:
        mutator, expected = request.getfixturevalue("official"), computed(name, "official")
        subnet = subnet_of(mutator, blocks(name), ENTRIES[name]["channel_scale_ids"])
    elif name in PROXYLESS:
        mutator, expected = request.getfixturevalue("mobilenet"), counts(ENTRIES[name]["computed"])
        subnet = subnet_of(mutator, mobiles(ENTRIES[name]["ops"]))
    else:
        mutator, expected = request.getfixturevalue("mmrazor"), computed(name, "mmrazor")
        subnet = subnet_of(mutator, blocks(name))
    found = read_subnet(root / "configs" / "nas" / "spos" / file, mutator.search_space)
    assert found.subnet.to_dict() == subnet
    assert {key: found.resources[key] for key in COUNTS} == expected
    assert found.made_by["source"]


def test_mmrazor_file(mmrazor):
    path, name = DATA / "mmrazor_files/v0_mutable_SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml", "spos_official_block_search"
    subnet = read_subnet(path, mmrazor.search_space).subnet.to_dict()
    assert subnet == subnet_of(mmrazor, blocks(name))
    assert costs(mmrazor, subnet) == computed(name, "mmrazor")


def test_every_published_network_is_here():
    assert set(ENTRIES) == {*SHUFFLENETS, WITH_CHANNELS, *PROXYLESS, FAIRNAS} - set(UNIFORM)
