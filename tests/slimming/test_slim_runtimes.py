"""Both networks of a slimming are timed in the runtime that is asked for, and milliseconds are met there."""

from __future__ import annotations

import math

import pytest
import torch
from small_nets import build
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators import latency_widths, measure, runtime_timers
from mmrazor_lite.estimators.measure import threads_kept
from mmrazor_lite.slimming import slim, timed
from mmrazor_lite.slimming.prepared import prepare
from mmrazor_lite.slimming.timed import NEAR, bench_of

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install mmrazor_lite[deliver]")
pytest.importorskip("onnxscript", reason="onnx is not installed: pip install mmrazor_lite[deliver]")
IMAGES = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
OPTIONS = {"images": 40, "importance": "l1"}
OVERHEAD, PER_WEIGHT = 1e-3, 1e-5  # seconds of a run by the known clock


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_last_measurement_is_in_the_runtime_that_is_asked_for(backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed: pip install mmrazor_lite[deliver]")
    with threads_kept(1):
        result = slim(build("Residual"), IMAGES, "60%", **OPTIONS, backend=backend)
    assert result.report.latency.machine["backend"] == backend and backend in str(result.report)


def test_a_runtime_computes_on_the_cpu():
    prepared = prepare(build("Residual"), (3, 16, 16))
    assert bench_of(prepared, "onnxruntime").facts()["device"] == "cpu"
    with pytest.raises(UserError, match="backend='tvm' is unknown"):
        bench_of(prepared, "tvm")


class KnownClock:
    """Every run of a session goes through onnxruntime, and takes the same for each weight of its program."""

    def __init__(self) -> None:
        self.now, self.runs, self.session_of = 0.0, 0, runtime_timers.session_of

    def __call__(self) -> float:
        return self.now

    def session(self, model: bytes, threads: int):
        return _Session(self, self.session_of(model, threads), seconds(onnx.load_from_string(model)))


class _Session:
    def __init__(self, clock: KnownClock, session, seconds: float) -> None:
        self.clock, self.session, self.seconds = clock, session, seconds

    def run_with_iobinding(self, binding) -> None:
        self.session.run_with_iobinding(binding)
        self.clock.now += self.seconds
        self.clock.runs += 1

    def __getattr__(self, name: str):
        return getattr(self.session, name)


def seconds(model) -> float:
    return OVERHEAD + PER_WEIGHT * sum(math.prod(tensor.dims) for tensor in model.graph.initializer)


@pytest.fixture
def clock(monkeypatch) -> KnownClock:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install mmrazor_lite[deliver]")
    clock = KnownClock()
    monkeypatch.setattr(runtime_timers, "session_of", clock.session)
    monkeypatch.setitem(measure.CLOCK, "wall", clock)
    monkeypatch.setattr(measure, "machine_pace", lambda *_: None)
    monkeypatch.setattr(timed, "MIN_SECONDS", 1e-9)
    monkeypatch.setattr(timed, "BUILT", {"checks": 3, "repeats": 1, "min_seconds": 1e-9})
    monkeypatch.setattr(latency_widths, "FOR_BASE_WRITTEN", 3)
    return clock


@pytest.mark.wide
def test_a_budget_in_milliseconds_is_met_in_onnxruntime(clock, tmp_path):
    """From the table to what is delivered: chosen, measured beside the full network, within 3 % of the limit."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 3))
    with threads_kept(1):
        result = slim(network, IMAGES, {"latency": "70%"}, **OPTIONS, backend="onnxruntime", work_dir=tmp_path)
        times = result.report.latency
        (_, full, _), (_, small, _) = times.quartiles
        written = runtime_timers._as_onnx(result.model, (3, 16, 16), 1)
    assert abs(small / (0.7 * full) - 1) <= NEAR and times.machine["backend"] == "onnxruntime"
    assert small == pytest.approx(1000 * seconds(onnx.load_from_string(written))) and clock.runs > 100
    note = next(note for note in result.report.notes if note.startswith("chosen by measurement"))
    assert f"{small:.3g} ms beside {full:.3g} ms of the original" in note
    before = clock.runs
    with threads_kept(1), pytest.raises(UserError, match="is out of reach: the fastest subnet takes .* ms, the full"):
        slim(network, IMAGES, "0.01ms", **OPTIONS, table=tmp_path / timed.TABLE)
    assert clock.runs > before  # by the backend of the table
