"""Widths under budgets: against every subnet of a tiny space, and exact costs in larger ones."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from zoo import Prepared, prepare

from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming import allocation
from mmrazor_lite.slimming.allocation import allocate, path, step_of, uniform
from mmrazor_lite.slimming.rival_rows import candidates


def chain(widths: list[int]) -> Prepared:
    torch.manual_seed(0)
    layers, inputs = [], 3
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
        inputs = width
    return prepare(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 4)), (3, 6, 6))


@pytest.fixture(scope="module")
def tiny() -> Prepared:
    return chain([4, 6, 5, 7])


@pytest.fixture(scope="module")
def wide() -> Prepared:
    return chain([32, 64, 64, 128, 16, 48])


def falling(network: Prepared, seed: int) -> dict[str, np.ndarray]:
    """Random curves: infinite without units, 0 with all."""
    rng = np.random.default_rng(seed)
    curves = {}
    for name, units in network.mutator.unit_counts.items():
        steps = rng.gamma(0.5, size=units) * rng.gamma(1.0)
        curves[name] = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
        curves[name][0] = np.inf
    return curves


def brute(network: Prepared, curves: dict, limits: dict) -> float:
    space, cost = network.mutator.search_space, network.mutator.cost_model
    rows = np.array(list(itertools.product(*(range(len(choice.candidates)) for choice in space.values()))))
    costs = cost(rows)
    legal = np.all([costs[name] <= limit for name, limit in limits.items()], axis=0)
    loss = sum(curve[rows[:, d] + 1] for d, curve in enumerate(curves.values()))
    return float(loss[legal].min())


def lost(curves: dict, row: np.ndarray) -> float:
    return float(sum(curve[index + 1] for curve, index in zip(curves.values(), row, strict=True)))


LIMITS = [{"macs": 0.5}, {"params": 0.3}, {"macs": 0.7, "params": 0.5}, {"memory": 0.7, "flops": 0.6}, {"memory": 0.6}]


@pytest.mark.parametrize("shares", LIMITS, ids=str)
@pytest.mark.parametrize("listed", [True, False])
def test_nothing_within_the_limits_loses_less(tiny: Prepared, shares: dict, listed: bool, monkeypatch) -> None:
    """Equal to every subnet tried: by the list, and by cuts and exchanges alone."""
    full = tiny.mutator.cost_model.max()
    limits = {name: share * full[name] for name, share in shares.items()}
    if not listed:
        monkeypatch.setattr(allocation, "LISTED", 0)
    for seed in range(4):
        curves = falling(tiny, seed)
        row = allocate(curves, tiny.mutator.cost_model, tiny.mutator.search_space, limits, divisor=1)
        costs = tiny.mutator.cost_model(row[None])
        assert all(costs[name][0] <= limit for name, limit in limits.items())
        assert lost(curves, row) == pytest.approx(brute(tiny, curves, limits), rel=1e-12)


@pytest.mark.parametrize("shares", LIMITS, ids=str)
def test_limits_hold_and_are_used(wide: Prepared, shares: dict) -> None:
    """Within every limit; and no group could be a step wider within them."""
    cost, space = wide.mutator.cost_model, wide.mutator.search_space
    limits = {name: share * cost.max()[name] for name, share in shares.items()}
    curves = {name: curve for name, curve in falling(wide, 3).items()}
    row = allocate(curves, cost, space, limits)
    subnet, counted = space.subnet(row), cost(row[None])
    assert all(counted[name][0] <= limit for name, limit in limits.items())
    for d, (name, choice) in enumerate(space.items()):
        full = choice.candidates[-1]
        step = step_of(full, 1)
        assert subnet[name] % step == 0
        if subnet[name] < full:
            wider = row.copy()
            wider[d] = choice.candidates.index(min(subnet[name] + step, full))
            over = cost(wider[None])
            assert any(over[key][0] > limit for key, limit in limits.items()) or lost(curves, wider) == lost(
                curves, row
            )


def test_steps() -> None:
    assert [step_of(full, 1) for full in (3, 16, 31, 32, 64, 127, 128, 1000)] == [1, 1, 1, 2, 4, 4, 8, 8]
    assert step_of(24, 3, 4) == 12
    assert step_of(6, 1, 8) == 6  # narrower than the divisor: it stays
    with pytest.raises(UserError, match="divisor=0"):
        step_of(8, 1, 0)


def test_least_widths_and_kept_groups(wide: Prepared) -> None:
    cost, space = wide.mutator.cost_model, wide.mutator.search_space
    limits = {"macs": 0.3 * cost.max()["macs"]}
    least = {"6": 128, "[02]": 20, "*": 9}
    subnet = space.subnet(allocate(falling(wide, 1), cost, space, limits, least=least))
    assert subnet["6"] == 128
    assert min(subnet["0"], subnet["2"]) >= 20
    assert min(subnet.values()) >= 9
    with pytest.raises(UserError, match="'encoder.\\*' matches no width group"):
        allocate(falling(wide, 1), cost, space, limits, least={"encoder.*": 3})
    with pytest.raises(UserError, match="limits\\['6'\\]=0.5"):
        allocate(falling(wide, 1), cost, space, limits, least={"6": 0.5})


def test_a_limit_out_of_reach_says_both_ends(wide: Prepared) -> None:
    cost, space = wide.mutator.cost_model, wide.mutator.search_space
    told = r"macs=10.0 \(0.000179% of .*\) is out of reach.*cheapest subnet costs \d+ \(0.418%\), the full network \d+"
    with pytest.raises(UserError, match=told):
        allocate(falling(wide, 0), cost, space, {"macs": 10.0})


def test_the_path_goes_down_one_step_at_a_time(wide: Prepared) -> None:
    cost, space = wide.mutator.cost_model, wide.mutator.search_space
    rows = path(falling(wide, 2), cost, space, ("macs", "params"))
    costs = cost(rows)
    assert np.array_equal(rows[0], space.index(space.max()))
    assert ((rows[1:] != rows[:-1]).sum(1) == 1).all()
    assert (np.diff(rows, axis=0) <= 0).all()
    assert (np.diff(costs["macs"]) < 0).all()
    smallest = {name: step_of(choice.candidates[-1], 1) for name, choice in space.items()}
    assert dict(space.subnet(rows[-1])) == smallest


def test_what_costs_nothing_is_cut_first(wide: Prepared) -> None:
    cost, space = wide.mutator.cost_model, wide.mutator.search_space
    curves = {name: np.append(np.full(units, 1.0), 0.0) for name, units in wide.mutator.unit_counts.items()}
    curves["2"] = np.zeros(65)
    subnet = space.subnet(allocate(curves, cost, space, {"macs": 0.9 * cost.max()["macs"]}))
    assert subnet["2"] < 64
    assert all(width == space[name].candidates[-1] for name, width in subnet.items() if name != "2")


class Lanes:
    """Macs of a network, and milliseconds of each width for itself: numbers beside ``lanes`` take longer."""

    fingerprint = "sha256:lanes"

    def __init__(self, network: Prepared, lanes: int, beside: float) -> None:
        self.counted, self.space = network.mutator.cost_model, network.mutator.search_space
        self.lanes, self.beside = lanes, beside

    def __call__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        widths = self.space.numeric(rows)
        times = (1 + widths / 8) * np.where(widths % self.lanes, self.beside, 1.0)
        return {**self.counted(rows), "latency": times.sum(1)}

    def extreme_row(self, resource: str, largest: bool) -> np.ndarray:
        assert resource == "latency"
        found = []
        for column, choice in enumerate(self.space.values()):
            rows = np.zeros((len(choice.candidates), len(self.space)), np.int64)
            rows[:, column] = np.arange(len(rows))
            times = self(rows)["latency"]
            found.append(int(times.argmax() if largest else times.argmin()))
        return np.array(found)


@pytest.mark.parametrize("listed", [True, False])
def test_milliseconds_that_fall_as_a_width_grows(tiny: Prepared, listed: bool, monkeypatch) -> None:
    """Down to the fastest subnet, which is not the smallest one, a budget is met and used; below it nothing is."""
    cost, space = Lanes(tiny, 3, 4.0), tiny.mutator.search_space
    rows = np.array(list(itertools.product(*(range(len(choice.candidates)) for choice in space.values()))))
    times = cost(rows)["latency"]
    assert times.min() < times[0], "the smallest"
    if not listed:
        monkeypatch.setattr(allocation, "LISTED", 0)
    for seed, limit in enumerate(np.append(np.quantile(times, [0.01, 0.1, 0.5]), times.min())):
        curves = falling(tiny, seed)
        row = allocate(curves, cost, space, {"latency": limit}, divisor=1)
        assert cost(row[None])["latency"][0] <= limit
        best = min(lost(curves, other) for other in rows[times <= limit])
        assert lost(curves, row) == pytest.approx(best, rel=1e-12)
    told = rf"out of reach: .* the cheapest subnet costs {times.min():.10g} .*, the full network {times[-1]:.10g}"
    with pytest.raises(UserError, match=told):
        allocate(curves, cost, space, {"latency": 0.999 * times.min()}, divisor=1)


@pytest.mark.parametrize("listed", [True, False])
def test_limits_that_are_met_one_by_one_but_not_together(tiny: Prepared, listed: bool, monkeypatch) -> None:
    cost, space = Lanes(tiny, 3, 4.0), tiny.mutator.search_space
    rows = np.array(list(itertools.product(*(range(len(choice.candidates)) for choice in space.values()))))
    costs = cost(rows)
    fastest = costs["latency"].argmin()
    if not listed:
        monkeypatch.setattr(allocation, "LISTED", 0)
    limits = {"macs": costs["macs"][0], "latency": costs["latency"][fastest]}
    said = "each of the limits can be met, but no subnet was found that meets all of them; the nearest has macs="
    with pytest.raises(UserError, match=said) as told:
        allocate(falling(tiny, 0), cost, space, limits, divisor=1)
    assert "\n" not in str(told.value)
    both = {"macs": costs["macs"][fastest], "latency": costs["latency"][fastest]}
    found = cost(allocate(falling(tiny, 0), cost, space, both, divisor=1)[None])
    assert all(found[name][0] <= limit for name, limit in both.items())


def test_one_share_for_all_may_meet_no_limit(tiny: Prepared) -> None:
    """Then there is one rival less, and others are tried."""
    cost, space = Lanes(tiny, 3, 4.0), tiny.mutator.search_space
    limits = {"latency": cost(cost.extreme_row("latency", False)[None])["latency"][0]}
    with pytest.raises(UserError, match="latency=.* is out of reach with one share of the width in all groups"):
        uniform(falling(tiny, 0), cost, space, limits, divisor=1)
    rankings = {name: SimpleNamespace(errors=curve) for name, curve in falling(tiny, 1).items()}
    rows = candidates(falling(tiny, 0), rankings, cost, space, limits, divisor=1)
    assert rows and "uniform" not in rows
    assert all(cost(row[None])["latency"][0] <= limits["latency"] for row in rows.values())
