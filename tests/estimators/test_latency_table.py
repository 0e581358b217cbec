from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.estimators.latency_table import Correction, CostWithLatency, LatencyTable
from mmrazor_lite.subnet import Choice, SearchSpace

SPACE = SearchSpace(
    [
        Choice("inner", (8, 16), active_if=("op", ("conv", "wide"))),
        Choice("op", ("identity", "conv", "wide"), kind="operator"),
        Choice("ratio", (1.5, 3), kind="value"),
    ]
)
TABLE = {
    "format": "mmrazor_lite.latency/1",
    "space": SPACE.fingerprint,
    "base": 1,
    "choices": {
        "op": {"identity": 4.5, "conv": 0.5, "wide": 2},
        "inner": {"8": 3.25, "16": 7},
        "ratio": {"1.5": 0.25, "3": 0},
    },
}
ROWS = np.unique(SPACE.canonical(np.array(list(np.ndindex(2, 3, 2)))), axis=0)


def read(folder, data, space=SPACE) -> LatencyTable:
    path = folder / "table.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return LatencyTable.read(path, space)


def by_hand(subnet) -> float:
    times = TABLE["choices"]
    inner = times["inner"][str(subnet["inner"])] if subnet["op"] != "identity" else 0
    return 1 + times["op"][subnet["op"]] + inner + times["ratio"][str(subnet["ratio"])]


def test_the_times_of_what_matters_are_added(tmp_path):
    table = read(tmp_path, TABLE)
    expected = [by_hand(SPACE.subnet(row)) for row in ROWS]
    assert table(ROWS).tolist() == expected and len(set(expected)) > 5
    assert table.extreme(largest=False) == min(expected) == 4.75
    assert table.extreme(largest=True) == max(expected) == 10.25


def test_a_cost_model_with_latency_keeps_its_other_resources(tmp_path):
    class Cost:
        def __call__(self, rows):
            return {"macs": rows.sum(1)}

        def of(self, subnet):
            return {"macs": int(SPACE.index(subnet).sum())}

        def extreme(self, resource, largest):
            return 4 if largest else 0

        def max(self):
            return {"macs": 4}

        def min(self):
            return {"macs": 0}

    cost = CostWithLatency(Cost(), read(tmp_path, TABLE))
    found = cost(ROWS)
    assert found["macs"].tolist() == ROWS.sum(1).tolist()
    for row, macs, latency in zip(ROWS, found["macs"], found["latency"], strict=True):
        assert cost.of(SPACE.subnet(row)) == {"macs": macs, "latency": latency}
    assert cost.max() == {"macs": 4, "latency": 10.25} and cost.min() == {"macs": 0, "latency": 4.75}
    assert [cost.extreme(name, largest=False) for name in ("macs", "latency")] == [0, 4.75]


def changed(*path, value=None) -> dict:
    data = copy.deepcopy(TABLE)
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ("{", "not a latency table; it must be JSON with 'format'"),
        ("[1]", "not a latency table"),
        (changed("format"), "not a latency table"),
        (
            changed("space", value="sha256:0"),
            f"is of the search space 'sha256:0', the model's is '{SPACE.fingerprint}'",
        ),
        (changed("base"), "base must be milliseconds, 0 or more, got None"),
        (changed("choices"), "choices must be a mapping"),
        (changed("choices", "inner"), "choices: 'inner' is missing"),
        (changed("choices", "iner", value={}), "choices: unknown 'iner' (did you mean 'inner'?)"),
        (changed("choices", "op", "conv"), "choice 'op': 'conv' is missing"),
        (changed("choices", "op", "cnv", value=1), "choice 'op': unknown 'cnv' (did you mean 'conv'?)"),
        (changed("choices", "op", value=3), "choice 'op' must be a mapping"),
        (changed("choices", "inner", "16", value=-1), "'inner' 16 must be milliseconds, 0 or more, got -1"),
        (changed("choices", "inner", "16", value="7"), "'inner' 16 must be milliseconds"),
        (changed("choices", "inner", "16", value=float("inf")), "'inner' 16 must be milliseconds"),
        (changed("choices", "inner", "16", value=10**400), "'inner' 16 must be milliseconds"),
    ],
)
def test_what_is_no_table_of_the_space(tmp_path, data, part):
    with pytest.raises(UserError) as error:
        read(tmp_path, data)
    assert part in str(error.value) and "table.json" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none.json: cannot read the latency table"):
        LatencyTable.read(tmp_path / "none.json", SPACE)


# format 2: parts that depend on several choices, in an elastic space

ELASTIC = SearchSpace(
    [
        Choice("resolution", (16, 24, 32), kind="resolution"),
        *(
            choice
            for stage in ("a", "b")
            for choice in (
                Choice(f"{stage}.depth", (1, 2, 3), kind="depth"),
                *(
                    Choice(f"{stage}.{block}.{key}", candidates, kind="value", active_if=rule)
                    for block, rule in enumerate((None, (f"{stage}.depth", (2, 3)), (f"{stage}.depth", (3,))))
                    for key, candidates in (("kernel_size", (3, 5)), ("expand_ratio", (2, 3, 4)))
                ),
            )
        ),
    ]
)
BLOCKS = [f"{stage}.{block}" for stage in ("a", "b") for block in range(3)]


def elastic(seed=0, factor=1.0, **options) -> LatencyTable:
    rng = np.random.default_rng(seed)
    base = Cell("", ("resolution",), factor * rng.random((3, 1)))
    cells = []
    for name in BLOCKS:
        choices = (f"{name}.expand_ratio", "resolution", f"{name}.kernel_size")  # in any order
        cells.append(Cell(name, choices, factor * rng.random((3, 3, 2, 1))))
    return LatencyTable(ELASTIC, base, cells, **options)


def summed(table: LatencyTable, row: np.ndarray) -> float:
    """One look-up per part that runs, in plain Python."""
    index = dict(zip(ELASTIC, row.tolist(), strict=True))
    total = table.base.values[index["resolution"], 0]
    for cell in table.cells:
        stage, block = cell.name.split(".")
        if int(block) < ELASTIC[f"{stage}.depth"].candidates[index[f"{stage}.depth"]]:
            total += cell.values[tuple(index[name] for name in cell.choices)][0]
    return total


def test_parts_that_run_are_added():
    table = elastic()
    rows = ELASTIC.sample_indices(np.random.default_rng(1), 300)
    found = table(rows)
    assert found == pytest.approx([summed(table, row) for row in rows], rel=1e-14)
    assert [table.of(ELASTIC.subnet(row)) for row in rows[:20]] == pytest.approx(found[:20], rel=1e-14)
    raw = np.random.default_rng(1).integers(0, [len(c.candidates) for c in ELASTIC.values()], (300, len(ELASTIC)))
    assert table(raw).tolist() == table(ELASTIC.canonical(raw)).tolist()  # what does not matter does not count


def best_by_hand(table: LatencyTable, pick) -> float:
    """Resolution by resolution and stage by stage, each block on its own."""
    totals = []
    for resolution in range(3):
        total = table.base.values[resolution, 0]
        for stage in ("a", "b"):
            blocks = [pick(cell.values[:, resolution]) for cell in table.cells if cell.name.startswith(stage)]
            total += pick([sum(blocks[:depth]) for depth in (1, 2, 3)])
        totals.append(total)
    return pick(totals)


@pytest.mark.parametrize("seed", range(5))
def test_the_ends_are_exact(seed):
    table = elastic(seed)
    assert table.extreme(largest=True) == pytest.approx(best_by_hand(table, np.max), rel=1e-14)
    assert table.extreme(largest=False) == pytest.approx(best_by_hand(table, np.min), rel=1e-14)


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_ends_are_subnets_of_the_space(seed, largest):
    table = elastic(seed, correction=Correction(-0.1, 1.5, applied=True))
    row = table.extreme_row(largest)
    assert np.array_equal(ELASTIC.canonical(row[None])[0], row)
    assert table(row[None])[0] == table.extreme(largest)
    others = table(ELASTIC.sample_indices(np.random.default_rng(seed), 2000))
    assert (others <= table.extreme(True)).all() and (others >= table.extreme(False)).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_ends_where_operators_share_a_list_of_widths(seed):
    space = SearchSpace(
        [
            Choice("op", ("small", "large", "none"), kind="operator"),
            Choice("op.small.width", (8, 16), active_if=("op", ("small",))),
            Choice("op.large.width", (8, 16, 24, 32), active_if=("op", ("large",))),
            Choice("other", (0, 1), kind="value"),
        ]
    )
    values = np.random.default_rng(seed).uniform(1, 2, (3, 2, 4))
    values[0, :, 2:] = values[2, :, 1:] = np.nan  # past the ends
    shared = ("op.small.width", "op.large.width")
    cells = [Cell("block", ("op", "other", shared), values[..., None])]
    table = LatencyTable(space, Cell("", (), np.array([0.5])), cells)
    rows = space.sample_indices(np.random.default_rng(0), 500)
    for largest, pick in ((True, np.max), (False, np.min)):
        assert table.extreme(largest) == pick(table(rows)) == table.of(space.subnet(table.extreme_row(largest)))


def test_a_width_that_shares_its_list_in_one_part_only_is_refused():
    space = SearchSpace(
        [Choice("op", ("a", "b"), kind="operator")]
        + [Choice(f"{name}.width", (8, 16), active_if=("op", (name,))) for name in "ab"]
    )
    shared = Cell("block", ("op", ("a.width", "b.width")), np.ones((2, 2, 1)))
    alone = Cell("other", ("a.width",), np.ones((2, 1)))
    with pytest.raises(UserError, match=r"'other': 'a.width' shares a list"):
        LatencyTable(space, Cell("", (), np.array([0.5])), [shared, alone])


@pytest.mark.parametrize("seed", range(3))
def test_doubling_every_time_leaves_what_took_half_the_limit(seed):
    rows = ELASTIC.sample_indices(np.random.default_rng(seed), 500)
    once, twice = elastic(seed)(rows), elastic(seed, factor=2.0)(rows)
    assert twice.tolist() == (2 * once).tolist()
    for limit in np.quantile(once, [0.3, 0.7, 1.0]):
        assert (twice <= limit).tolist() == (once <= limit / 2).tolist()


def test_a_written_table_is_read_as_it_was(tmp_path):
    correction = Correction(-0.1, 1.5, applied=True)
    table = elastic(device={"device": "cpu", "threads": 1}, correction=correction)
    table.write(tmp_path / "t.json")
    again = LatencyTable.read(tmp_path / "t.json", ELASTIC)
    rows = ELASTIC.sample_indices(np.random.default_rng(0), 50)
    assert again(rows).tolist() == table(rows).tolist() and again.digest == table.digest
    assert again.device == table.device and again.correction == correction
    plain = elastic()
    assert table(rows) == pytest.approx(-0.1 + 1.5 * plain(rows), rel=1e-14)
    assert table.extreme(True) == pytest.approx(-0.1 + 1.5 * plain.extreme(True), rel=1e-14)
    stated = elastic(correction=Correction(-0.1, 1.5))
    assert stated(rows).tolist() == plain(rows).tolist() and stated.digest == plain.digest != table.digest


def test_an_older_table_is_the_same_in_the_new_format(tmp_path):
    table = read(tmp_path, TABLE)
    table.write(tmp_path / "new.json")
    again = LatencyTable.read(tmp_path / "new.json", SPACE)
    assert again(ROWS).tolist() == table(ROWS).tolist() and again.digest == table.digest


def document(**changes) -> dict:
    """A table of format 2 as a file, with parts replaced; ``None`` drops a key."""
    cells = [{"name": c.name, "choices": list(c.choices), "ms": c.values[..., 0].tolist()} for c in elastic().cells]
    data = {"format": "mmrazor_lite.latency/2", "space": ELASTIC.fingerprint, "base": 1.5, "cells": cells}
    return {key: value for key, value in {**data, **changes}.items() if value is not None}


def cell(index=0, **changes) -> list:
    cells = document()["cells"]
    cells[index] = {key: value for key, value in {**cells[index], **changes}.items() if value is not None}
    return cells


def with_gaps(count: int) -> list:
    cells = document()["cells"]
    places = [(c, i, j, k) for c in range(6) for i in range(3) for j in range(3) for k in range(2)]
    for c, i, j, k in places[:count]:
        cells[c]["ms"][i][j][k] = None
    return cells


def test_a_base_may_be_a_number_or_depend_on_the_resolution(tmp_path):
    rows = ELASTIC.sample_indices(np.random.default_rng(0), 50)
    number = read(tmp_path, document(), ELASTIC)(rows)
    listed = read(tmp_path, document(base={"choices": ["resolution"], "ms": [1.5, 2.5, 3.5]}), ELASTIC)(rows)
    assert (listed - number).tolist() == pytest.approx(rows[:, 0].tolist())
    below = read(tmp_path, document(base=-0.25), ELASTIC)(rows)  # a difference of measurements
    assert (number - below).tolist() == pytest.approx([1.75] * 50)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (document(space="sha256:1"), f"is of the search space 'sha256:1', the model's is '{ELASTIC.fingerprint}'"),
        (document(cells=None), "cells must be a list, got None"),
        (document(cells=[3]), "cells[0] must be a mapping with name, choices and ms, got 3"),
        (document(cells=cell(ms=None)), "cells[0] must be a mapping with name, choices and ms"),
        (document(cells=cell(choices="resolution")), "cells[0]: name must be text and choices a list of names"),
        (document(cells=cell(choices=["resolutio"], ms=[1, 2, 3])), "unknown choice 'resolutio' (did you mean"),
        (document(cells=cell(ms=3)), "cells[0] 'a.0': ms must nest one list per choice, got 3"),
        (document(cells=cell(ms=[[[1, 2]], [[1]], [[1, 2]]])), "lists of different lengths"),
        (
            document(cells=cell(ms=[[[1, 2]] * 3] * 2)),
            "'a.0' has milliseconds of shape (2, 3, 2), its choices have (3, 3, 2) candidates",
        ),
        (document(cells=cell(choices=["resolution", "resolution"], ms=[[1] * 3] * 3)), "'a.0' names a choice twice"),
        (document(cells=cell(1, name="a.0")), "'a.0' is given twice"),
        (document(cells=cell(ms=[[["1", 2]] * 3] * 3)), "cells[0] 'a.0' must be milliseconds, 0 or more, got '1'"),
        (document(cells=cell(ms=[[[True, 2]] * 3] * 3)), "must be milliseconds, 0 or more, got True"),
        (document(base=float("nan")), "base must be milliseconds, a finite number, got nan"),
        (document(base=float("-inf")), "base must be milliseconds, a finite number, got -inf"),
        (document(base=10**400), "base must be milliseconds, a finite number, got 1000"),
        (document(base=-100), "base is so far below 0 that the slowest network takes -9"),
        (document(base=None), "1 entries are missing: 'base'"),
        (document(base={"choices": ["resolution"]}), "base must be a mapping with name, choices and ms"),
        (
            document(cells=with_gaps(1)),
            "1 entries are missing: 'a.0 expand_ratio=2 resolution=16 kernel_size=3'; measure",
        ),
        (document(cells=with_gaps(20)), "20 entries are missing: 'a.0 expand_ratio=2 resolution=16 kernel_size=3', "),
        (document(cells=with_gaps(20)), "'a.0 expand_ratio=2 resolution=32 kernel_size=3' and 15 more; measure"),
        (document(cells=document()["cells"][:5]), "no entry depends on 'b.2.kernel_size', 'b.2.expand_ratio'; every"),
        (document(device=[1]), "device must be a mapping"),
        (document(correction=3), "correction must be a mapping"),
        (document(correction={"offset": 1, "factor": 2}), "correction: 'applied' is missing"),
        (document(correction={"offset": 1, "factor": 0, "applied": True}), "factor must be above 0"),
        (document(correction={"offset": 1, "factor": 10**400, "applied": True}), "factor must be above 0"),
    ],
)
def test_what_is_no_table_of_an_elastic_space(tmp_path, data, part):
    with pytest.raises(UserError) as error:
        read(tmp_path, data, ELASTIC)
    assert part in str(error.value) and "table.json" in str(error.value) and "\n" not in str(error.value)


def test_a_subnet_that_takes_no_time_is_refused():
    """Differences of times that were measured beside other work can be anything."""
    table = elastic()
    CostWithLatency(None, table)
    base = Cell("", (), np.array([-1 - table.extreme(True)]))
    with pytest.raises(UserError, match=r"its fastest subnet takes -\S+ ms, which none does: measure the table again"):
        CostWithLatency(None, LatencyTable(ELASTIC, base, table.cells))
