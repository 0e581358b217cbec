from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_table import CostWithLatency, LatencyTable
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


def read(folder, data) -> LatencyTable:
    path = folder / "table.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return LatencyTable.read(path, SPACE)


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
        ("{", "not a latency table; it must be JSON with 'format': 'mmrazor_lite.latency/1'"),
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
    ],
)
def test_what_is_no_table_of_the_space(tmp_path, data, part):
    with pytest.raises(UserError) as error:
        read(tmp_path, data)
    assert part in str(error.value) and "table.json" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none.json: cannot read the latency table"):
        LatencyTable.read(tmp_path / "none.json", SPACE)
