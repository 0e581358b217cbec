"""The published space of TF-NAS: costs of networks to the last digit, latencies by the published tables exactly.

One supernet is prepared for all tests, which takes ten seconds: they are of the wide run.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import shared_path
from figures import COUNTS, counts, figures
from oracles import count
from tfnas import choices_of, operators
from torch import nn

from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.estimators.latency_tfnas import TFNASTable, read_tfnas_table, tfnas_table
from mmrazor_lite.models.backbones import TFNASNet
from mmrazor_lite.models.mutators import NasMutator
from mmrazor_lite.subnet import read_subnet

DEPTHS = (2, 3, 4, 4, 4, 1)
ROOT = Path(__file__).resolve().parents[2]


class Net(nn.Module):
    """The published network with a classifier of 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.fc = TFNASNet(), nn.Linear(1280, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 1000)."""
        return self.fc(self.backbone(x)[0])


@pytest.fixture(scope="module")
def mutator() -> NasMutator:
    mutator = NasMutator()
    mutator.prepare(Net())
    return mutator


@pytest.fixture(scope="module")
def sources() -> dict[str, TFNASTable]:
    paths = {device: shared_path("reference", "tfnas", f"latency_{device}.npz") for device in ("gpu", "cpu")}
    return {device: read_tfnas_table(path) for device, path in paths.items()}


@pytest.fixture(scope="module")
def tables(sources, mutator) -> dict[str, LatencyTable]:
    return {device: tfnas_table(source, mutator) for device, source in sources.items()}


# TF-NAS-A and 16 others.
NETWORKS = [
    *figures("tfnas/searched_architectures")["architectures"],
    *figures("tfnas/latency_examples")["architectures"],
]


def subnet_of(network: dict, mutator: NasMutator):
    space = mutator.search_space
    choices = choices_of(list(network["stages"].values()), DEPTHS)
    return space.subnet(space.index(choices))


@pytest.mark.wide
def test_the_space(mutator):
    published = figures("tfnas/search_space")
    assert len(operators(mutator)) == published["blocks"]
    assert {module.names for module in operators(mutator).values()} == {tuple(published["primitives"])}
    paths = math.prod(sum(8**d for d in row["depth_candidates"]) for row in published["stages"])
    assert str(paths) == published["paths_without_width"].split()[0]
    rows = [(block["cin"], row["act"], block) for row in published["stages"] for block in row["blocks"]]
    for (name, module), (inputs, act, block) in zip(operators(mutator).items(), rows, strict=True):
        for operator in module.names:
            built, most = module.candidate(operator), inputs * (4 if "e3" in operator else 8)
            assert mutator.search_space[f"{name}.{operator}.mid_channels"].candidates == range(most // 2, most + 1)
            assert (built.in_channels, built.out_channels, built.stride) == (inputs, block["cout"], block["stride"])
            assert {"ReLU": "relu", "SiLU": "swish"}[built.act] == act


@pytest.mark.wide
def test_costs_of_every_network(mutator):
    for network in NETWORKS:
        costs = mutator.cost_model.of(subnet_of(network, mutator))
        assert {key: costs[key] for key in COUNTS} == counts(network["computed"])


@pytest.mark.wide
def test_costs_of_tf_nas_a_are_those_of_the_built_network(mutator):
    network = NETWORKS[0]
    counted = count(mutator.export(subnet_of(network, mutator)).float(), (3, 224, 224))
    assert counted == counts(network["computed"])


@pytest.mark.wide
def test_the_shipped_subnet(mutator):
    file = read_subnet(ROOT / "configs/nas/tfnas/TFNAS_A.yaml", mutator.search_space)
    assert file.subnet == subnet_of(NETWORKS[0], mutator)
    assert {key: file.resources[key] for key in COUNTS} == counts(NETWORKS[0]["computed"])


@pytest.mark.wide
@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_latencies_are_the_published_sums(mutator, tables, device):
    for network in NETWORKS:
        own = network.get(f"{device}_lut_ms", network["computed"].get(f"{device}_lut_ms"))
        assert tables[device].of(subnet_of(network, mutator)) == own


@pytest.mark.wide
@pytest.mark.parametrize(("device", "low", "high"), [("gpu", 4.09, 27.06), ("cpu", 19.98, 135.91)])
def test_what_the_space_reaches(tables, device, low, high):
    table = tables[device]
    assert (round(table.extreme(largest=False), 2), round(table.extreme(largest=True), 2)) == (low, high)
    rows = table.space.sample_indices(np.random.default_rng(0), 2000)
    times = table(rows)
    assert table.extreme(largest=False) <= times.min() and times.max() <= table.extreme(largest=True)


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_statistics_of_the_tables(sources, device):
    published = figures("tfnas/latency_examples")
    source, facts = sources[device], published["table_statistics"][device]
    assert source.base == facts["base_ms"]
    assert sum(len(values) for values in source.entries.values()) == facts["entries"]
    assert sum(int((values < 0).sum()) for values in source.entries.values()) == facts["negative_entries"]
    assert len(source.negative()) == facts["keys_with_negative"]
    assert all((np.diff(values) >= 0).all() for values in source.entries.values()) == facts["non_decreasing"]
    assert f"{facts['negative_entries']} of them negative" in source.facts()
    for spot in published["spot_values"]:
        if spot["table"] == device:
            assert source.entries[spot["key"]][spot["mid_channels"] - 1] == spot["latency_ms"]


@pytest.mark.wide
def test_a_table_is_written_and_read(tables, tmp_path):
    table = tables["gpu"]
    table.write(tmp_path / "gpu.json")
    again = LatencyTable.read(tmp_path / "gpu.json", table.space)
    assert again.digest == table.digest
    assert again.extreme(largest=True) == table.extreme(largest=True)


@pytest.mark.wide
def test_costs_per_second_need_no_forward_pass(mutator):
    rows = mutator.search_space.sample_indices(np.random.default_rng(0), 300)
    together = mutator.cost_model(rows)
    for index in (0, 100, 299):
        alone = mutator.cost_model.of(mutator.search_space.subnet(rows[index]))
        assert alone == {name: int(values[index]) for name, values in together.items()}
