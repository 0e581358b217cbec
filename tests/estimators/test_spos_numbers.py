"""Published SPOS and AngleNAS networks: params, macs and MMRazor's flops to the last digit.

Lists: SinglePathOneShot, README.md and src/Evaluation/template/network.py; MMRazor 1.x, configs/nas/mmcls/spos/
SPOS_SUBNET.yaml; AngleNAS, */training/script.sh. Of the numbers, MMRazor publishes 3.35 M / 0.33 G and 5.94 M / 0.49 G,
the authors of SPOS 323 M and 328 M macs, to which the integers round; uniform networks have one operator everywhere.
"""

from __future__ import annotations

import copy
import json

import pytest
from oracles import count
from torch import nn

from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.models.mutators import NasMutator
from mmrazor_lite.subnet import read_subnet

INPUT = (3, 224, 224)
SHUFFLES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
MOBILES = ("mb_k3e3", "mb_k3e6", "mb_k5e3", "mb_k5e6", "mb_k7e3", "mb_k7e6", "identity")  # -1: identity
KEYS = ("params", "macs", "flops")

# Indices of operators -> (params, macs, flops) with the blocks of MMRazor, and with those of the authors.
SHUFFLENETS = {
    "spos_official_block_search": (
        [2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3],
        (3_558_952, 321_915_200, 333_668_928),
        (3_558_464, 322_918_720, 334_672_448),
    ),
    "spos_mmrazor_330M": (
        [2, 0, 2, 0, 3, 1, 1, 0, 0, 1, 0, 1, 0, 3, 1, 2, 2, 0, 1, 3],
        (3_353_592, 316_019_520, 327_544_320),
        (3_353_104, 317_023_040, 328_547_840),
    ),
    "shuffle_3x3": ([0] * 20, (3_155_368, 294_838_976, 306_185_024), (3_154_880, 295_842_496, 307_188_544)),
    "shuffle_5x5": ([1] * 20, (3_212_456, 312_651_456, 323_997_504), (3_211_968, 313_654_976, 325_001_024)),
    "shuffle_7x7": ([2] * 20, (3_298_088, 339_370_176, 350_716_224), (3_297_600, 340_373_696, 351_719_744)),
    "shuffle_xception": ([3] * 20, (3_871_304, 357_822_400, 373_913_216), (3_870_816, 358_825_920, 374_916_736)),
}
WITH_CHANNELS = "spos_official_block_and_channel_search"
CHANNELS = (
    [0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2],
    [6, 5, 3, 5, 2, 6, 3, 4, 2, 5, 7, 5, 4, 6, 7, 4, 4, 5, 4, 3],
    (3_432_579, 327_857_920, 340_361_152),
)
USUAL = 4  # index of the scale 1.0
PROXYLESS = {
    "anglenas_spos_abs": (
        [2, 2, -1, 0, 0, -1, -1, 0, 5, -1, 4, 4, 0, 0, 4, 2, 3, 4, 4, 4, 3],
        (5_936_776, 470_792_064, 490_136_480),
    ),
    "anglenas_proxylessnas_abs": (
        [2, 2, -1, -1, 0, 2, 2, -1, 5, -1, 4, 4, 0, 0, 4, 2, 3, 4, 4, 4, 3],
        (5_955_808, 468_966_912, 487_182_368),
    ),
}
FAIRNAS = {
    "anglenas_fairnas_abs": (
        [4, 2, 4, 2, 2, 2, 5, 2, 4, 4, 2, 2, 2, 4, 5, 4, 2, 2, 5],
        (3_774_992, 310_944_320, 326_047_296),
    )
}
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


def costs(mutator: NasMutator, subnet: dict) -> tuple[int, ...]:
    mutator.search_space.validate(subnet)
    found = mutator.cost_model.of(subnet)
    return tuple(found[key] for key in KEYS)


def counted(model: nn.Module) -> tuple[int, ...]:
    found = count(model, INPUT)
    return tuple(found[key] for key in KEYS)


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
    indices, expected, _ = SHUFFLENETS[name]
    assert costs(mmrazor, subnet_of(mmrazor, shuffles(indices))) == expected


@pytest.mark.parametrize("name", SHUFFLENETS)
def test_shufflenet_with_the_blocks_of_the_authors(official, name):
    indices, _, expected = SHUFFLENETS[name]
    assert costs(official, subnet_of(official, shuffles(indices), [USUAL] * 20)) == expected


def test_shufflenet_with_searched_widths(official):
    indices, scales, expected = CHANNELS
    subnet = subnet_of(official, shuffles(indices), scales)
    assert costs(official, subnet) == expected
    assert counted(official.export(subnet)) == expected


@pytest.mark.parametrize("name", PROXYLESS)
def test_mobilenet(mobilenet, name):
    indices, expected = PROXYLESS[name]
    assert costs(mobilenet, subnet_of(mobilenet, mobiles(indices))) == expected


def test_counted_without_mutator(mmrazor, mobilenet):
    indices, expected, _ = SHUFFLENETS["spos_mmrazor_330M"]
    assert counted(by_hand(mmrazor.architecture, shuffles(indices))) == expected
    indices, expected = PROXYLESS["anglenas_spos_abs"]
    assert counted(by_hand(mobilenet.architecture, mobiles(indices))) == expected


def test_identity_of_anglenas_is_only_where_the_shape_is_kept(registered):
    options = {"arch_setting_type": "proxyless_gpu", "first_channels": 40, "last_channels": 1728}
    model = classifier("SearchableMobileNet", 1728, identity="skip", **options)
    sizes = [len(module.names) for module in model.modules() if isinstance(module, MutableOP)]
    assert (sizes.count(1), sizes.count(6), sizes.count(7)) == (1, 6, 15)  # 7**15 * 6**6, besides the first block
    indices, expected = PROXYLESS["anglenas_spos_abs"]
    assert counted(by_hand(model, mobiles(indices))) == expected


def test_fairnas(registered):
    model = classifier("SearchableMobileNet", 1280, arch_setting_type="fairnas_cpu")
    assert all(len(module.names) in (1, 6) for module in model.modules() if isinstance(module, MutableOP))
    indices, expected = FAIRNAS["anglenas_fairnas_abs"]
    assert counted(by_hand(model, mobiles(indices))) == expected


@pytest.mark.parametrize("file", FILES)
def test_shipped_subnet_file(request, root, file):
    name = FILES[file]
    if name == WITH_CHANNELS:
        mutator, expected = request.getfixturevalue("official"), CHANNELS[2]
        subnet = subnet_of(mutator, shuffles(CHANNELS[0]), CHANNELS[1])
    elif name in PROXYLESS:
        mutator, expected = request.getfixturevalue("mobilenet"), PROXYLESS[name][1]
        subnet = subnet_of(mutator, mobiles(PROXYLESS[name][0]))
    else:
        mutator, expected = request.getfixturevalue("mmrazor"), SHUFFLENETS[name][1]
        subnet = subnet_of(mutator, shuffles(SHUFFLENETS[name][0]))
    found = read_subnet(root / "configs" / "nas" / "spos" / file, mutator.search_space)
    assert found.subnet.to_dict() == subnet
    assert tuple(found.resources[key] for key in KEYS) == expected
    assert found.made_by["source"]


def test_mmrazor_file(mmrazor, shared_path):
    path = shared_path("reference", "mmrazor_files") / "v0_mutable_SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml"
    indices, expected, _ = SHUFFLENETS["spos_official_block_search"]
    subnet = read_subnet(path, mmrazor.search_space).subnet.to_dict()
    assert subnet == subnet_of(mmrazor, shuffles(indices))
    assert costs(mmrazor, subnet) == expected


def test_the_numbers_here_are_those_of_the_reference(shared_path):
    table = json.loads(shared_path("reference", "spos", "subnets.json").read_text())
    entries = {entry["name"]: entry for entry in table["subnets"]}
    uniform = {entry["block"]: {"blocks": None, "computed": entry} for entry in table["uniform_shufflenet_nets"]}

    def numbers(computed: dict) -> tuple[int, ...]:
        return tuple(computed[key] for key in ("params", "macs", "flops_mmcv_style"))

    for name, (indices, *expected) in SHUFFLENETS.items():
        entry = entries.get(name) or uniform[name]
        assert entry["blocks"] in (indices, None)
        assert [numbers(entry["computed"][f"{style}_blocks"]) for style in ("mmrazor", "official")] == expected
    entry = entries[WITH_CHANNELS]
    assert (entry["blocks"], entry["channel_scale_ids"], numbers(entry["computed"]["official_blocks"])) == CHANNELS
    for name, (indices, expected) in {**PROXYLESS, **FAIRNAS}.items():
        assert (entries[name]["ops"], numbers(entries[name]["computed"])) == (indices, expected)
    assert len(entries) == 3 + len(PROXYLESS) + len(FAIRNAS)
