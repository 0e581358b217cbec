"""Ops and networks in the runtimes that they are delivered to: what is measured there computes what torch does."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from slim_nets import Attention, Grouped, Residual
from torch import nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_widths import run_by
from mmrazor_lite.estimators.measure import Bench, threads_kept
from mmrazor_lite.estimators.op_runs import OpRun
from mmrazor_lite.estimators.runtime_timers import op_models
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.programs import session_of

pytest.importorskip("onnxscript", reason="onnx is not installed: pip install mmrazor_lite[deliver]")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install mmrazor_lite[deliver]")


@pytest.fixture(scope="module")
def mutators() -> dict[str, OneShotChannelMutator]:
    torch.manual_seed(0)
    found = {}
    for build in (Residual, Attention, Grouped):
        found[build.__name__] = OneShotChannelMutator()
        found[build.__name__].prepare(build(), (3, 16, 16), any_width=True)
    return found


def runs_of(mutator: OneShotChannelMutator) -> list[OpRun]:
    """Every distinct unit once at full width, and once narrower."""
    calls = {call.key: call for call in run_by(mutator.calls, "onnxruntime")}.values()
    halves = [tuple(max(n // 2 // step * step, step) for n, step in zip(c.fulls, c.steps, strict=True)) for c in calls]
    return [
        OpRun(c, n, images=2)
        for call, half in zip(calls, halves, strict=True)
        for c, n in ((call, call.fulls), (call, half))
    ]


@pytest.mark.parametrize("name", ["Residual", "Attention", "Grouped"])
def test_an_op_alone_computes_what_it_does_in_torch(name, mutators):
    runs = runs_of(mutators[name])
    for run, model in zip(runs, op_models(runs), strict=True):
        session = session_of(model, 1)
        feeds = {f"feed_{at}": feed.numpy() for at, feed in enumerate(run.feeds)}
        assert [given.name for given in session.get_inputs()] == list(feeds)
        (found,) = session.run(None, feeds)
        expected = tree_leaves(run.on(*(feed.clone() for feed in run.feeds)))[0].numpy()
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(np.abs(expected).max())), run.kind


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_bench_of_a_runtime(backend, mutators):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed: pip install mmrazor_lite[deliver]")
    mutator = mutators["Residual"]
    with threads_kept():
        bench = Bench(backend=backend, threads=1, batch_size=2, clock="cpu")
        run = next(run for run in runs_of(mutator) if run.kind == "conv2d, batch_norm, relu")
        timers = bench.timers(
            {"op": (run, (1, 1, 1)), "network": (Residual(), (3, 16, 16)), "": (nn.Identity(), (1, 1, 1))}
        )
        assert list(timers) == ["op", "network", ""]
        assert all(timer(2) > 0 for timer in timers.values())
        assert bench.facts()["backend"] == backend and bench.facts()["version"][:1].isdigit()
    for options in ({"device": "cuda"}, {"dtype": "bfloat16"}, {"channels_last": True}):
        with pytest.raises(UserError, match=f"backend '{backend}' measures|device 'cuda'"):
            Bench(backend=backend, **options)


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x.flatten(2))


def test_what_a_runtime_lacks_is_named():
    with threads_kept(), pytest.raises(UserError, match="Spectrum cannot be exported as ONNX: ") as caught:
        Bench(backend="onnxruntime", threads=1).timer(Spectrum(), (3, 8, 8))
    assert "svd" in str(caught.value) and "\n" not in str(caught.value)


SIGNALLED = """
import os, signal, time
from torch import nn
from mmrazor_lite.estimators.runtime_timers import runtime_timers

def end(*_):
    raise SystemExit(7)

signal.signal(signal.SIGINT, end)
modules = {name: (nn.Conv2d(3, 8, 3), (3, 8, 8)) for name in "ab"}
timers = runtime_timers(modules, "openvino", 1, 1, time.perf_counter)
del timers
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_signal_after_two_models_of_openvino_ends_nothing_but_what_it_should():
    """Where the first of two models goes first, signals ran on a stack that was freed: a segmentation fault."""
    pytest.importorskip("openvino")
    assert subprocess.run([sys.executable, "-c", SIGNALLED], check=False).returncode == 7
