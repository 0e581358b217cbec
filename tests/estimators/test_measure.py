"""Measured latency tables. The clock is a count of multiply-adds here: exact, and additive like a real one is not."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_build import build_table, rank_correlation, suggest
from mmrazor_lite.estimators.latency_measuring import facts_of_repeats
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.estimators.measure import Bench
from mmrazor_lite.estimators.measurement_log import Journal
from mmrazor_lite.models.backbones import OFAMobileNetV3
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.models.mutators import NasMutator

OVERHEAD = 2e-5  # seconds that every run of the counting bench takes beside its work


class CountingBench:
    """A bench whose runs take the multiply-adds of their convolutions in nanoseconds.

    Args:
        stop_after: Timers that are made before the process is "killed".
        times: What every time is multiplied with.
    """

    def __init__(self, stop_after: int | None = None, times: float = 1.0, **facts) -> None:
        self.made, self.stop_after, self.times = 0, stop_after, times
        self.extra = facts

    def facts(self) -> dict:
        return {"device": "count", "threads": 1, **self.extra}

    pace = None

    def timers(self, modules) -> dict:
        return {key: self.timer(module, size) for key, (module, size) in modules.items()}

    def timer(self, module: nn.Module, size: tuple):
        if self.made == self.stop_after:
            raise KeyboardInterrupt
        self.made += 1
        macs = []

        def count(conv: nn.Conv2d, args: tuple, output: torch.Tensor) -> None:
            macs.append(conv.weight.numel() * output[0, 0].numel())

        handles = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d)]
        with torch.no_grad():
            module.eval()(torch.zeros((1, *size)))
        for handle in handles:
            handle.remove()
        seconds = self.times * (OVERHEAD + sum(macs) * 1e-9)
        return lambda runs: runs * seconds


class First(nn.Module):
    def forward(self, features):
        return features[0]


def prepared(network: nn.Module, size: int = 32, resolutions=None) -> NasMutator:
    mutator = NasMutator(resolutions=resolutions)
    mutator.prepare(network, (3, size, size))
    return mutator


@pytest.fixture(scope="module")
def elastic() -> NasMutator:
    backbone = OFAMobileNetV3(
        arch_setting=[[16, 3, 2, "ReLU", False], [24, 2, 2, "HSwish", True]],
        depths=[2, 3],
        kernel_sizes=[3, 5],
        expand_ratios=[3, 4],
        tail_channels=[48, 64],
    )
    network = nn.Sequential()
    for name, module in (("backbone", backbone), ("first", First()), ("head", nn.Linear(64, 10))):
        network.add_module(name, module)
    return prepared(network, resolutions=[16, 32])


def operators() -> nn.Module:
    candidates = {"small": nn.Conv2d(8, 8, 1), "large": nn.Conv2d(8, 8, 3, padding=1), "skip": nn.Identity()}
    places = [MutableOP(candidates), nn.Conv2d(8, 8, 3, 2, 1), MutableOP(candidates), MutableOP(candidates)]
    return nn.Sequential(nn.Conv2d(3, 8, 3), *places, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize("kind", ["elastic", "operators"])
def test_what_is_additive_is_predicted_exactly(kind, elastic, tmp_path):
    mutator = elastic if kind == "elastic" else prepared(operators())
    bench, before = CountingBench(), mutator.active
    report = build_table(mutator, bench, tmp_path / "journal", repeats=3)
    assert report.predicted == pytest.approx(report.measured, rel=1e-9)
    assert report.errors().max() < 1e-9 and report.rank_correlation > 0.99  # ties are equal up to rounding
    assert report.table.correction.factor == pytest.approx(1) and not report.table.correction.applied
    assert mutator.active is before and report.spread == pytest.approx(0, abs=1e-9)
    space = mutator.search_space
    times = report.table(space.sample_indices(np.random.default_rng(5), 200))
    assert (times >= report.table.extreme(False) - 1e-9).all() and (times <= report.table.extreme(True) + 1e-9).all()


def test_equal_parts_are_measured_once(elastic, tmp_path):
    bench = CountingBench()
    report = build_table(elastic, bench, tmp_path / "journal", repeats=1, checks=3)
    # of five blocks, the second and third are alike; two kernels, two ratios, two resolutions
    assert (report.entries, report.distinct) == (5 * 8, 4 * 8)
    assert bench.made == len(Journal(tmp_path / "journal", header(elastic)).times)
    assert bench.made <= report.distinct + 1 + 2 * 5 + 3
    report = build_table(prepared(operators()), CountingBench(), tmp_path / "other", repeats=1, checks=3)
    assert (report.entries, report.distinct) == (9, 3 * 2)  # two places of one size


def header(mutator: NasMutator, **facts) -> dict:
    return {"space": mutator.search_space.fingerprint, **CountingBench(**facts).facts()}


def test_a_killed_measurement_goes_on_where_it_was(elastic, tmp_path):
    whole, journal = CountingBench(), tmp_path / "journal"
    wanted = build_table(elastic, whole, tmp_path / "uninterrupted", repeats=2, checks=3).table
    with pytest.raises(KeyboardInterrupt):
        build_table(elastic, CountingBench(stop_after=40), journal, repeats=2, checks=3)
    kept = journal.read_bytes()
    assert kept.count(b"\n") == 1 + 32
    journal.write_bytes(kept + b'{"key": "0123", "what": "half a li')
    rest, seen = CountingBench(), []
    found = build_table(elastic, rest, journal, repeats=2, checks=3, progress=lambda *done: seen.append(done)).table
    assert rest.made == whole.made - 32 and seen[-1] == (whole.made, whole.made)
    assert found.digest == wanted.digest and journal.read_bytes().startswith(kept)
    after = CountingBench()
    assert build_table(elastic, after, journal, repeats=2, checks=3, apply_correction=True).table.correction.applied
    assert after.made == 0


def test_a_table_from_times_twice_as_long_is_twice_as_long(elastic, tmp_path):
    once, twice = (
        build_table(elastic, CountingBench(times=factor), tmp_path / str(factor), repeats=1, checks=3).table
        for factor in (1, 2)
    )
    rows = elastic.search_space.sample_indices(np.random.default_rng(0), 100)
    assert twice(rows) == pytest.approx(2 * once(rows), rel=1e-9)
    once.write(tmp_path / "table.json")
    assert LatencyTable.read(tmp_path / "table.json", elastic.search_space).device["threads"] == 1


def test_a_correction_is_applied_on_request_only(elastic, tmp_path):
    report = build_table(elastic, CountingBench(), tmp_path / "journal", repeats=1, checks=3)
    measured = 0.5 + 2 * report.predicted
    fix = suggest(report.predicted, measured, applied=True)
    assert (fix.offset, fix.factor, fix.applied) == (pytest.approx(0.5), pytest.approx(2), True)
    assert suggest(report.predicted, -measured, True) is None and suggest(np.ones(4), np.arange(4), True) is None


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"threads": 2}, "is of another measurement: threads was 1, is 2; delete it"),
        ({"device": "cuda"}, "device was 'count', is 'cuda'"),
        ({"backend": "onnxruntime"}, "backend was None, is 'onnxruntime'"),
    ],
)
def test_a_journal_of_another_measurement(elastic, tmp_path, change, part):
    with pytest.raises(KeyboardInterrupt):
        build_table(elastic, CountingBench(stop_after=0), tmp_path / "journal")
    before = (tmp_path / "journal").read_bytes()
    with pytest.raises(UserError) as error:
        build_table(elastic, CountingBench(**change), tmp_path / "journal")
    assert part in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="space was"):
        build_table(prepared(operators()), CountingBench(), tmp_path / "journal")
    assert (tmp_path / "journal").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "notes\n",
        "notes",
        '{"format": "other"}\n',
        "HEADER\n[1]\n",
        'HEADER\n{"key": 1, "ms": [1]}\n',
        'HEADER\n{"key": "a", "ms": []}\n',
        'HEADER\n{"key": "a", "ms": [true]}\n',
        'HEADER\n{"key": "a", "ms": [NaN]}\n',
        'HEADER\n{"key": "a", "ms": [1], "speed": 0}\n',
        'HEADER\n{"key": "a", "ms": [1], "pace": "fast"}\n',
        'HEADER\n{"key"\n{"key": "a", "ms": [1]}\n',
    ],
)
def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path, content):
    path, head = tmp_path / "journal", {"threads": 1}
    Journal(path, head)
    content = content.replace("HEADER", path.read_text().strip()) + "half"
    path.write_text(content)
    with pytest.raises(UserError, match="not a journal of measurements .*; delete it to start anew"):
        Journal(path, head)
    assert path.read_text() == content


def test_a_journal_knows_the_speed_of_the_machine(tmp_path):
    path = tmp_path / "journal"
    book = Journal(path, {"threads": 1})
    book.add("a", [1.0], "a part", pace=0.0005)
    book.add("b", [2.0], "another", speed=0.71, pace=0.0004)
    for one in (book, Journal(path, {"threads": 1})):
        assert one.speeds == {"b": 0.71} and one.pace == 0.0004
        found = facts_of_repeats(["a", "b"], one)
        assert found == {"repeats": 1, "spread": 0.0, "pace": 0.4, "slow": 0.5}


def test_half_a_header_starts_anew(tmp_path):
    path = tmp_path / "journal"
    Journal(path, {"threads": 1}).add("a", [1.0, 2.0], "a part")
    content = path.read_bytes()
    for cut in (0, 1, 20):
        path.write_bytes(content[:cut])
        Journal(path, {"threads": 1}).add("a", [1.0, 2.0], "a part")
        assert path.read_bytes() == content
    assert Journal(path, {"threads": 1}).times == {"a": [1.0, 2.0]}
    assert json.loads(content.splitlines()[1])["what"] == "a part"


def test_rank_correlation():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 30).astype(float), rng.random(30)
    stats = pytest.importorskip("scipy.stats")
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert rank_correlation(b, b**3) == pytest.approx(1) and np.isnan(rank_correlation(b, np.ones(30)))


@pytest.fixture
def same_threads():
    """Restore what a bench sets for the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_a_real_bench(clock, same_threads):
    bench = Bench("cpu", "torch", threads=1, batch_size=2, clock=clock)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardswish())
    state = {name: value.clone() for name, value in module.state_dict().items()}
    assert bench.timer(module, (3, 16, 16))(3) > 0 and torch.get_num_threads() == 1
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    facts = bench.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert [facts[key] for key in ("device", "backend", "threads", "batch_size")] == ["cpu", "torch", 1, 2]
    assert bench.pace() > 0 and bench.pace is Bench(threads=1, clock=clock).pace  # one full speed in a process


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"device": "tpu"}, "device='tpu' is unknown (allowed: cpu, cuda)"),
        ({"backend": "tvm"}, "backend='tvm' is unknown (allowed: torch, torch.compile, onnxruntime, openvino)"),
        ({"threads": 0}, "threads=0 must be a whole number, 1 or more"),
        ({"batch_size": 1.5}, "batch_size=1.5 must be a whole number"),
        ({"backend": "onnxruntime"}, "needs the package 'onnxruntime': pip install 'mmrazor_lite[onnx]'"),
        ({"backend": "openvino"}, "needs the package 'openvino': pip install 'mmrazor_lite[deliver]'"),
        ({"backend": "torch.compile"}, "needs a C++ compiler"),
        ({"device": "cuda"}, "device 'cuda': this machine has no GPU that torch can use; measure with 'cpu'"),
    ],
)
def test_a_bench_that_cannot_be(options, part, monkeypatch, same_threads):
    for package in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, sys)  # there, whatever is installed
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError) as error:
        Bench(**options)
    assert part in str(error.value) and "\n" not in str(error.value)


def test_what_cannot_be_measured(elastic, tmp_path):
    for options in ({"checks": 2}, {"repeats": 0}, {"seed": -1}):
        with pytest.raises(UserError, match=f"{next(iter(options))}=.* must be a whole number"):
            build_table(elastic, CountingBench(), tmp_path / "journal", **options)
    assert not (tmp_path / "journal").exists()
