"""An ONNX model made ready to run by onnxruntime, on the CPU."""

from __future__ import annotations

from typing import Any

PACKAGES = {"onnxruntime": "onnxruntime"}


def session_of(model: str | bytes, threads: int) -> Any:
    """An ``InferenceSession`` of a file or of its bytes, with all optimisations, that computes with so many threads.

    Raises:
        Exception: One of onnxruntime's own: it does not take the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
