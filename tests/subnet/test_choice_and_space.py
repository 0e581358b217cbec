from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import Choice, LayerWidth, SearchSpace

CANDIDATES = [
    ("width", (8, 16, 24)),
    ("width", range(1, 6)),
    ("operator", ("conv", "pool", "skip")),
    ("value", (0.5, 1.0)),
    ("depth", (1, 2)),
    ("resolution", (128,)),
]


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Up to six choices of any kind; each may depend on any earlier one, the order is shuffled."""
    choices: list[Choice] = []
    for i in range(draw(st.integers(1, 6))):
        kind, candidates = draw(st.sampled_from(CANDIDATES))
        rule = None
        if choices and draw(st.booleans()):
            parent = draw(st.sampled_from(choices))
            values = draw(st.lists(st.sampled_from(list(parent.candidates)), min_size=1, unique=True))
            rule = (parent.name, tuple(values))
        choices.append(Choice(f"c{i}", candidates, kind, rule))
    return SearchSpace(draw(st.permutations(choices)))


fast = settings(max_examples=60, deadline=None, derandomize=True)


def every_row(space: SearchSpace) -> np.ndarray:
    rows = list(itertools.product(*(range(len(choice.candidates)) for choice in space.values())))
    return np.array(rows, dtype=np.int64)


@fast
@given(spaces())
def test_canonical_rows_are_the_subnets(space: SearchSpace) -> None:
    rows = every_row(space)
    canonical = space.canonical(rows)
    assert np.array_equal(space.canonical(canonical), canonical)
    assert np.array_equal(space.active(canonical), space.active(rows))
    distinct = np.unique(canonical, axis=0)
    assert len(distinct) == space.size
    assert len(np.unique(space.one_hot(distinct), axis=0)) == space.size
    assert np.array_equal(space.one_hot(canonical), space.one_hot(rows))
    subnets = {space.subnet(row) for row in rows}
    assert len(subnets) == space.size
    for row in distinct:
        subnet = space.subnet(row)
        space.validate(subnet)
        assert np.array_equal(space.index(subnet), row)
        only_active = {name: subnet[name] for name, on in zip(space, space.active(row[None])[0], strict=True) if on}
        assert np.array_equal(space.index(only_active), row)


@fast
@given(spaces(), st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0]))
def test_drawn_rows_are_canonical_and_repeatable(space: SearchSpace, seed: int, prob: float) -> None:
    def draw() -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        a, b = space.sample_indices(rng, 20), space.sample_indices(rng, 20)
        return [a, b, space.mutate(rng, a, prob), space.crossover(rng, a, b)]

    first, second = draw(), draw()
    for one, two in zip(first, second, strict=True):
        assert one.dtype == np.int64 and one.shape == (20, len(space))
        assert np.array_equal(one, two)
        assert np.array_equal(space.canonical(one), one)
    a, b, mutated, child = first
    if prob == 0:
        assert np.array_equal(mutated, a)
    on = space.active(child)
    assert ((child == a) | (child == b) | ~on).all()


def test_size_max_min(nested: SearchSpace) -> None:
    # depth 1: b0.op. depth 2: b0.op x (pool, or conv with 3 kernels) x ratio.
    assert nested.size == 2 + 2 * (1 + 3) * 2
    assert nested.max().to_dict() == {"b1.kernel": 7, "depth": 2, "b0.op": "pool", "b1.op": "conv", "b1.ratio": 1.0}
    assert nested.min().to_dict() == {"b1.kernel": 3, "depth": 1, "b0.op": "conv", "b1.op": "pool", "b1.ratio": 0.5}
    assert SearchSpace([]).size == 1 and len(SearchSpace([]).max()) == 0


def test_a_child_switched_on_by_mutation_is_drawn_evenly(nested: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(nested.index(nested.min())[None], 20000, axis=0)
    mutated = nested.mutate(rng, rows, 0.5)
    kernels = mutated[nested.active(mutated)[:, 0], 0]
    counts = np.bincount(kernels, minlength=3) / len(kernels)
    assert np.allclose(counts, 1 / 3, atol=0.03)


def test_crossover_takes_a_child_from_the_parent_that_has_it(nested: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    a = np.repeat(nested.index(nested.min())[None], 500, axis=0)
    b = np.repeat(nested.index(nested.max())[None], 500, axis=0)
    child = nested.crossover(rng, a, b)
    on = nested.active(child)[:, 0]
    assert 100 < on.sum() < 400
    assert (child[on, 0] == 2).all()


def test_sampling_is_uniform_per_choice(space: SearchSpace) -> None:
    rows = space.sample_indices(np.random.default_rng(0), 30000)
    for column, choice in enumerate(space.values()):
        assert np.allclose(np.bincount(rows[:, column]) / len(rows), 1 / len(choice.candidates), atol=0.02)


def test_numeric(space: SearchSpace, nested: SearchSpace) -> None:
    values = space.numeric(np.array([[0, 2], [5, 0]]))
    assert values.dtype == np.int64 and values.tolist() == [[8, 12], [48, 4]]
    values = nested.numeric(nested.index(nested.max())[None])
    assert values.dtype == np.float64 and values.tolist() == [[7, 2, 1, 1, 1.0]]


def test_fingerprint_knows_the_network_and_grid_the_candidates() -> None:
    def space(*choices: Choice) -> SearchSpace:
        return SearchSpace(choices)

    a, b = Choice("a", (8, 16)), Choice("b", (3, 5), kind="value")
    finer = Choice("a", range(1, 17))
    assert space(a, b).fingerprint == space(finer, b).fingerprint == space(b, a).fingerprint
    assert len({space(a, b).grid, space(finer, b).grid, space(b, a).grid}) == 3
    assert space(a, b).grid == space(Choice("a", range(8, 17, 8)), b).grid
    others = [
        space(a),
        space(Choice("a", (8, 24)), b),
        space(a, Choice("b", (3, 7), kind="value")),
        space(a, Choice("b", (3, 5), kind="resolution")),
        space(a, Choice("b", (3, 5), kind="value", active_if=("a", (8,)))),
    ]
    assert len({s.fingerprint for s in [space(a, b), *others]}) == 6


def test_fingerprint_is_equal_in_every_process(nested: SearchSpace) -> None:
    # Frozen: a change makes every file that people have written one "of another space".
    assert nested.fingerprint == "sha256:62b733364ece28a1"
    assert nested.grid == "sha256:9fb48460281a3291"
    code = (
        "from mmrazor_lite.subnet import *; print(SearchSpace([Choice('a', (8, 16)), "
        "Choice('b', ('x', 'y'), 'operator', ('a', (16, 8)))]).fingerprint)"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


def test_errors_name_choice_value_and_what_is_allowed(space: SearchSpace, nested: SearchSpace) -> None:
    good = {"conv1": 48, "layer1.conv": 12}

    def message(space: SearchSpace, subnet: dict) -> str:
        with pytest.raises(UserError) as error:
            space.validate(subnet, where="A.yaml")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert message(space, {**good, "conv2": 8}) == "A.yaml: unknown choice 'conv2' (did you mean 'conv1'?)"
    assert message(space, {"conv1": 48}) == "A.yaml: 1 of 2 choices missing: 'layer1.conv'"
    assert message(space, {**good, "conv1": 64}) == (
        "A.yaml: choice 'conv1': 64 is above the maximum 48 (allowed: 8..48 step 8)"
    )
    assert message(space, {**good, "layer1.conv": 7}) == (
        "A.yaml: choice 'layer1.conv': 7 is not a candidate (allowed: 4, 6, 12)"
    )
    assert "'1e6' is text, not a number" in message(space, {**good, "conv1": "1e6"})
    assert "8.0 is not a whole number" in message(space, {**good, "conv1": 8.0})
    for value in (True, None, [8], {"a": 1}):
        assert "is not a number" in message(space, {**good, "conv1": value})
    assert "3 is not a name (allowed: conv, pool)" in message(nested, {**nested.max(), "b0.op": 3})
    assert "nan is not a candidate" in message(nested, {**nested.max(), "b1.ratio": float("nan")})
    long = SearchSpace([Choice("w", tuple(2**i for i in range(12)))])
    assert message(long, {"w": 3}).endswith("(allowed: 1, 2, 4, 8, ..., 256, 512, 1024, 2048)")
    many = SearchSpace([Choice(f"c{i}", (1, 2)) for i in range(9)])
    assert message(many, {}).endswith("9 of 9 choices missing: 'c0', 'c1', 'c2', 'c3', 'c4' and 4 more")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("a", ()), "at least one candidate"),
        (("a", (16, 8)), "ascending"),
        (("a", range(48, 0, -8)), "ascending"),
        (("a", (8, 8)), "different"),
        (("a", (0, 8)), "at least 1"),
        (("a", (8, 16.0)), "whole numbers"),
        (("a", (True,)), "whole numbers"),
        (("a", ("x", "x"), "operator"), "different"),
        (("a", ("x", 1), "operator"), "all names or all numbers"),
        (("a", (0.5, float("inf")), "value"), "finite"),
        (("a", (8,), "widht"), "unknown kind"),
        (("", (8,)), "name of a choice"),
    ],
)
def test_bad_choices_are_refused(arguments: tuple, part: str) -> None:
    with pytest.raises(UserError, match=part):
        Choice(*arguments)


def test_bad_spaces_are_refused() -> None:
    a = Choice("a", (8, 16))
    with pytest.raises(UserError, match="given twice"):
        SearchSpace([a, a])
    with pytest.raises(UserError, match="not a choice of the space"):
        SearchSpace([Choice("b", (1, 2), active_if=("c", (1,)))])
    with pytest.raises(UserError, match="3 is not a candidate"):
        SearchSpace([a, Choice("b", (1, 2), active_if=("a", (3,)))])
    with pytest.raises(UserError, match="circle: a -> b -> a"):
        SearchSpace([Choice("a", (1, 2), active_if=("b", (1,))), Choice("b", (1, 2), active_if=("a", (1,)))])
    with pytest.raises(UserError, match="layer 'conv': 'b' is not a width choice"):
        SearchSpace([a], layers={"conv": LayerWidth("b", 16)})


def test_rows_of_another_shape_or_out_of_range_are_bugs(space: SearchSpace) -> None:
    for rows in (np.zeros(2, dtype=int), np.zeros((1, 3), dtype=int), np.zeros((1, 2)), np.array([[0, 3]])):
        with pytest.raises(ValueError, match=r"rows must be|outside"):
            space.canonical(rows)


def test_numpy_candidates_become_plain() -> None:
    choice = Choice("a", np.array([8, 16]))
    assert choice.candidates == (8, 16) and all(type(value) is int for value in choice.candidates)
    assert hash(choice) == hash(Choice("a", (8, 16)))
