"""Scores of subnets in a file: grown line by line, gone on with after a kill, refused for another supernet."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmrazor_lite.engine.collection import Collection, collect
from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import Choice, SearchSpace

SPACE = SearchSpace([Choice(f"layer{i}", (4, 8, 12), kind="width") for i in range(3)])
ABOUT = {"supernet": "sha256:1234", "evaluator": {"images": 10}}


def cost(rows):
    return {"macs": SPACE.numeric(rows).sum(1)}


class Scores:
    """Stands for the evaluator: a score of each subnet, and what was asked for."""

    def __init__(self, die_after: int | None = None) -> None:
        self.asked: list = []
        self.die_after = die_after

    def evaluate(self, subnet):
        if self.die_after == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append(subnet)
        score = float(sum(subnet.values()))
        return {"accuracy/top1": score, "score": score}


def test_all_are_different_and_say_what_they_are(tmp_path):
    path = tmp_path / "made" / "scores.jsonl"
    scores = Scores()
    collect(scores, Collection(path, SPACE, ABOUT), cost, 12)
    assert len(set(scores.asked)) == len(scores.asked) == 12
    header, *entries = map(json.loads, path.read_text().splitlines())
    assert header["space"] == SPACE.fingerprint and header["supernet"] == "sha256:1234"
    assert [SPACE.subnet(SPACE.index(entry["choices"])) for entry in entries] == scores.asked
    for entry in entries:
        assert entry["macs"] == sum(entry["choices"].values()) == entry["metrics"]["score"]
    found = Collection(path, SPACE)
    assert np.array_equal(found.scores, [entry["macs"] for entry in entries])
    assert [SPACE.subnet(row) for row in found.rows] == scores.asked


@pytest.mark.parametrize("cut", [0, 1, 25])
def test_goes_on_after_a_kill(tmp_path, cut):
    """With the same subnets, none twice; half a line at the end is dropped."""
    whole = tmp_path / "whole.jsonl"
    collect(Scores(), Collection(whole, SPACE, ABOUT), cost, 12)
    path = tmp_path / "scores.jsonl"
    with pytest.raises(KeyboardInterrupt):
        collect(Scores(die_after=5), Collection(path, SPACE, ABOUT), cost, 12)
    text = path.read_text()
    path.write_text(text[: len(text) - cut])
    again = Scores()
    collect(again, Collection(path, SPACE, ABOUT), cost, 12)
    assert path.read_bytes() == whole.read_bytes()
    assert len(again.asked) == 12 - 5 + bool(cut)
    more = Scores()
    collect(more, Collection(path, SPACE, ABOUT), cost, 12)
    assert more.asked == []


def test_more_than_there_are(tmp_path):
    with pytest.raises(UserError, match="has 27 subnets, 28 were asked for"):
        collect(Scores(), Collection(tmp_path / "a.jsonl", SPACE, ABOUT), cost, 28)
    assert not (tmp_path / "a.jsonl").exists()
    collect(Scores(), Collection(tmp_path / "b.jsonl", SPACE, ABOUT), cost, 27)


def test_of_something_else(tmp_path):
    path = tmp_path / "scores.jsonl"
    collect(Scores(), Collection(path, SPACE, ABOUT), cost, 3)
    before = path.read_bytes()
    other = SearchSpace([Choice("layer0", (4, 8), kind="width")])
    for space, about, key in (
        (SPACE, {**ABOUT, "supernet": "sha256:5678"}, "supernet"),
        (SPACE, {**ABOUT, "evaluator": {"images": 20}}, "evaluator"),
        (other, ABOUT, "space"),
        (other, None, "space"),
    ):
        with pytest.raises(UserError, match=f"collected with another {key}"):
            Collection(path, space, about)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "no json\n", '{"format": "other"}\n', "[1]\n"])
def test_of_another_kind(tmp_path, text):
    path = tmp_path / "scores.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match="not a collection of scores"):
        Collection(path, SPACE, ABOUT)
    assert path.read_text() == text
