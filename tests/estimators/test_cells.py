"""Look-ups by part against sums written as loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmrazor_lite.estimators import RESOURCES, CostModel
from mmrazor_lite.estimators.cells import Cell, CellTable
from mmrazor_lite.graph import LayerTable
from mmrazor_lite.subnet import Choice, SearchSpace

BYTES = 4
PARTS = {  # part -> the choices that it depends on, not always in the order of the space
    "always": (),
    "size": ("resolution",),
    "first": ("resolution", "a.kernel_size"),
    "second": ("resolution", "depth", "b.kernel_size", "b.ratio"),
    "third": ("b.ratio", "operator"),
}


def make_space() -> SearchSpace:
    runs = ("depth", (2, 3))
    return SearchSpace(
        [
            Choice("resolution", (16, 24, 32), kind="resolution"),
            Choice("unused", (1, 2), kind="value"),
            Choice("depth", (1, 2, 3), kind="depth"),
            Choice("a.kernel_size", (3, 5, 7), kind="value"),
            Choice("b.kernel_size", (3, 5), kind="value", active_if=runs),
            Choice("b.ratio", (0.5, 1, 2, 4), kind="value", active_if=runs),
            Choice("operator", ("skip", "conv"), kind="operator"),
        ]
    )


def make_cells(space: SearchSpace, measures: int = 4) -> list[Cell]:
    rng = np.random.default_rng(0)
    sizes = {part: tuple(len(space[name].candidates) for name in choices) for part, choices in PARTS.items()}
    cells = [Cell(part, choices, rng.integers(0, 1000, (*sizes[part], measures))) for part, choices in PARTS.items()]
    second = cells[3].values
    second[:, 0] = second[:, 0, :1, :1]  # where the block does not run, its kernel and ratio do not matter
    return cells


def looked_up(space: SearchSpace, cell: Cell, row: np.ndarray) -> np.ndarray:
    names = list(space)
    value = cell.values
    for name in cell.choices:
        value = value[row[names.index(name)]]
    return value


def all_rows(space: SearchSpace) -> np.ndarray:
    return np.array(list(itertools.product(*(range(len(choice.candidates)) for choice in space.values()))))


def test_each_part_is_looked_up_by_its_own_choices():
    space = make_space()
    cells = make_cells(space)
    table = CellTable(space, cells)
    rows = all_rows(space)
    values = table(rows)
    assert len(table) == len(PARTS) and values.shape == (len(rows), len(PARTS), 4)
    for row, found in zip(rows[::7], values[::7], strict=True):
        for cell, value in zip(cells, found, strict=True):
            assert np.array_equal(value, looked_up(space, cell, row))


def test_columns_are_the_choices_that_matter():
    space = make_space()
    names = list(space)
    table = CellTable(space, make_cells(space))
    assert [names[column] for column in table.columns] == [name for name in names if name != "unused"]
    rows = all_rows(space)
    other = rows.copy()
    other[:, names.index("unused")] ^= 1
    assert np.array_equal(table(rows), table(other))


def test_a_choice_of_one_candidate_is_no_column_and_costs_what_it_costs():
    space = SearchSpace([Choice("k", (5,), kind="value"), Choice("d", (1, 2), kind="depth")])
    values = np.arange(8).reshape(1, 2, 4)
    table = CellTable(space, [Cell("x", ("k", "d"), values)])
    assert np.array_equal(table(np.array([[0, 0], [0, 1]])), values[0][:, None])


def test_widths_that_share_an_axis_count_where_their_operator_is_chosen():
    rules = [("op", ("small",)), ("op", ("large",))]
    space = SearchSpace(
        [
            Choice("op", ("small", "large"), kind="operator"),
            Choice("small.width", (1, 2), active_if=rules[0]),
            Choice("large.width", (1, 2, 3), active_if=rules[1]),
        ]
    )
    values = np.arange(6).reshape(2, 3, 1)
    table = CellTable(space, [Cell("block", ("op", ("small.width", "large.width")), values)])
    rows = np.array([[0, 1, 2], [0, 0, 2], [1, 1, 2], [1, 1, 0]])  # the width of the other operator says nothing
    assert table(rows).ravel().tolist() == [1, 0, 5, 3]


def test_no_parts():
    table = CellTable(make_space(), [])
    assert len(table) == 0 and not len(table.columns)
    assert table(all_rows(make_space())[:3]).shape == (3, 0, 1)


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4), (2, 3, 4), (3, 3), (4,)])
def test_values_of_another_shape_are_refused(shape):
    space = make_space()
    cell = Cell("block", ("resolution", "a.kernel_size"), np.zeros(shape))
    with pytest.raises(ValueError, match=r"'block' has values of shape .*, its choices \(3, 3\)"):
        CellTable(space, [cell])


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        CellTable(make_space(), [Cell("block", ("nothing",), np.zeros((2, 4)))])


def model() -> tuple[SearchSpace, list[Cell], CostModel]:
    space = make_space()
    cells = make_cells(space)
    return space, cells, CostModel(space, LayerTable([], [], [], BYTES, []), cells=cells, in_cells=True)


def by_hand(space: SearchSpace, cells: list[Cell], row: np.ndarray) -> dict[str, int]:
    parts = np.array([looked_up(space, cell, row) for cell in cells])
    macs, extra, params = parts[:, :3].sum(0).tolist()
    peak = int(parts[:, 3].max())
    return {"macs": macs, "flops": macs + extra, "params": params, "memory": params * BYTES + peak}


def test_costs_add_up_and_the_peak_is_the_largest():
    space, cells, cost_model = model()
    rows = all_rows(space)
    costs = cost_model(rows)
    assert all(values.dtype == np.int64 and values.shape == (len(rows),) for values in costs.values())
    for index in range(0, len(rows), 11):
        expected = by_hand(space, cells, rows[index])
        assert {key: int(values[index]) for key, values in costs.items()} == expected


def test_macs_of_the_parts_add_up_to_those_of_a_subnet():
    space, cells, cost = model()
    for row in all_rows(space)[::37]:
        subnet = space.subnet(row)
        parts = cost.by_part(subnet)
        assert parts == {cell.name: looked_up(space, cell, space.index(subnet))[0] for cell in cells}
        assert sum(parts.values()) == cost.of(subnet)["macs"]


def test_one_subnet_costs_what_its_row_does_with_or_without_what_does_not_matter():
    space, _, cost_model = model()
    rows = space.sample_indices(np.random.default_rng(2), 200)
    costs = cost_model(rows)
    for index, row in enumerate(rows):
        subnet = space.subnet(row)
        expected = {key: int(values[index]) for key, values in costs.items()}
        active = space.active(row[None])[0]
        known = {key: value for (key, value), on in zip(subnet.items(), active, strict=True) if on}
        assert cost_model.of(subnet) == cost_model.of(known) == expected


@pytest.mark.parametrize("resource", [name for name in RESOURCES if name != "memory"])
@pytest.mark.parametrize("largest", [False, True])
def test_extremes_are_those_of_all_subnets_where_choices_do_not_mix(resource, largest):
    """Costs that grow with every choice, as those of networks do."""
    space = make_space()
    cells = [Cell(c.name, c.choices, _growing(c.values)) for c in make_cells(space)]
    cost_model = CostModel(space, LayerTable([], [], [], BYTES, []), cells=cells, in_cells=True)
    values = cost_model(space.canonical(all_rows(space)))[resource]
    assert cost_model.extreme(resource, largest) == (values.max() if largest else values.min())
    row = cost_model.extreme_row(resource, largest)
    assert np.array_equal(space.canonical(row[None])[0], row)


def _growing(values: np.ndarray) -> np.ndarray:
    for axis in range(values.ndim - 1):
        values = values.cumsum(axis)
    return values


@pytest.mark.parametrize("largest", [False, True])
def test_no_single_choice_betters_the_memory_of_the_extreme(largest):
    """The peak is that of one part: where one choice lowers it, another part holds it, and so on."""
    names = "abcde"
    space = SearchSpace([Choice(name, (1, 2, 3), kind="value") for name in names])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = np.stack([*[np.zeros((5, 3, 3), np.int64)] * 3, rng.integers(0, 1000, (5, 3, 3))], -1)
        cells = [Cell(f"part{i}", (names[i], names[i - 1]), values[i]) for i in range(5)]
        cost_model = CostModel(space, LayerTable([], [], [], BYTES, []), cells=cells, in_cells=True)
        row, found = cost_model.extreme_row("memory", largest), cost_model.extreme("memory", largest)
        for column, choice in enumerate(space.values()):
            others = np.repeat(row[None], len(choice.candidates), axis=0)
            others[:, column] = np.arange(len(others))
            memory = cost_model(others)["memory"]
            assert found == (memory.max() if largest else memory.min()), (seed, choice.name)


def fingerprint(change: str | None = None, space: SearchSpace | None = None) -> str:
    space = space or make_space()
    cells = make_cells(space)
    for cell in cells:
        if cell.name == change:
            cell.values[..., 0] += 1
    return CostModel(space, LayerTable([], [], [], BYTES, []), cells=cells, in_cells=True).fingerprint


def test_the_fingerprint_is_of_the_parts_that_are_chosen():
    """Not of what is always there, at whatever resolution: a head of other classes is no other network."""
    assert fingerprint() == fingerprint("always") == fingerprint("size")
    assert len({fingerprint(part) for part in (None, "first", "second", "third")}) == 4


def test_chunks_do_not_show(monkeypatch):
    space, _, cost_model = model()
    rows = all_rows(space)
    whole = cost_model(rows)
    monkeypatch.setattr("mmrazor_lite.estimators.cost_model.CHUNK", 7)
    assert all(np.array_equal(values, whole[key]) for key, values in cost_model(rows).items())
    assert all(values.shape == (0,) for values in cost_model(rows[:0]).values())
