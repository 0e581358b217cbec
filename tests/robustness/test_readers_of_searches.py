"""Files that a search, a collection, a predictor and a latency table are read from, after anything happened to them.

Each is read as it was, or refused in one short line that names it, within two seconds.
"""

from __future__ import annotations

import io
import json
import pickle
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from costs import CostOfRows
from mutators_of_bytes import hopeless, mutations

from mmrazor_lite.engine.collection import Collection
from mmrazor_lite.engine.search_state import JOURNALS, ScoreJournal, SearchState
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.estimators.latency_ofa import read_official
from mmrazor_lite.estimators.latency_table import Correction, LatencyTable
from mmrazor_lite.estimators.latency_tfnas import read_tfnas_table
from mmrazor_lite.estimators.measurement_log import Journal
from mmrazor_lite.jsonio import sealed
from mmrazor_lite.recipes.workspace import _results
from mmrazor_lite.search import AccuracyPredictor, EvolutionSearcher, FrontSearcher, GreedySearcher
from mmrazor_lite.subnet import Choice, SearchSpace

SPACE = SearchSpace([Choice(f"layer{i}", (4, 8, 12), kind="width") for i in range(3)])
COST = CostOfRows(SPACE, lambda rows: {"macs": SPACE.numeric(rows).sum(1), "params": SPACE.numeric(rows).prod(1)})
IDENTITY = {"space": SPACE.fingerprint, "budgets": [["macs", 30.0]], "searcher": {"type": "any"}, "seed": 0}
ROWS = np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1).T
LONGEST = 700  # characters of a message, the path apart


class Reader(NamedTuple):
    """A file's name, what writes a whole one, what reads it, and what a damaged one may at most be read as."""

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    same: Callable[[Any, Any], bool] | None = None  # of what a checksum is over


def _searcher(kind: str):
    if kind == "greedy":
        return GreedySearcher(SPACE, COST, [("macs", 20.0)])
    if kind == "evolution":
        return EvolutionSearcher(
            SPACE, COST, [("macs", 0, 30)], max_epochs=5, num_candidates=6, top_k=2, num_mutation=2, num_crossover=2
        )
    return FrontSearcher(SPACE, COST, [("macs", 20.0)], generations=4, population=6)


def _write_state(path: Path, kind: str) -> None:
    state, searcher = SearchState(path.parent, IDENTITY), _searcher(kind)
    for _ in range(2):
        rows = searcher.ask()
        told = [{"score": float(row.sum()), "top1": 1.0} for row in rows]
        searcher.tell(rows, told)
        state.memo |= {",".join(map(str, row)): metrics for row, metrics in zip(rows.tolist(), told, strict=True)}
        state.steps.append({"scored": len(rows), "best_score": 1.5, "seconds": {"all": 1.0, "rest": 0.5}})
    state.searcher = searcher.state_dict()
    state.save()


def _read_state(path: Path, kind: str) -> Any:
    state, searcher = SearchState(path.parent, IDENTITY), _searcher(kind)
    data = state.read()
    state.restore(data, searcher)
    while not searcher.done:  # what was taken over can be gone on with
        rows = searcher.ask()
        searcher.tell(rows, [{"score": float(row.sum())} for row in rows])
    return data


def _write_journal(path: Path) -> None:
    journal = ScoreJournal(SearchState(path.parent, IDENTITY), 0)
    for row in ROWS[:8].tolist():
        journal.add(",".join(map(str, row)), {"score": float(sum(row)), "top1": 2.5}, sync=False)


def _write_scores(path: Path) -> None:
    collection = Collection(path, SPACE, {"supernet": "sha256:1"}, COST)
    for row in ROWS[:8]:
        collection.add(row, int(COST(row[None])["macs"][0]), {"accuracy/top1": 71.25, "score": float(row.sum())})


def _read_scores(path: Path) -> Any:
    found = Collection(path, SPACE, {"supernet": "sha256:1"}, COST)
    return [(row.tolist(), metrics) for row, metrics in zip(found.rows, found.metrics, strict=True)]


def _write_predictor(path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(4, 9)), rng.normal(size=4)), (rng.normal(size=(1, 4)), np.zeros(1))]
    AccuracyPredictor(SPACE, layers, mean=70.0, scale=2.0, facts={"network": "sha256:n"}).write(path)


def _table() -> LatencyTable:
    cells = [Cell(name, (name,), np.array([[0.5], [1.25], [2.0]])) for name in SPACE]
    return LatencyTable(SPACE, Cell("", (), np.array([0.5])), cells, {"device": "cpu"}, Correction(0.1, 1.5, True))


def _read_table(path: Path) -> Any:
    table = LatencyTable.read(path, SPACE)
    return [table(ROWS).tolist(), table.extreme(True), table.extreme(False)]


def _write_older(path: Path) -> None:
    choices = {name: {"4": 0.5, "8": 1.25, "12": 2} for name in SPACE}
    path.write_text(
        json.dumps({"format": "mmrazor_lite.latency/1", "space": SPACE.fingerprint, "base": 1.25, "choices": choices})
    )


def _write_official(path: Path) -> None:
    layers = {"Conv-input:224x224x3-output:112x112x24": 3.5, "Logits-input:7x7x1280-output:1000": {"mean": 0.5}}
    path.write_text(json.dumps(layers, indent=1))


def _write_official_yaml(path: Path) -> None:
    path.write_text("Conv-input:224x224x3-output:112x112x24: 3.5\nLogits-input:7x7x1280-output:1000:\n  mean: 0.5\n")


def _write_tfnas(path: Path) -> None:
    entries = OrderedDict((f"MBInvertedResBlock_{i}", {1: 0.5, 2: 0.75, 3: 1.0}) for i in range(3))
    path.write_bytes(pickle.dumps(OrderedDict(base=1.5, **entries)))


def _write_tfnas_npz(path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, base=np.array(1.5), MBInvertedResBlock_1=np.arange(1.0, 9.0))
    path.write_bytes(buffer.getvalue())


def _write_measured(path: Path) -> None:
    journal = Journal(path, {"device": "cpu", "repeats": 3})
    for key in "abc":
        journal.add(key, [1.0, 2.0, 1.5], f"part {key}")


def _write_log(path: Path) -> None:
    results = [{"file": "subnet_macs_1M.yaml", "resources": {"macs": 1}, "score": {"top1": 5.0}}]
    path.write_text(json.dumps({"made_by": {}, "subnets_scored": 3, "results": results, "steps": []}, indent=2))


def _equal(found: Any, whole: Any) -> bool:
    return found == whole


def _among(found: Any, whole: Any) -> bool:
    """Lines may be lost, but none says something else."""
    if isinstance(whole, dict):
        return all(whole.get(key) == value for key, value in found.items())
    return all(entry in whole for entry in found)


def _predicted(path: Path) -> Any:
    predictor = AccuracyPredictor.read(path, SPACE, "sha256:n")
    return [predictor(ROWS).tolist(), predictor.facts]


READERS = {
    **{
        f"search state, {kind}": Reader(
            "search_state.json", lambda path, kind=kind: _write_state(path, kind),
            lambda path, kind=kind: _read_state(path, kind), _equal,
        )
        for kind in ("greedy", "evolution", "front")
    },
    "journal of a search": Reader(
        JOURNALS.replace("*", "0"), _write_journal,
        lambda path: ScoreJournal(SearchState(path.parent, IDENTITY), 0).read(), _among,
    ),
    "scores": Reader("scores.jsonl", _write_scores, _read_scores, _among),
    "predictor": Reader("predictor.safetensors", _write_predictor, _predicted, _equal),
    "latency table": Reader("table.json", lambda path: _table().write(path), _read_table),
    "older latency table": Reader("table.json", _write_older, _read_table),
    "official table": Reader("table.json", _write_official, lambda path: read_official([path])),
    "official table, yaml": Reader("table.yaml", _write_official_yaml, lambda path: read_official([path])),
    "table of tf-nas": Reader("table.pkl", _write_tfnas, read_tfnas_table),
    "table of tf-nas, npz": Reader("table.npz", _write_tfnas_npz, read_tfnas_table),
    "measurements": Reader(
        "journal.jsonl", _write_measured, lambda path: Journal(path, {"device": "cpu", "repeats": 3}).times, _among,
    ),
    "search log": Reader("search_log.json", _write_log, _results),
}  # fmt: skip


@pytest.fixture(params=READERS)
def reader(request):
    return READERS[request.param]


def outcome(reader: Reader, path: Path, limit: float = 2.0) -> Any:
    """What is read, or the error, which is checked."""
    began = time.process_time()
    try:
        found = reader.read(path)
    except UserError as error:
        found = error
        text = str(error)
        assert path.name in text, text
        assert "\n" not in text and len(text) - len(str(path)) < LONGEST, text
    assert time.process_time() - began < limit
    return found


def walk(reader: Reader, path: Path, seed: int, number: int) -> tuple[int, int]:
    """Read so many damaged forms; how many were refused and how many read."""
    reader.write(path)
    content = path.read_bytes()
    whole = reader.read(path)
    counts = [0, 0]
    for damaged in mutations(content, np.random.default_rng(seed), number):
        path.write_bytes(damaged)
        try:
            found = outcome(reader, path)
        except Exception as error:
            raise AssertionError(f"{damaged[:2000]!r}") from error
        counts[not isinstance(found, UserError)] += 1
        if reader.same is not None and not isinstance(found, UserError):
            assert reader.same(found, whole), f"read as something else: {damaged[:2000]!r}"
    return counts[0], counts[1]


def test_damaged_files(reader, tmp_path):
    refused, _ = walk(reader, tmp_path / reader.name, 0, 50)
    assert refused > 20


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_damaged_files(reader, tmp_path, seed):
    walk(reader, tmp_path / reader.name, seed, 100)


@pytest.mark.parametrize("what", hopeless())
def test_files_of_no_kind(reader, tmp_path, what):
    path = tmp_path / reader.name
    path.write_bytes(hopeless()[what])
    found = outcome(reader, path)
    fresh = reader.name == "journal.jsonl" and what == "empty"  # of a run that was killed as it began
    assert isinstance(found, UserError) or fresh


def test_a_folder_and_a_device(reader, tmp_path):
    path = tmp_path / reader.name
    path.mkdir()
    try:
        found = outcome(reader, path)
    except IsADirectoryError as error:  # the command line says it in one line
        found = error
    assert isinstance(found, Exception)


@pytest.mark.parametrize("kind", ["greedy", "evolution", "front"])
def test_a_state_of_wrong_parts_with_a_checksum_that_fits(tmp_path, kind):
    """As one gets it who writes such a file on purpose."""
    path = tmp_path / "search_state.json"
    _write_state(path, kind)
    whole = json.loads(path.read_text())
    del whole["crc"]
    reader, rng = READERS[f"search state, {kind}"], np.random.default_rng(0)
    for damaged in mutations(json.dumps(whole).encode(), rng, 120):
        try:
            text = sealed(json.loads(damaged))
        except (ValueError, TypeError, RecursionError):
            continue
        path.write_text(text)
        outcome(reader, path)
