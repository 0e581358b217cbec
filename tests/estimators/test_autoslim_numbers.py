"""AutoSlim's four networks, Slimmable Networks and US-Nets: macs, params and flops to the last digit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from autoslim_lists import subnet_of
from draws import some
from figures import COUNTS, figures
from figures import counts as of_reference

from mmrazor_lite.config.build import build_model
from mmrazor_lite.config.load import load_config
from mmrazor_lite.estimators.resource import plain_cost
from mmrazor_lite.subnet import read_subnet

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "pruning" / "autoslim"
FAMILIES = {"mobilenet_v1": "MBV1", "mobilenet_v2": "MBV2", "mnasnet": "MNASNET", "resnet50": "RESNET50"}
# Subnets whose file has another label than the reference: MMRazor's flops, and a comment of the authors that is wrong.
LABELS = {"mobilenet_v2_207M": "220M", "mobilenet_v2_305M": "320M", "mobilenet_v2_505M": "530M", "mnasnet_539M": "532M"}
UNIFORM = {  # which config, and where it lists the widths
    ("S", "v1"): ("slimmable_mbv1_8xb20_in1k", "channel_cfg"),
    ("S", "v2"): ("slimmable_mbv2_8xb20_in1k", "channel_cfg"),
    ("S", "50"): ("slimmable_resnet50_8xb32_in1k", "channel_cfg"),
    ("US", "v1"): ("us_mbv1_8xb128_in1k", "val_widths"),
    ("US", "v2"): ("us_mbv2_8xb128_in1k", "val_widths"),
}
ROUNDING = {"rounded": round, "truncated": int}  # of the published tables; ResNet-50's has two digits of G
FILES = sorted(path.name for path in CONFIGS.glob("AUTOSLIM_*_OFFICIAL.yaml"))


@cache
def model(config: str, any_width: bool = False) -> Any:
    """The model of a config; of a supernet's with every width, as retraining has it."""
    cfg = load_config(CONFIGS / f"{config}.py", [])
    if any_width:
        cfg.model.width_range = (0.1, 1.0)
    return build_model(cfg)


def supernet(family: str) -> Any:
    return model(f"autoslim_{FAMILIES[family].lower()}_supernet_8xb256_in1k", any_width=True)


def counts(costs: dict[str, int]) -> dict[str, int]:
    return {key: costs[key] for key in COUNTS}


def test_every_subnet_file_is_listed_by_its_config():
    named = {
        Path(entry).name
        for path in CONFIGS.glob("autoslim_*_subnet_*_in1k.py")
        for entry in load_config(path, []).model.channel_cfg
    }
    assert named == set(FILES) and len(FILES) == 13


@pytest.mark.parametrize("name", some(FILES, *(name for name in FILES if "_MBV1" in name)))
def test_the_counts_in_a_file_are_those_of_its_subnet(name):
    family = next(family for family, title in FAMILIES.items() if f"_{title}_" in name)
    algorithm = supernet(family)
    file = read_subnet(CONFIGS / name, algorithm.search_space)
    assert file.resources == algorithm.cost_model.of(file.subnet)
    assert "slimmable_networks" in file.made_by["source"]


@pytest.mark.parametrize("families", some([["mobilenet_v1"], list(FAMILIES)], ["mobilenet_v1"]))
def test_every_published_channel_list_is_shipped_and_costs_what_it_should(families):
    seen = set()
    for entry in figures("autoslim/channel_configs")["configs"]:
        label = LABELS.get(entry["name"].removeprefix("autoslim_"), entry["name"].rpartition("_")[2])
        family, name = entry["family"], f"AUTOSLIM_{FAMILIES[entry['family']]}_{label}_OFFICIAL.yaml"
        seen.add(name)
        if family not in families:
            continue
        file = read_subnet(CONFIGS / name, supernet(family).search_space)
        assert file.subnet == subnet_of(entry["channels"], family, supernet(family).search_space), name
        assert counts(file.resources) == of_reference(entry["computed"]), name
        published = entry.get("mmrazor", entry["published"])["top1"]
        assert file.score["accuracy/top1"] == published, name
    assert seen == set(FILES)


def test_a_plain_count_of_a_subnet_agrees():
    """On the exported network, which has another graph than the supernet."""
    algorithm = supernet("mobilenet_v1")
    file = read_subnet(CONFIGS / "AUTOSLIM_MBV1_150M_OFFICIAL.yaml", algorithm.search_space)
    exported = algorithm.mutator.export(file.subnet)
    assert plain_cost(exported, (3, 224, 224)) == file.resources
    assert sum(parameter.numel() for parameter in exported.parameters()) == file.resources["params"]


RESULTS = figures("autoslim/slimmable_and_us_results")["results"]


@pytest.mark.parametrize(("kind", "version"), some(UNIFORM, ("S", "v1"), ("US", "v1")))
def test_uniform_widths(kind, version):
    name, option = UNIFORM[kind, version]
    rows = [row for row in RESULTS if row["model"].startswith(f"{kind}-") and row["model"].endswith(version)]
    widths = load_config(CONFIGS / f"{name}.py", []).model[option]
    assert sorted(widths) == sorted(row["width"] for row in rows)
    algorithm = model(name)
    family = "resnet50" if version == "50" else f"mobilenet_{version}"
    found = algorithm.named_subnets()
    costs = algorithm.resources()
    for row in rows:
        key = f"width_{row['width']:g}"
        assert found[key] == subnet_of(row["channels"], family, algorithm.search_space), key
        assert counts(costs[key]) == of_reference(row["computed"]), key
        profiled = costs[key]["macs"] + 7 * 7 * row["channels"][-2]  # with the last pooling, as the authors count
        assert profiled == row["computed"]["official_profiler_count"]
        if row["rounding_rule"] in ROUNDING:
            assert ROUNDING[row["rounding_rule"]](profiled / 1e6) == row["published"]["mflops"], key


@pytest.mark.parametrize("widths", some([1, 3], 1))
def test_shufflenet_at_its_three_widths(widths):
    """Plain networks: a group convolution of ours keeps the width of its groups, S-ShuffleNet's their number."""
    from mmpretrain.registry import MODELS

    rows = [row for row in RESULTS if row["model"] == "S-ShuffleNet"]
    assert len(rows) == 3
    for row in rows[:widths]:
        net = MODELS.build(
            {
                "type": "mmpretrain.ImageClassifier",
                "backbone": {"type": "ShuffleNetV1", "groups": 3, "widen_factor": row["width"]},
                "neck": {"type": "GlobalAveragePooling"},
                "head": {"type": "LinearClsHead", "num_classes": 1000, "in_channels": row["arch"]["stage_out"][-1]},
            }
        )
        net.backbone.maxpool.padding = 0  # as the authors'
        cost = plain_cost(net, (3, 224, 224))
        assert {key: cost[key] for key in ("macs", "params")} == {
            key: row["computed"][key] for key in ("macs", "params")
        }
