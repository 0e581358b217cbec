"""A module as a model of OpenVINO, by its own converter, from the program that a ``.pt2`` holds; and ready to run."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph.trace import quiet

from .no_telemetry import without_telemetry
from .program import module_of, program_of, why

PACKAGES = {"openvino": "openvino"}
_OPS = re.compile(r"No conversion rule found for operations: (\S+)")


def openvino_of(
    module: nn.Module, input_shape: Sequence[int], title: str, outputs: Sequence[str], count: int | None = None
) -> Any:
    """``module`` as an ``openvino.Model``: input ``images`` (N, C, H, W) with any N, eval mode.

    Args:
        module: A plain module; it is not changed.
        input_shape: (C, H, W) of one image.
        title: What it is called, in errors.
        outputs: A name for each output.
        count: N, where it is to be for so many images alone.

    Raises:
        UserError: It cannot be converted; names the module that has the operator.
    """
    with without_telemetry():
        import openvino

    program = program_of(module, input_shape, count)
    try:
        with quiet(), without_telemetry():
            model = openvino.convert_model(program)
    except Exception as error:  # its front end has a dozen kinds
        raise UserError(f"{title} cannot be exported as OpenVINO: {_reason(error, program)}") from None
    model.inputs[0].get_tensor().set_names({"images"})
    for name, output in zip(outputs, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    model.reshape({"images": openvino.PartialShape([count or -1, *input_shape])})
    return model


def compiled(model: Any, threads: int) -> Any:
    """A model, or the file of one, ready to run on the CPU in full precision with so many threads.

    Raises:
        Exception: One of OpenVINO's own: it does not take the model.
    """
    with without_telemetry():
        import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    with _signal_stack_kept():
        return openvino.Core().compile_model(model, "CPU", settings)


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """The stack that signals of this thread run on is that of before after it.

    OpenVINO 2026 sets up one of its own for each model and, where a model goes, goes back to the one that it found. Of
    two models the first may go first, then that is one that is freed, and the next signal ends the process.
    """
    if os.name != "posix":
        yield
        return
    stack, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)  # stack_t has 24 bytes
    known = library.sigaltstack(None, stack) == 0
    try:
        yield
    finally:
        if known:
            library.sigaltstack(stack, None)


def last_line(error: Exception) -> str:
    """The last line of what OpenVINO says: those before name its own files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _reason(error: Exception, program: Any) -> str:
    found = _OPS.search(str(error))
    if found is None:
        return why(error)
    op = found[1].rstrip(",;")
    return (
        f"{module_of(program, op)}OpenVINO has no operator for '{op}'; use its .pt2 file, or write the op with others"
    )
