"""Slimming step by step: ranked channels, a search, the passes of a sandwich, files; cells that run twice."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_nets import build, images
from torch import nn

from mmrazor_lite import Slimmer
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.estimators.resource import plain_cost
from mmrazor_lite.estimators.width_curves import Curve, Priced, WidthCurves
from mmrazor_lite.graph import ChannelSum

SHAPE = (3, 16, 16)
SMALL = {"max_epochs": 3, "num_candidates": 12, "top_k": 5, "num_mutation": 6, "num_crossover": 6}


@pytest.fixture(scope="module")
def made() -> tuple[nn.Module, Slimmer]:
    network = build("Residual").eval()
    slimmer = Slimmer(network, SHAPE)
    slimmer.rank(images(), "l1", images=60)
    return network, slimmer


@pytest.fixture
def slimmer(made) -> Slimmer:
    slimmer = made[1]
    slimmer.activate(slimmer.space.max())
    slimmer.model.eval()
    return slimmer


def test_ranking_keeps_what_the_network_computes(made, slimmer):
    network = made[0]
    assert torch.allclose(slimmer.model(images(4)), network(images(4)), atol=1e-5)
    norms = slimmer.model.block1[0][0].weight.flatten(1).norm(1, 1)
    assert norms.shape == (24,) and not torch.equal(network.block1[0][0].weight, slimmer.model.block1[0][0].weight)


def test_a_search_by_curves_meets_the_budget(slimmer):
    subnet = slimmer.search({"macs": "50%", "params": "70%"})
    assert subnet == slimmer.search({"macs": "50%", "params": "70%"})
    found, full = slimmer.cost.of(subnet), slimmer.cost.of(slimmer.space.max())
    assert 0.4 * full["macs"] < found["macs"] <= 0.5 * full["macs"] and found["params"] <= 0.7 * full["params"]
    assert slimmer.active == slimmer.space.max()


def test_a_search_in_milliseconds_of_a_table(slimmer, tmp_path):
    """A table that takes 0.1 ms for each channel of every group, and 1 ms beside."""
    path, space = tmp_path / "table.json", slimmer.space
    full = {name: choice.candidates[-1] for name, choice in space.items()}
    curves = [Curve("op", (np.array([1, top]),), 0.1 * np.array([1, top])) for top in full.values()]
    calls = [Priced(name, index, (ChannelSum(0, ((name, 1, 1),)),)) for index, name in enumerate(space)]
    LatencyTable(space, Cell("", (), np.ones(1)), [], widths=WidthCurves(space, curves, calls)).write(path)
    most = 1 + 0.1 * sum(full.values())
    for subnet in (
        slimmer.search({"latency": "60%"}, table=path),
        slimmer.search({"latency": "60%"}, lambda network: float(slimmer.active["block1.0.0"]), path, **SMALL),
    ):
        assert 0.5 * most < 1 + 0.1 * sum(subnet.values()) <= 0.6 * most
    slow = tmp_path / "slow.json"  # one channel less than all takes twice as long; shares are of the full network
    lanes = [replace(curve, lanes=top, beside=2.0) for curve, top in zip(curves, full.values(), strict=True)]
    LatencyTable(space, Cell("", (), np.ones(1)), [], widths=WidthCurves(space, lanes, calls)).write(slow)
    table = LatencyTable.read(slow, space)
    assert table.of(slimmer.search({"latency": "60%"}, table=slow)) <= 0.6 * most < 0.6 * table.extreme(True)
    stepped = tmp_path / "steps.json"
    read = LatencyTable.read(path, space)
    LatencyTable(space, read.base, [], widths=read.widths, steps=dict.fromkeys(space, 8)).write(stepped)
    for subnet in (
        slimmer.search({"latency": "60%"}, table=stepped),
        slimmer.search({"latency": "60%"}, lambda network: float(slimmer.active["block1.0.0"]), stepped, **SMALL),
    ):
        assert all(width % 8 == 0 for width in subnet.values()) and 1 + 0.1 * sum(subnet.values()) <= 0.6 * most
    with pytest.raises(UserError, match=r"latency=0.5 \(6.76% of the full network\) is out of reach"):
        slimmer.search("0.5ms", table=path)
    path.write_text(
        path.read_text().replace('"device": {}', '"device": {"input_shape": [3, 8, 8]}').split(', "crc"')[0] + "}"
    )
    with pytest.raises(
        UserError, match=r"table.json: the latency table is of images \[3, 8, 8\], .* are \[3, 16, 16\]"
    ):
        slimmer.search({"latency": "60%"}, table=path)
    path.with_suffix(".npz").write_bytes(b"")
    with pytest.raises(UserError, match="a published table is of operators, this network has widths"):
        slimmer.search({"latency": "60%"}, table=path.with_suffix(".npz"))


def test_a_search_by_a_score(slimmer):
    """The best of what was scored is what comes back, and the first to be scored is what the curves say."""
    scored = []

    def score(network: nn.Module) -> float:
        assert network is slimmer.model and not network.training
        scored.append((slimmer.active, -abs(slimmer.active["block1.0.0"] - 6.0)))
        return scored[-1][1]

    slimmer.model.train()
    found = slimmer.search("60%", score, **SMALL)
    assert scored[0][0] == slimmer.search("60%")
    assert dict(scored)[found] == max(value for _, value in scored) > scored[0][1]
    limit = 0.6 * slimmer.cost.of(slimmer.space.max())["macs"]
    assert all(slimmer.cost.of(subnet)["macs"] <= limit for subnet, _ in scored)
    assert slimmer.model.training and slimmer.active == slimmer.space.max()


def test_the_passes_of_a_sandwich(slimmer):
    largest = slimmer.space.max()
    steps = [list(slimmer.passes(randoms=2)) for _ in range(2)]
    assert all(step[0] == largest and len(step) == 4 for step in steps)
    assert steps[0][1] == steps[1][1] and steps[0][2:] != steps[1][2:]
    for subnet in slimmer.passes(randoms=1):
        assert slimmer.active == subnet and slimmer.model.stem(images(1)).shape[1] == subnet["stem.0"]
        slimmer.model(images(2)).sum().backward()
        if subnet == steps[0][1]:
            break
    assert slimmer.active == largest
    slimmer.model.zero_grad()


def test_exports_and_files(made, slimmer, tmp_path):
    subnet = slimmer.search("50%")
    slimmer.activate(subnet)
    plain = slimmer.export()
    assert plain_cost(plain, SHAPE) == slimmer.cost.of(subnet)
    assert torch.allclose(plain(images(3)), slimmer.model(images(3)), atol=1e-6)
    slimmer.save(tmp_path / "subnet.yaml")
    slimmer.activate(slimmer.space.min())
    assert slimmer.load_subnet(tmp_path / "subnet.yaml") == subnet == slimmer.active
    fitted = slimmer.export(subnet, data=images(), images=60)
    with torch.no_grad():
        errors = [float((net(images(20)) - made[0](images(20))).square().mean()) for net in (plain, fitted)]
    assert errors[1] < errors[0] and slimmer.active == subnet


def test_a_cell_that_runs_twice(made, slimmer):
    """A network that a slimmer holds goes on into the next one, with its weights."""
    network = made[0]
    before = copy.deepcopy(network.state_dict())
    again = Slimmer(network, SHAPE, keep=["block2"])
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    slimmer.activate(slimmer.space.min())
    over = Slimmer(slimmer.model, SHAPE)
    assert over.space.fingerprint == slimmer.space.fingerprint and set(again.space) < set(over.space)
    over.activate(over.space.min())
    model = over.model.eval()
    del over
    third = Slimmer(model, SHAPE)
    assert torch.allclose(third.model(images(3)), network(images(3)), atol=1e-5)
    assert slimmer.active == slimmer.space.min() and slimmer.model.block1[0][0].out_channels == 1


def test_what_it_refuses(slimmer, tmp_path):
    fresh = Slimmer(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)), SHAPE)
    with pytest.raises(UserError, match=r"call rank\(data\) before, or give score="):
        fresh.search("50%")
    with pytest.raises(UserError, match="score must give a number, got None"):
        fresh.search("50%", score=lambda network: None)
    with pytest.raises(UserError, match="must be a finite number, got nan"):
        fresh.search("50%", score=lambda network: np.nan)
    with pytest.raises(UserError, match="budget '2ms' needs table=, a latency table"):
        slimmer.search("2ms")
    with pytest.raises(UserError, match="budget '50%' is counted: table= is for milliseconds"):
        slimmer.search("50%", table="table.json")
    with pytest.raises(UserError, match="search: .*max_epoch"):
        fresh.search("50%", score=lambda network: 1.0, max_epoch=3)
    with pytest.raises(UserError, match="is for a search with a score"):
        slimmer.search("50%", max_epochs=3)
    fresh.save(tmp_path / "other.yaml")
    with pytest.raises(UserError, match="a subnet of another space"):
        slimmer.load_subnet(tmp_path / "other.yaml")
    with pytest.raises(UserError, match="of another size|wanted are"):
        slimmer.rank(torch.zeros(12, 3, 8, 8))
