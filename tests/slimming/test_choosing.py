"""Of several allocations the nearest to the original is taken, on all images that no trial was fitted with."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from slim_nets import Residual as WideResidual
from small_nets import build, images

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.estimators.width_curves import Curve, Priced, WidthCurves
from mmrazor_lite.graph import ChannelSum
from mmrazor_lite.slimming import choosing, timed
from mmrazor_lite.slimming.budgets import read_goal
from mmrazor_lite.slimming.choosing import (
    BEHIND,
    FEW_ROWS,
    TIED,
    Race,
    Setting,
    _last_from,
    check_fast,
    choose,
    first_near,
)
from mmrazor_lite.slimming.distance import softened
from mmrazor_lite.slimming.images import Images, read_images
from mmrazor_lite.slimming.judging import Judge
from mmrazor_lite.slimming.prepared import prepare
from mmrazor_lite.slimming.ranked import ranked
from mmrazor_lite.slimming.repair import original_of, refit_of
from mmrazor_lite.slimming.rival_rows import candidates, streams_of

FEW = 20


@pytest.fixture(scope="module")
def setting() -> Setting:
    network = build("Residual")
    found = read_images(images(160).split(20), network, images=160)
    prepared = prepare(network, found.shape)
    order = ranked(prepared, found)
    prepared.mutator.sort_channels(order.scores)
    return Setting(prepared, order.rankings, order.curves, "auto", found, Judge(prepared.network, found.held_out))


def pixels(batches) -> torch.Tensor:
    return torch.cat([found for found, _ in batches])


def test_images_are_those_of_a_trial_and_those_behind_it():
    found = Images([(images(7, seed), None) for seed in range(4)], [])
    for count in (1, 7, 8, 20, 28, 100):
        first, behind = found.first(count), found.behind(count)
        assert torch.equal(pixels([*first, *behind]), pixels(found.seen))
        assert len(first) == min(-(-count // 7), 4)


@pytest.mark.parametrize(
    "room, passes, more", [(2**20, 2**20, 2), (4 * 5 * 45, 2**20, 1), (0, 2**20, 0), (2**20, 200, 1), (2**20, 0, 0)]
)  # batches of 40; an image has 5 scores, and four rivals and the original have five passes of it
def test_the_nearest_on_all_other_images_is_taken(setting, room, passes, more, monkeypatch):
    """What is told of each rival is what it loses on images held out and, as memory and time allow, those not seen."""
    prepared, mutator = setting.prepared, setting.prepared.mutator
    costs = mutator.cost_model.max()
    monkeypatch.setattr(choosing, "FEW", FEW)
    monkeypatch.setattr(choosing, "BEHIND", float("inf"))
    monkeypatch.setattr(choosing, "MORE_BYTES", room)
    monkeypatch.setattr(choosing, "JUDGING", passes * costs["macs"])
    goal = read_goal("50%", None, None, costs)
    choice = choose(setting, goal, setting.judge(prepared.network))

    others = pixels([*setting.images.held_out, *setting.images.behind(FEW)[:more]])
    rows = candidates(
        setting.curves,
        setting.rankings,
        mutator.cost_model,
        mutator.search_space,
        {"macs": 0.5 * costs["macs"]},
        streams=streams_of(mutator),
    )
    lost = {}
    for name, row in rows.items():
        few = setting.images.first(FEW)
        small, _ = refit_of(prepared, mutator.search_space.subnet(row), few, original_of(prepared, few, FEW_ROWS))
        with torch.no_grad():
            lost[name] = softened(small(others), prepared.network.eval()(others))
    best = first_near(lost)
    assert len(lost) > 1 and choice.subnet == mutator.search_space.subnet(rows[best])
    (note,) = choice.notes
    assert f"'{best}' is taken" in note and f" on {len(others)} images" in note
    told = {name: float(re.search(rf"\b{name} (\S+?),? ", note)[1]) for name in lost}
    assert told == pytest.approx(lost, rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 3, 11, 40])
def test_the_last_place_that_keeps_enough_is_found_from_wherever_the_search_starts(count):
    for start, last in itertools.product(range(count), repeat=2):
        asked = []

        def holds(place, last=last, asked=asked):
            asked.append(place)
            return place <= last

        assert _last_from(start, count, holds) == last
        assert 0 not in asked[1:] and len(asked) == len(set(asked)), "each is a repair of a whole network"


def test_a_place_that_is_found_keeps_enough_where_others_below_it_do_not():
    rng = np.random.default_rng(0)
    for _ in range(200):
        kept = rng.random(12) < 0.5
        found = _last_from(int(rng.integers(12)), 12, lambda place, kept=kept: bool(kept[place]))
        assert kept[found] or found == 0


class Lanes:
    """A bench on which networks are fast whose layers all have multiples of 16 channels, but for images and classes."""

    threads, pace = 1, None

    def timer(self, module, size):
        layers = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
        slow = any(layer.out_channels % 16 for layer in layers)
        seconds = 1e-6 * (sum(p.numel() for p in module.parameters()) + (1e6 if slow else 0))
        return lambda runs: runs * seconds


@pytest.mark.parametrize("divisor", ["auto", 1, 8])
def test_a_limit_that_only_whole_lanes_meet_is_not_refused(divisor, monkeypatch):
    monkeypatch.setattr(timed, "MIN_SECONDS", 1e-9)
    prepared = prepare(WideResidual(64), (3, 16, 16))
    goal = read_goal({"latency": "50%"}, None, None, prepared.mutator.cost_model.max())
    check_fast(prepared, goal, divisor, Lanes())
    with pytest.raises(UserError, match="out of reach: the fastest subnet takes"):
        check_fast(prepared, read_goal("0.0001ms", None, None, prepared.mutator.cost_model.max()), divisor, Lanes())


class Predicted:
    """In the place of a stopwatch: what a table says, to the last digit."""

    table: LatencyTable

    def __init__(self, prepared, bench) -> None:
        self.full = self.table.of(prepared.mutator.search_space.max())

    def __call__(self, subnet) -> timed.Pair:
        return timed.Pair(self.full, self.table.of(subnet))


def test_a_limit_below_what_the_smallest_widths_take_is_met(setting, monkeypatch):
    """Where widths beside the lanes take ten times as long, the narrowest network is slow."""
    space = setting.prepared.mutator.search_space
    tops = [choice.candidates[-1] for choice in space.values()]
    curves = [Curve("op", (np.array([1, top]),), np.array([1.0, 4.0]), lanes=4, beside=10.0) for top in tops]
    calls = [Priced(name, index, (ChannelSum(0, ((name, 1, 1),)),)) for index, name in enumerate(space)]
    table = LatencyTable(space, Cell("", (), np.zeros(1)), [], widths=WidthCurves(space, curves, calls))
    full, smallest = table.of(space.max()), table.of(space.min())
    assert table.extreme(False) < 0.7 * full < smallest
    monkeypatch.setattr(Predicted, "table", table, raising=False)
    monkeypatch.setattr(choosing, "Stopwatch", Predicted)
    goal = read_goal({"latency": "70%"}, None, None, setting.prepared.mutator.cost_model.max())
    one = replace(setting, divisor=1)
    check_fast(setting.prepared, goal, 1, None, table)
    choice = choose(one, goal, setting.judge(setting.prepared.network), timed.Timed(table, None))
    assert table.extreme(False) <= table.of(choice.subnet) <= 0.7 * full * (1 + timed.NEAR)


def test_of_rivals_that_are_about_as_near_the_first_is_taken():
    inf = float("inf")
    assert first_near({"a": 1 + 0.9 * TIED, "b": 1.0, "c": 1.0}) == "a"
    assert first_near({"a": 1 + 1.1 * TIED, "b": 1 + 0.9 * TIED, "c": 1.0}) == "b"
    assert first_near({"a": inf, "b": 0.0, "c": 1e-9}) == "b"
    assert first_near({"a": inf, "b": inf}) == "a"


def test_a_rival_that_is_clearly_behind_is_not_looked_at_to_the_end():
    race, looked_at = Race(), []

    def batches(*losses):
        for loss in losses:
            looked_at.append(loss)
            yield 50, loss

    race.add("a", batches(1.0, 3.0, 2.0))
    race.add("b", batches(2 * BEHIND + 0.3, 2 * BEHIND - 0.2, 0.0))  # of 100 images, behind what 'a' loses on the same
    race.add("c", batches(2 * BEHIND, 2 * BEHIND - 0.2, 0.3))  # not so much
    race.add("d", batches(2.0, 2.0, 9.0))  # 'c' is the best by now
    assert looked_at == pytest.approx([1.0, 3.0, 2.0, 3.3, 2.8, 3.0, 2.8, 0.3, 2.0, 2.0, 9.0])
    assert race.lost == pytest.approx({"a": 2.0, "c": 6.1 / 3})
    assert race.told == "a 2, b 3.05 (100 of them), c 2.03, d 4.33"


def test_a_rival_that_is_clearly_behind_on_easy_images_does_not_win():
    race = Race()
    race.add("a", iter([(100, 1.0), (300, 4.0)]))
    race.add("b", iter([(100, 2.0), (300, 8.0)]))  # is behind on the first, where 'a' loses less than on all
    race.add("c", iter([(100, 1.4), (300, 4.1)]))  # is measured by 'a', and not by what 'b' lost on the first
    assert race.lost == pytest.approx({"a": 3.25, "c": 3.425})
    assert race.told == "a 3.25, b 2 (100 of them), c 3.42"
