"""Tables of TF-NAS's authors: what a reader accepts, and what it refuses to run or to hide."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from tfnas import milliseconds, operators, prepared, table_of

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_reading import read_table
from mmrazor_lite.estimators.latency_tfnas import key_of, read_tfnas_table, tfnas_table

MAPS = {"backbone.layers.0.0": 16, "backbone.layers.0.1": 8}  # what the others read too: 8


@pytest.fixture(scope="module")
def mutator():
    return prepared()[2]


@pytest.fixture
def content(mutator) -> OrderedDict:
    """A table for the tiny space, as the authors' tool writes one, from 1 channel on."""
    found = OrderedDict(base=1.0)
    for block, (name, module) in enumerate(operators(mutator).items()):
        for op, candidate in enumerate(module.names):
            built = module.candidate(candidate)
            key = key_of(built, MAPS.get(name, 8))
            widths = range(1, built.mid_channels + 1)
            known = found.setdefault(key, OrderedDict())
            known.update({w: float(milliseconds(block, op, w)) for w in widths if w not in known})
    return found


def pickled(path, value) -> str:
    path.write_bytes(pickle.dumps(value))
    return str(path)


def test_both_forms_give_the_same_table(mutator, content, tmp_path):
    one = read_table(pickled(tmp_path / "t.pkl", content), mutator)
    arrays = {key: np.array(list(value.values())) for key, value in content.items() if key != "base"}
    np.savez(tmp_path / "t.npz", base=np.array([1.0]), **arrays)
    two = read_table(tmp_path / "t.npz", mutator)
    assert one.digest == two.digest
    rows = mutator.search_space.sample_indices(np.random.default_rng(0), 50)
    for row, ms in zip(rows, one(rows), strict=True):
        subnet, total = mutator.search_space.subnet(row), 1.0
        for name, module in operators(mutator).items():
            stage, _, index = name.rpartition(".")
            if int(index) < subnet.get(f"{stage}.depth", 1):
                built = module.candidate(subnet[name])
                total += content[key_of(built, MAPS.get(name, 8))][subnet[f"{name}.{subnet[name]}.mid_channels"]]
        assert ms == total


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("value", [_Evil(), {"base": 1.0, "k": _Evil()}, {"base": np.float64(1.0)}, {"base": os.mkdir}])
def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"t\.pkl: not a latency table of TF-NAS: it holds .*; allowed are OrderedDict"):
        read_tfnas_table(pickled(tmp_path / "t.pkl", value))
    assert not (tmp_path / "evil").exists()


def test_references_out_of_a_pickle_are_refused(tmp_path):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return "elsewhere" if value == "there" else None

    buffer = io.BytesIO()
    Pickler(buffer).dump({"base": "there"})
    (tmp_path / "t.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="outside of the file"):
        read_tfnas_table(tmp_path / "t.pkl")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([1, 2], "no entry 'base'"),
        ({"base": "1"}, "'base' must be milliseconds"),
        ({"base": float("inf")}, "'base' must be milliseconds, a finite number of 0 or more, got inf"),
        ({"base": -1}, "'base' must be milliseconds, a finite number of 0 or more, got -1"),
        ({"base": 10**400}, "'base' must be milliseconds, a finite number of 0 or more, got 1000"),
        ({"base": 1.0, "k": 3.0}, "must map inner channels to milliseconds"),
        ({"base": 1.0, "k": {"4": 1.0}}, "must be inner channels and milliseconds"),
        ({"base": 1.0, "k": {4: True}}, "must be inner channels and milliseconds"),
        ({"base": 1.0, "k": {10**9: 1.0}}, "must be inner channels and milliseconds"),
        ({"base": 1.0, "k": {4: float("inf")}}, "'k': 4 -> inf must be inner channels and milliseconds, a finite"),
        ({"base": 1.0, "k": {4: float("nan")}}, "'k': 4 -> nan must be inner channels and milliseconds, a finite"),
        ({"base": 1.0, "k": {4: -(10**400)}}, "must be inner channels and milliseconds, a finite number"),
    ],
)
def test_what_is_no_table(tmp_path, value, problem):
    with pytest.raises(UserError, match=problem):
        read_tfnas_table(pickled(tmp_path / "t.pkl", value))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"base": np.array("1")}, "'base' must be milliseconds"),
        ({"base": np.array([-1.0])}, "'base' must be milliseconds, a finite number of 0 or more, got -1.0"),
        ({"base": np.ones(1), "k": np.array([1, np.inf])}, "'k' must be finite numbers, got inf at 2 channels"),
    ],
)
def test_arrays_that_are_no_table(tmp_path, arrays, problem):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(UserError, match=problem):
        read_tfnas_table(tmp_path / "t.npz")


def test_files_that_are_none(tmp_path):
    for name in ("t.pkl", "t.npz"):
        with pytest.raises(UserError, match=f"{name}: cannot read the latency table"):
            read_tfnas_table(tmp_path / name)
        (tmp_path / name).write_bytes(b"PK\x03\x04 and then nothing")
        with pytest.raises(UserError, match=f"{name}: not a latency table of TF-NAS"):
            read_tfnas_table(tmp_path / name)
    with open(tmp_path / "t.npz", "wb") as file:
        np.save(file, np.ones(3))  # one array is no archive of them
    with pytest.raises(UserError, match=r"t\.npz: not a latency table of TF-NAS"):
        read_tfnas_table(tmp_path / "t.npz")


def test_missing_entries_are_named(mutator, content, tmp_path):
    key = next(key for key in content if key.startswith("MBInvertedResBlock_8_12_24_12"))
    values = content.pop(key)
    with pytest.raises(UserError, match=rf"entries are missing: '{key}'.*another space"):
        read_table(pickled(tmp_path / "t.pkl", content), mutator)
    content[key] = OrderedDict((w, ms) for w, ms in values.items() if w != 60)
    with pytest.raises(UserError, match=rf"'{key} at 60'"):
        read_table(pickled(tmp_path / "t.pkl", content), mutator)


def test_missing_entries_are_counted_once(mutator, content, tmp_path):
    keys, blocks = len(content) - 1, sum(len(module.names) for module in operators(mutator).values())
    assert keys < blocks  # some share a key
    with pytest.raises(UserError, match=f": {keys} entries are missing"):
        read_table(pickled(tmp_path / "t.pkl", {"base": 1.0}), mutator)


def test_negative_entries_are_said_and_refused_where_they_count(mutator, content, tmp_path):
    key = next(key for key in content if key != "base")
    content[key][3] = -0.25
    source = read_tfnas_table(pickled(tmp_path / "t.pkl", content))
    assert source.negative() == {key: 3} and "1 of them negative" in source.facts()
    tfnas_table(source, mutator)  # no network has 3 channels there
    content[key][14] = -0.25
    with pytest.raises(UserError, match=rf"'{key}' is negative at 14 to 14 inner channels"):
        read_table(pickled(tmp_path / "u.pkl", content), mutator)


def test_a_table_of_ours_round_trips(mutator, tmp_path):
    table = table_of(mutator)
    table.write(tmp_path / "t.json")
    again = read_table(tmp_path / "t.json", mutator)
    rows = mutator.search_space.sample_indices(np.random.default_rng(1), 100)
    assert again.digest == table.digest and np.array_equal(again(rows), table(rows))
    doubled = json.loads((tmp_path / "t.json").read_text().replace('"ms": 1.0', '"ms": 2.0'))
    del doubled["crc"]  # as an edited table's
    (tmp_path / "u.json").write_text(json.dumps(doubled))
    assert np.allclose(read_table(tmp_path / "u.json", mutator)(rows), table(rows) + 1)
