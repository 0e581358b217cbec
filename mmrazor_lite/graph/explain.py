"""Why a model cannot be traced: the module, the line, the op, and the way out, in one line."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn

from .versions import no_stack_traces

TORCH = os.path.dirname(torch.__file__) + os.sep
LAYERS = os.path.join(TORCH, "nn", "")
LINE = "mmrazor_lite_line"  # of an op of a graph: file and number of the line of the model that it comes from
Hide = Callable[[str], list[str]]
DATA_DEPENDENT = ("GuardOnDataDependentSymNode", "DataDependentOutputException", "DynamicOutputShapeException")


@dataclass(frozen=True)
class Place:
    """Where it happened: the innermost module of the model, the innermost line outside torch, the op."""

    module: str | None = None  # None: not known
    type: str = ""
    file: str = ""
    number: int = 0
    line: str = ""
    op: str = ""

    def __str__(self) -> str:
        parts = []
        if self.module is not None:
            parts.append(f"module '{self.module}' ({self.type})" if self.module else f"the model itself ({self.type})")
        if self.file:
            parts.append(
                f"line '{self.line}' of {self.file}:{self.number}" if self.line else f"{self.file}:{self.number}"
            )
        if self.op:
            parts.append(f"op {self.op}")
        return ", ".join(parts)


class ShapeOfData(Exception):
    """A tensor has a shape that depends on the data."""

    def __init__(self, place: Place) -> None:
        super().__init__(str(place))
        self.place = place


def explain(error: BaseException, model: nn.Module, example: Tensor, training: bool, hide: Hide | None = None) -> str:
    """Say in one line why ``torch.export`` failed on ``model(example)`` (N, C, H, W), and what the user can do.

    Args:
        hide: Module -> the modules that ``opaque`` has to name for the model to be traced, none where it cannot be;
            or None where the user has no such option.
    """
    plain = _plain_error(model, example)
    image = "x".join(map(str, example.shape[1:]))
    mode = "train" if training else "eval"
    if plain is not None:
        place = find_place(plain, model)
        if isinstance(plain, TypeError) and "required positional argument" in str(plain):
            way = "wrap the model in one whose forward takes a batch of images and nothing else"
        elif example.dim() == 4 and example.shape[3] in (1, 3) and example.shape[1] not in (1, 3):
            way = "images are (N, C, H, W), these look like (N, H, W, C): images.permute(0, 3, 1, 2)"
        else:
            way = "try another input_shape, or mend that line"
        what = f"cannot be traced in {mode} mode on images of {image}, nor run"
        return f"{type(model).__name__}: {what}: {_join(place, _first_line(plain))}. Way out: {way}"
    if isinstance(error, ShapeOfData):
        return _describe(model, example, training, error.place, "the shape of its result depends on the data", hide)
    chain = [type(cause).__name__ for cause in _causes(error)]
    reason = "a Python value is made of a tensor's values" if set(chain) & set(DATA_DEPENDENT) else _first_line(error)
    return _describe(model, example, training, find_place(error, model), reason, hide)


def _describe(model: nn.Module, example: Tensor, training: bool, place: Place, reason: str, hide: Hide | None) -> str:
    """The line for a model that runs and cannot be written as a graph, because of ``reason`` at ``place``."""
    image = "x".join(map(str, example.shape[1:]))
    what = f"{type(model).__name__}: cannot be traced in {'train' if training else 'eval'} mode on images of {image}"
    names = hide(place.module) if hide is not None and place.module else []
    if names:
        one = len(names) == 1
        way = f"rewrite that line, or keep the module{'' if one else 's'} out of the trace, at full width, with "
        way += f"opaque={names}"
    elif place.module:
        way = "rewrite that line"
    elif place.module == "":
        way = "rewrite that line"
        way += ", or move it into a module of its own and name that in opaque=[...]" if hide is not None else ""
    else:
        way = "wrap the model in one whose forward takes a batch of images and returns tensors, tuples, lists or dicts"
    return f"{what}: {_join(place, reason)}. Way out: {way}"


@contextmanager
def lines_noted() -> Iterator[None]:
    """Inside, every op that torch writes into a graph keeps which ``forward`` it is called in, see :func:`line_of`.

    torch would keep the whole stack of calls with the text of all its lines; that is a fifth of the time of a trace.
    """
    create = fx.Graph.create_node

    def noting(self: fx.Graph, *args: Any, **kwargs: Any) -> fx.Node:
        node = create(self, *args, **kwargs)
        if node.op == "call_function":
            node.meta[LINE] = _calling_line(sys._getframe(1))
        return node

    fx.Graph.create_node = noting
    try:
        with no_stack_traces():
            yield
    finally:
        fx.Graph.create_node = create


def _calling_line(frame: FrameType | None) -> tuple[str, int] | None:
    """File and number of the innermost line in a ``forward`` outside torch; or else in one of torch's layers."""
    of_torch = None
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward":
            if not code.co_filename.startswith(TORCH):
                return code.co_filename, frame.f_lineno
            if of_torch is None and code.co_filename.startswith(LAYERS):
                of_torch = code.co_filename, frame.f_lineno
        frame = frame.f_back
    return of_torch


def place_of(node: fx.Node, model: nn.Module) -> Place:
    """Where an op of a traced graph comes from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    name = stack[-1][0].split("@")[0] if stack else ""
    module = dict(model.named_modules(remove_duplicate=False)).get(name, model)
    file, number = node.meta.get(LINE) or ("", 0)
    text = linecache.getline(file, number).strip()
    return Place(name, type(module).__name__, os.path.basename(file), number, text, str(node.target))


def line_of(node: fx.Node) -> str:
    """The innermost line outside torch that an op of a traced graph comes from, for the end of a reason."""
    file, number = node.meta.get(LINE) or ("", 0)
    if not file or file.startswith(TORCH):
        return ""
    text = linecache.getline(file, number).strip()
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return f" (line '{text}' of {os.path.basename(file)}:{number})"


def find_place(error: BaseException, model: nn.Module) -> Place:
    """The innermost place inside ``model`` that the traceback of ``error``, or of what caused it, went through."""
    names = {id(module): name for name, module in model.named_modules()}
    for cause in _causes(error):
        module, file, number, op = None, "", 0, ""
        for code, line, variables in _frames(cause.__traceback__):
            owner = variables.get("self")
            if id(owner) in names:
                module, op = owner, ""
            if module is not None and not code.co_filename.startswith(TORCH):
                file, number = code.co_filename, line
            if isinstance(variables.get("func"), torch._ops.OpOverload):
                op = str(variables["func"])
        if module is not None:
            text = linecache.getline(file, number).strip()
            return Place(names[id(module)], type(module).__name__, os.path.basename(file), number, text, op)
    return Place()


def _frames(traceback: TracebackType | None) -> Iterator[tuple]:
    while traceback is not None:
        yield traceback.tb_frame.f_code, traceback.tb_lineno, traceback.tb_frame.f_locals
        traceback = traceback.tb_next


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _plain_error(model: nn.Module, example: Tensor) -> Exception | None:
    """What the model raises without tracing, None if it runs; its buffers and the random state stay as they were."""
    before = {key: buffer.clone() for key, buffer in model.named_buffers()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[example.device] if example.is_cuda else []):
            model(example)
    except Exception as error:
        return error
    finally:
        with torch.no_grad():
            for key, buffer in model.named_buffers():
                buffer.copy_(before[key])
    return None


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = text if len(text) < 160 else text.partition(". ")[0]
    return f"{type(error).__name__}: {text}".rstrip(": .")


def _join(place: Place, reason: str) -> str:
    return f"{place}: {reason}" if str(place) else reason
