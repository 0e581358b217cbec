"""``tools/predictor/{collect,train}.py``: a data set that grows, alone and in two processes, and a predictor of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.next_commands import next_of
from robustness.processes import run, start_server

from mmrazor_lite.cli import main
from mmrazor_lite.jsonio import sealed, unsealed
from mmrazor_lite.search import AccuracyPredictor
from mmrazor_lite.search.fit import LEAST

NUMBER = LEAST + 2
QUICK = ["--epochs", "5", "--hidden", "8"]


def collect(supernet, out: Path, number: int, *words: object) -> list[str]:
    """Words of the command; its work dir is beside the file."""
    start = ["predictor-collect", supernet.config, supernet.checkpoint, "-n", number, "-o", out]
    return [str(word) for word in [*start, "--work-dir", out.parent / "work", *words]]


@pytest.fixture(scope="module")
def scores(supernet, tmp_path_factory) -> Path:
    """What one process collected at once."""
    path = tmp_path_factory.mktemp("scores") / "scores.jsonl"
    assert main(collect(supernet, path, NUMBER)) == 0
    return path


def test_each_subnet_with_its_cost_and_score(scores, supernet_space):
    space, cost = supernet_space
    header, *entries = map(json.loads, scores.read_text().splitlines())
    assert header["space"] == space.fingerprint and header["supernet"].startswith("sha256:")
    assert len({json.dumps(entry["choices"]) for entry in entries}) == len(entries) == NUMBER
    assert all(entry["macs"] == cost.of(entry["choices"])["macs"] for entry in entries)
    assert len({entry["metrics"]["score"] for entry in entries}) > 1
    assert all(entry["metrics"]["score"] == entry["metrics"]["accuracy/top1"] for entry in entries)


@pytest.mark.parametrize("lines", [1, 4])
def test_goes_on_after_a_kill(supernet, scores, tmp_path, lines):
    """With what is there, and half a line; in the end it is what one run gives."""
    text = scores.read_text().splitlines(keepends=True)
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(text[:lines]) + text[lines][:20])
    assert main(collect(supernet, path, NUMBER)) == 0
    assert path.read_bytes() == scores.read_bytes()


def test_more_are_added(supernet, scores, tmp_path, monkeypatch):
    from mmrazor_lite.engine.evaluator import SubnetEvaluator

    path, evaluated, evaluate = tmp_path / "scores.jsonl", [], SubnetEvaluator.evaluate
    monkeypatch.setattr(SubnetEvaluator, "evaluate", lambda self, s: evaluated.append(s) or evaluate(self, s))
    path.write_bytes(scores.read_bytes())
    assert main(collect(supernet, path, NUMBER + 2)) == 0
    assert path.read_bytes().startswith(scores.read_bytes()) and len(evaluated) == 2
    assert len(path.read_text().splitlines()) == 1 + NUMBER + 2


def test_two_processes_collect_the_same(supernet, scores, tmp_path):
    path, log = tmp_path / "scores.jsonl", tmp_path / "log"
    assert run(start_server(), collect(supernet, path, NUMBER), log, ranks=2)[0] == 0, log.read_text()[-3000:]
    assert path.read_bytes() == scores.read_bytes()


def test_a_predictor_of_it(supernet, supernet_space, scores, tmp_path, capsys):
    path = tmp_path / "predictor.safetensors"
    assert main(["predictor-train", str(supernet.config), str(scores), "-o", str(path), *QUICK]) == 0
    said = capsys.readouterr().out
    following = next_of(said)
    assert (following.command, following.predictor) == ("specialize", str(path))
    assert following.checkpoint == str(supernet.checkpoint)
    predictor = AccuracyPredictor.read(path, supernet_space[0])
    facts = predictor.facts
    assert f"Kendall tau {facts['kendall_tau']:.3f}" in said and f"Spearman rho {facts['spearman_rho']:.3f}" in said
    assert facts["train"] + facts["held_out"] == NUMBER
    assert facts["supernet"] == json.loads(scores.read_text().splitlines()[0])["supernet"]
    work = tmp_path / "work"
    words = ["--macs", "70%", "--predictor", path, "--work-dir", work]
    assert main([str(word) for word in ("specialize", supernet.config, supernet.checkpoint, *words)]) == 0
    assert (work / "macs_70pct" / "best_subnet.pth").is_file()


def test_refusals_of_collect(supernet, scores, tmp_path, fails):
    path = tmp_path / "scores.jsonl"
    path.write_bytes(scores.read_bytes())
    assert "--number 0 must be 1 or more" in fails(*collect(supernet, path, 0))
    gone = supernet._replace(checkpoint=tmp_path / "no.pth")
    assert f"checkpoint '{tmp_path}/no.pth' not found" in fails(*collect(gone, path, NUMBER))
    assert "has 243 subnets, 244 were asked for" in fails(*collect(supernet, path, 244))
    images = ["--cfg-options", "search_cfg.calibrate_sample_num=10"]
    assert "collected with another evaluator" in fails(*collect(supernet, path, NUMBER, *images))
    whole = path.read_text()
    path.write_text(whole.replace('"supernet": "sha256:', '"supernet": "sha256:0', 1))
    assert "line 1: its checksum does not fit" in fails(*collect(supernet, path, NUMBER))
    header, lines = whole.split("\n", 1)
    path.write_text(sealed({**unsealed(header.encode()), "supernet": "sha256:0"}) + "\n" + lines)
    before = path.read_bytes()
    assert "collected with another supernet" in fails(*collect(supernet, path, NUMBER))
    assert path.read_bytes() == before


def test_refusals_of_train(supernet, supernet_space, other_config, scores, tmp_path, fails):
    words = ["predictor-train", supernet.config]
    out = ["-o", tmp_path / "predictor.safetensors", *QUICK]
    assert f"scores '{tmp_path}/no.jsonl' not found" in fails(*words, tmp_path / "no.jsonl", *out)
    few = tmp_path / "few.jsonl"
    few.write_text("".join(scores.read_text().splitlines(keepends=True)[:3]))
    assert "2 subnets are too few for a predictor" in fails(*words, few, *out)
    assert "the share held out is 0.95" in fails(*words, scores, *out, "--held-out", "0.95")
    for flag, value in (("epochs", 0), ("hidden", 0), ("weight-decay", -1.0)):
        line = fails(*words, scores, *out, f"--{flag}", value)
        assert f"{flag.replace('-', '_')} is {value}: give " in line
    assert "collected with another space" in fails("predictor-train", other_config, scores, *out)
    header, first, *others = scores.read_text().splitlines()
    twice = tmp_path / "twice.jsonl"
    twice.write_text("\n".join([header, first, *others, first]) + "\n")  # the same line: taken once
    assert main([str(word) for word in (*words, twice, "-o", tmp_path / "p.safetensors", *QUICK)]) == 0
    facts = AccuracyPredictor.read(tmp_path / "p.safetensors", supernet_space[0]).facts
    assert facts["train"] + facts["held_out"] == NUMBER
    entry = unsealed(first.encode())
    for change, message in (
        ({"metrics": {**entry["metrics"], "score": 12.5}}, "has other scores in a line before it"),
        ({"macs": entry["macs"] + 1}, f"had {entry['macs'] + 1} macs, in this network it has {entry['macs']:,}"),
        ({"metrics": {"score": 1e300}}, "1e+300 is no score"),
        ({"metrics": {"score": None}}, "metrics must be finite numbers"),
    ):
        twice.write_text("\n".join([header, *([first] if "metrics" in change else []), *others]) + "\n")
        with open(twice, "a") as file:
            file.write(sealed({**entry, **change}) + "\n")
        assert message in fails(*words, twice, *out)
    assert not (tmp_path / "predictor.safetensors").exists()
