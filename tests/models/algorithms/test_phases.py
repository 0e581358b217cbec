"""Phases of progressive shrinking: which part of a space each one trains."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from figures import figures

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.phases import Phase, phases_of
from mmrazor_lite.subnet import Choice, SearchSpace

PUBLISHED = {"kernels": (3, 5, 7), "ratios": (3, 4, 6), "depths": (2, 3, 4)}
SPACES = {
    "published": PUBLISHED,
    "two kernels, four ratios": {"kernels": (3, 5), "ratios": (1, 2, 3, 6), "depths": (1, 2)},
    "five depths": {"kernels": (3, 5, 7, 9), "ratios": (2, 4), "depths": (1, 2, 3, 4, 5)},
    "no resolution": {"kernels": (3, 7), "ratios": (2, 3, 4), "depths": (2, 4), "resolutions": None},
    "one ratio": {"kernels": (3, 5), "ratios": (6,), "depths": (1, 3)},
    "one kernel": {"kernels": (5,), "ratios": (2, 3), "depths": (1, 2, 3)},
    "one depth": {"kernels": (3, 5), "ratios": (2, 3), "depths": (2,)},
}
ALL = pytest.mark.parametrize("name", SPACES)


def make_space(kernels, ratios, depths, resolutions=(128, 160, 192, 224), stages: int = 2) -> SearchSpace:
    """As the mutator publishes one: elastic stages, and a last one of one block."""
    choices = [] if resolutions is None else [Choice("resolution", resolutions, kind="resolution")]
    for stage in range(1, stages + 1):
        place = f"backbone.layers.{stage}"
        if len(depths) > 1:
            choices.append(Choice(f"{place}.depth", depths, kind="depth"))
        for block in range(depths[-1]):
            choices += _block(f"{place}.{block}", kernels, ratios, _rule(place, depths, block))
    return SearchSpace([*choices, *_block(f"backbone.layers.{stages + 1}.0", kernels, ratios, None)])


def _rule(place: str, depths: tuple, block: int) -> tuple | None:
    runs = tuple(depth for depth in depths if depth > block)
    return None if runs == depths else (f"{place}.depth", runs)


def _block(place: str, kernels: tuple, ratios: tuple, rule: tuple | None) -> list[Choice]:
    return [
        Choice(f"{place}.kernel_size", kernels, kind="value", active_if=rule),
        Choice(f"{place}.expand_ratio", ratios, kind="value", active_if=rule),
    ]


def candidates(space: SearchSpace, suffix: str) -> tuple:
    """The candidates that all choices with this ending share."""
    (found,) = {choice.candidates for name, choice in space.items() if name.endswith(suffix)}
    return found


def test_the_published_phases():
    table = figures("ofa/progressive_shrinking")
    space = make_space(**PUBLISHED, stages=5)
    several = {"depth", "expand"}
    names = [f"{row['task']}_{row['phase']}" if row["task"] in several else row["task"] for row in table["steps"]]
    assert phases_of(space) == ["teacher", *names] and len(names) + 1 == len(table["order"])
    before, trained = "teacher", {"ks": [7], "expand": [6], "depth": [4]}
    for name, row in zip(names, table["steps"], strict=True):
        phase = Phase(name, space)
        found = {
            "ks": list(candidates(phase.space, ".kernel_size")),
            "expand": list(candidates(phase.space, ".expand_ratio")),
            "depth": list(candidates(phase.space, ".depth")),
        }
        assert found == {key: row[key] for key in found}, name
        assert phase.subnets_per_step == row["subnets_per_step"]
        assert phase.space["resolution"].candidates == space["resolution"].candidates
        # It starts from the network whose name says what was trained: D depths, E ratios, K kernels.
        letters = {"D": "depth", "E": "expand", "K": "ks"}
        start = dict.fromkeys(letters.values(), None)
        for word in row["starts_from"].removeprefix("ofa_").split("_"):
            start[letters[word[0]]] = [int(digit) for digit in word[1:]]
        assert phase.before == before and trained == start
        assert set(phase.trained(".expand_ratio").values()) == {tuple(start["expand"])}
        before, trained = name, found
    assert candidates(Phase(before, space).space, ".expand_ratio") == (3, 4, 6)


@ALL
def test_phases_grow_from_one_subnet_to_the_whole_space(name):
    space = make_space(**SPACES[name])
    names = phases_of(space)
    assert names[0] == "teacher" and len(names) == len(set(names))
    resolutions = len(space["resolution"].candidates) if "resolution" in space else 1
    sizes = [Phase(phase, space).space.size for phase in names]
    assert sizes[0] == resolutions and sizes[-1] == space.size
    assert all(a < b for a, b in itertools.pairwise(sizes))
    for a, b in itertools.pairwise(names):
        smaller, larger = Phase(a, space).space, Phase(b, space).space
        assert all(set(smaller[key].candidates) <= set(larger[key].candidates) for key in space)
        assert Phase(b, space).before == a
    assert Phase(names[0], space).before is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("two kernels, four ratios", ["teacher", "kernel", "depth_1", "expand_1", "expand_2", "expand_3"]),
        ("five depths", ["teacher", "kernel", "depth_1", "depth_2", "depth_3", "depth_4", "expand_1"]),
        ("one ratio", ["teacher", "kernel", "depth_1"]),
        ("one kernel", ["teacher", "depth_1", "depth_2", "expand_1"]),
        ("one depth", ["teacher", "kernel", "expand_1"]),
    ],
)
def test_there_is_a_phase_for_each_candidate_that_is_added(name, expected):
    space = make_space(**SPACES[name])
    assert phases_of(space) == expected
    kernels, ratios, depths = (SPACES[name][key] for key in ("kernels", "ratios", "depths"))
    for phase in expected:
        kind, _, number = phase.partition("_")
        step = ["teacher", "kernel", "depth", "expand"].index(kind)
        found = Phase(phase, space).space
        assert candidates(found, ".kernel_size") == (kernels if step >= 1 else kernels[-1:])
        first = len(ratios) - 1 - (int(number) if step == 3 else 0)
        assert candidates(found, ".expand_ratio") == ratios[first:]
        if len(depths) > 1:
            first = 0 if step == 3 else len(depths) - 1 - (int(number) if step == 2 else 0)
            assert candidates(found, ".depth") == depths[first:]


@ALL
def test_draws_are_subnets_of_the_phase_and_of_the_whole_space(name):
    space = make_space(**SPACES[name])
    for phase in (Phase(each, space) for each in phases_of(space)):
        rng = np.random.default_rng(0)
        for _ in range(50):
            subnet = phase.sample(rng)
            space.validate(subnet)
            row = space.index(subnet)
            assert space.subnet(row) == subnet and list(subnet) == list(space)  # canonical
            active = space.active(row[None])[0]
            for key, on in zip(space, active, strict=True):
                assert subnet[key] in phase.space[key].candidates if on else subnet[key] == space[key].candidates[0]
        again = np.random.default_rng(0)
        assert phase.sample(again) == phase.sample(np.random.default_rng(0))


@ALL
def test_ends_of_a_phase(name):
    space = make_space(**SPACES[name])
    for each in phases_of(space):
        phase = Phase(each, space)
        assert phase.max() == space.max()
        smallest = {key: choice.candidates[0] for key, choice in phase.space.items()}
        assert phase.min() == space.subnet(space.index(smallest))
    assert Phase(phases_of(space)[-1], space).min() == space.min()


def test_draws_are_uniform():
    space = make_space(**PUBLISHED)
    phase, rng = Phase("depth_1", space), np.random.default_rng(1)
    draws = [phase.sample(rng) for _ in range(2000)]
    expected = {"resolution": (128, 160, 192, 224), "backbone.layers.1.depth": (3, 4)}
    expected |= {"backbone.layers.2.0.kernel_size": (3, 5, 7), "backbone.layers.2.0.expand_ratio": (6,)}
    for key, values in expected.items():
        shares = [np.mean([draw[key] == value for draw in draws]) for value in values]
        assert sum(shares) == pytest.approx(1) and max(abs(np.array(shares) - 1 / len(values))) < 0.05
    deepest = [draw for draw in draws if draw["backbone.layers.1.depth"] == 4]
    shares = [np.mean([draw["backbone.layers.1.3.kernel_size"] == size for draw in deepest]) for size in (3, 5, 7)]
    assert max(abs(np.array(shares) - 1 / 3)) < 0.06


def test_a_resolution_may_be_given():
    space = make_space(**PUBLISHED)
    phase = Phase("kernel", space)
    for size in space["resolution"].candidates:
        drawn, free = (phase.sample(np.random.default_rng(3), value) for value in (size, None))
        assert drawn["resolution"] == size
        assert {**drawn, "resolution": 0} == {**free, "resolution": 0}
    with pytest.raises(UserError, match="resolution"):
        phase.sample(np.random.default_rng(3), 130)


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("expand", r"algorithm\.phase='expand' is unknown \(did you mean 'expand_.'\?\)"),
        ("depth_3", "in order: teacher, kernel, depth_1, depth_2, expand_1, expand_2"),
        ("width_1", "is unknown"),
        ("kernel_1", "is unknown"),
        ("", "is unknown"),
        (3, "is unknown"),
    ],
)
def test_an_unknown_phase_names_those_there_are(phase, message):
    with pytest.raises(UserError, match=message) as error:
        Phase(phase, make_space(**PUBLISHED))
    assert "\n" not in str(error.value)
