"""Timers in onnxruntime and OpenVINO, of networks and of single ops, on the CPU in float32.

Ops are written as ONNX many at a time, as branches of one program, which is then taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.graph.trace import quiet
from mmrazor_lite.programs import compiled, onnx_model, onnx_of, onnx_session, openvino_model, openvino_of, session_of
from mmrazor_lite.programs.extras import DELIVER, require
from mmrazor_lite.programs.program import output_names, plain_attention, prepared

from .op_runs import MOST_BYTES, OpRun

Timer = Callable[[int], float]
Clock = Callable[[], float]
Feeds = Mapping[str, np.ndarray]
MOST_SESSIONS = 4  # that an op goes through in turns, so that its weights have left the fast memory
RUNTIMES = {  # backend -> what it needs, and the extra that has it
    "onnxruntime": ({**onnx_model.PACKAGES, **onnx_session.PACKAGES}, onnx_model.EXTRA),
    "openvino": ({**openvino_model.PACKAGES, **onnx_model.PACKAGES}, DELIVER),
}


def check_runtime(backend: str) -> None:
    """Raise :class:`UserError` where a package of a backend is missing: says which to install."""
    packages, extra = RUNTIMES[backend]
    require(packages, f"backend '{backend}'", extra)


def runtime_timers(
    modules: Mapping[str, tuple[nn.Module, Sequence[int]]], backend: str, images: int, threads: int, clock: Clock
) -> dict[str, Timer]:
    """A timer of each module, on so many images of its size (C, H, W); of an :class:`OpRun` on what it reads.

    Raises:
        UserError: A module cannot be written for this runtime, or is refused by it; says why.
    """
    runs = {key: module for key, (module, _) in modules.items() if isinstance(module, OpRun)}
    found = {}
    for key, model in zip(runs, op_models(list(runs.values())), strict=True):
        feeds = {f"feed_{at}": tensor.numpy() for at, tensor in enumerate(runs[key].feeds)}
        copies = min(MOST_SESSIONS, MOST_BYTES // max(runs[key].weight_bytes, 1))
        found[key] = _TIMERS[backend](model, feeds, threads, clock, copies, runs[key].kind)
    for key, (module, size) in modules.items():
        if key not in runs:
            generator = torch.Generator().manual_seed(0)
            feeds = {"images": torch.randn((images, *size), generator=generator).numpy()}
            model = _MODELS[backend](module, size, images)
            found[key] = _TIMERS[backend](model, feeds, threads, clock, 1, type(module).__name__)
    return {key: found[key] for key in modules}


class _Ops(nn.Module):
    """Ops side by side."""

    def __init__(self, runs: Sequence[OpRun]) -> None:
        super().__init__()
        self.runs = nn.ModuleList(runs)

    def forward(self, *feeds: Tensor) -> tuple[Tensor, ...]:
        left = iter(feeds)
        # A copy, so that an op that writes into what it reads changes no input.
        return tuple(tree_leaves(run.on(*(next(left).clone() for _ in run.feeds)))[0] for run in self.runs)


def op_models(runs: Sequence[OpRun]) -> list[bytes]:
    """Each op as an ONNX model with inputs ``feed_0`` and so on.

    Raises:
        UserError: ONNX lacks an op.
    """
    if not runs:
        return []
    names = [[f"op_{number}_feed_{at}" for at in range(len(run.feeds))] for number, run in enumerate(runs)]
    feeds = tuple(tensor for run in runs for tensor in run.feeds)
    ops = _Ops(runs).eval()
    with torch.no_grad(), quiet(), plain_attention():
        program = torch.export.export(ops, feeds, strict=False)
    outputs = [f"op_{number}" for number in range(len(runs))]
    written = onnx_model.translated(ops, program, [name for own in names for name in own], outputs).model_proto
    return [_part(written, own, output) for own, output in zip(names, outputs, strict=True)]


def _part(model: Any, inputs: Sequence[str], output: str) -> bytes:
    """What of an ONNX model leads to one of its outputs, with its inputs numbered anew."""
    import onnx

    makers = {name: node for node in model.graph.node for name in node.output}
    wanted, nodes, seen = [output], {}, set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in makers and id(makers[name]) not in nodes:
            nodes[id(makers[name])] = makers[name]
            wanted += [read for read in makers[name].input if read]
    part = onnx.ModelProto()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = output
    part.graph.node.extend(node for node in model.graph.node if id(node) in nodes)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in seen)
    part.graph.input.extend(value for value in model.graph.input if value.name in inputs)
    part.graph.output.extend(value for value in model.graph.output if value.name == output)
    renamed = {name: f"feed_{at}" for at, name in enumerate(inputs)}
    for value in part.graph.input:
        value.name = renamed[value.name]
    for node in part.graph.node:
        for at, read in enumerate(node.input):
            node.input[at] = renamed.get(read, read)
    return part.SerializeToString()


def _as_onnx(module: nn.Module, size: Sequence[int], images: int) -> bytes:
    return onnx_of(module, size, count=images).model_proto.SerializeToString()


def _as_openvino(module: nn.Module, size: Sequence[int], images: int) -> Any:
    model, example = prepared(module, size)
    with torch.no_grad(), plain_attention():
        names = output_names(model(example))
    return openvino_of(module, size, type(module).__name__, names, images)


def _in_onnxruntime(model: bytes, feeds: Feeds, threads: int, clock: Clock, copies: int, what: str) -> Timer:
    from onnxruntime import OrtValue

    held = {name: OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
    bound = []
    for _ in range(max(copies, 1)):
        try:
            session = session_of(model, threads)
        except Exception as error:  # it has a dozen kinds of its own
            raise UserError(f"onnxruntime refuses {what}: {reason(error)}") from None
        binding = session.io_binding()  # without, every output is copied once more
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name, "cpu")
        bound.append((session.run_with_iobinding, binding))

    def timer(runs: int) -> float:
        start = clock()
        for number in range(runs):
            run, binding = bound[number % len(bound)]
            run(binding)
        return clock() - start

    return timer


def _in_openvino(model: Any, feeds: Feeds, threads: int, clock: Clock, copies: int, what: str) -> Timer:
    """One copy alone: OpenVINO takes long to make one ready."""
    import openvino

    try:
        if isinstance(model, bytes):
            model = openvino.Core().read_model(model)
        request = compiled(model, threads).create_infer_request()
        for at, array in enumerate(feeds.values()):  # by place: what gives what it reads has one name for both
            request.set_input_tensor(at, openvino.Tensor(array, shared_memory=True))
    except Exception as error:
        raise UserError(f"OpenVINO refuses {what}: {openvino_model.last_line(error)}") from None

    def timer(runs: int) -> float:
        start = clock()
        for _ in range(runs):
            request.infer(share_outputs=True)
        return clock() - start

    return timer


_TIMERS = {"onnxruntime": _in_onnxruntime, "openvino": _in_openvino}
_MODELS = {"onnxruntime": _as_onnx, "openvino": _as_openvino}
