"""Of several allocations the nearest to the original is taken, on all images that no trial was fitted with."""

from __future__ import annotations

import re

import pytest
import torch
from small_nets import build, images

from mmrazor_lite.slimming import choosing
from mmrazor_lite.slimming.budgets import read_goal
from mmrazor_lite.slimming.choosing import BEHIND, FEW_ROWS, TIED, Race, Setting, choose, first_near
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
