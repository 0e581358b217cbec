"""Both networks of a slimming are timed in the runtime that is asked for."""

from __future__ import annotations

import pytest
import torch
from small_nets import build

from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.measure import threads_kept
from mmrazor_lite.slimming import slim
from mmrazor_lite.slimming.prepared import prepare
from mmrazor_lite.slimming.timed import bench_of

pytest.importorskip("onnxscript", reason="onnx is not installed: pip install mmrazor_lite[deliver]")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_last_measurement_is_in_the_runtime_that_is_asked_for(backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed: pip install mmrazor_lite[deliver]")
    images = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with threads_kept(1):
        result = slim(build("Residual"), images, "60%", images=40, importance="l1", backend=backend)
    assert result.report.latency.machine["backend"] == backend and backend in str(result.report)


def test_a_runtime_computes_on_the_cpu():
    prepared = prepare(build("Residual"), (3, 16, 16))
    assert bench_of(prepared, "onnxruntime").facts()["device"] == "cpu"
    with pytest.raises(UserError, match="backend='tvm' is unknown"):
        bench_of(prepared, "tvm")
