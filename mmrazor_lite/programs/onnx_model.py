"""A module as ONNX, by torch's current exporter, from the same program that a ``.pt2`` holds.

Letters: N batch, C channels, H W space.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mmrazor_lite.graph.trace import quiet

from .extras import require
from .program import module_of, output_names, plain_attention, prepared, program_of, refusal, why

PACKAGES = {"onnx": "onnx", "onnxscript": "onnxscript"}
EXTRA = "mmrazor_lite[onnx]"
MOST_BYTES = (1 << 31) - (1 << 24)  # of weights: a file of Protocol Buffers ends at 2 GiB
_TRACES = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")  # paths of the machine that wrote it; long
_SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that run it, from the outside in
_OP = re.compile(r"No ONNX function found for <OpOverload\(op='aten\.(\w+)', overload='(\w+)'\)>")


def onnx_of(
    module: nn.Module,
    input_shape: Sequence[int],
    opset: int | None = None,
    metadata: Mapping[str, str] | None = None,
    count: int | None = None,
) -> Any:
    """``module`` as an ``ONNXProgram``: input ``images`` (N, C, H, W) with any N, eval mode.

    The output is ``logits``; of several, each has its key in the network's dict, or ``output_0`` and so on. The graph
    is simplified by the optimiser of onnxscript.

    Args:
        module: A plain module; it is not changed.
        input_shape: (C, H, W) of one image.
        opset: Version of ONNX's operators; None: the one that torch's exporter is made for.
        metadata: What it says of itself: names and values.
        count: N, where it is to be for so many images alone.

    Raises:
        UserError: A package is missing, or the module cannot be written as ONNX for any batch size; says why in one
            line, with the module that has the operator.
    """
    require(PACKAGES, "ONNX export", EXTRA)
    model, images = prepared(module, input_shape)
    if sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) > MOST_BYTES:
        raise refusal(module, "as ONNX", "it has more than 2 GB of weights, and one file holds no more")
    program = program_of(module, input_shape, count)
    with plain_attention(), torch.no_grad():
        names = output_names(model(images))
    written = translated(module, program, ["images"], names, opset)
    _settle(written.model, metadata or {})
    return written


def translated(
    module: nn.Module,
    program: torch.export.ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int | None = None,
) -> Any:
    """A program as an ``ONNXProgram``, simplified, with these names.

    Raises:
        UserError: It has an operator that ONNX lacks; names ``module`` and the module inside that has it.
    """
    try:
        with quiet(), _no_dump(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            written = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                optimize=True,
                opset_version=opset,
                input_names=list(inputs),
                output_names=list(outputs),
            )
    except Exception as error:  # torch raises a dozen kinds
        raise refusal(module, "as ONNX", _why(error, program)) from None
    found = written.model.opset_imports[""]
    if opset is not None and found != opset:
        raise refusal(module, "as ONNX", f"opset {opset} cannot be had of it, torch's exporter gives {found}")
    return written


def _settle(model: Any, metadata: Mapping[str, str]) -> None:
    """Call the free dimension ``batch``, take out what tells of the machine, and put in the metadata."""
    values = [*model.graph.inputs, *model.graph.outputs]
    first = model.graph.inputs[0].shape[0]
    batch = "batch" if isinstance(first, int) else str(first.value)
    for node in model.graph.all_nodes():
        values += node.outputs
        for key in _TRACES:
            node.metadata_props.pop(key, None)
    for value in values:
        for at, size in enumerate(value.shape if value.shape is not None and not value.shape.frozen else ()):
            if not isinstance(size, int) and size.value is not None:
                value.shape[at] = re.sub(rf"\b{batch}\b", "batch", str(size.value))
    model.metadata_props.update(metadata)


def _why(error: Exception, program: torch.export.ExportedProgram) -> str:
    """What the exporter has against a program: the operator, and the module that runs it."""
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None:
        chain.append(str(current))
        current = current.__cause__ or current.__context__
    found = next(filter(None, map(_OP.search, chain)), None)
    if found is None:
        return why(error)
    place = module_of(program, f"aten.{found[1]}.{found[2]}")
    name = f"'aten::{found[1]}'"
    return f"{place}ONNX has no operator for {name}; use its .pt2 file, or write the op with others"


def place_of(error: Exception, file: str) -> str:
    """The operator and the module that an error of a runtime names by its node, as the start of a line."""
    import onnx

    named = set(re.findall(r"[\w.:/]+", str(error)))
    nodes = onnx.load(file, load_external_data=False).graph.node
    node: Any = next((node for node in nodes if node.name and node.name in named), None)
    if node is None:
        return ""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    modules = [part.removeprefix("model").lstrip(".") for part in re.findall(r"'([^']*)'", scopes)[:-1]]
    return f"operator {node.op_type} of {modules[-1]}: " if any(modules) else f"operator {node.op_type}: "


@contextmanager
def _no_dump() -> Iterator[None]:
    """Keep back what the exporter prints of a graph when it fails, past Python's own streams."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)
