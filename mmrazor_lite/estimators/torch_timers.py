"""Timers of modules in torch, as they are or compiled, on the CPU and on CUDA."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph.op_chains import POINTWISE

from .op_runs import OpRun

Timer = Callable[[int], float]
Clock = Callable[[], float]
MOST_COMPILED = 4096  # programs of one piece of code: every network of a table is another one


def torch_timer(
    module: nn.Module,
    size: Sequence[int],
    device: str,
    images: int,
    dtype: str | None,
    channels_last: bool,
    compiled: bool,
    clock: Clock,
) -> Timer:
    """A timer of a module on so many random images of ``size`` (C, H, W), see :class:`.measure.Bench`."""
    # What is compiled for the CPU has its maps in this layout, whatever its images have.
    maps_last = channels_last or (compiled and device == "cpu" and isinstance(module, OpRun))
    if dtype is not None or maps_last:  # of a copy: the module stays as it is
        module = module if isinstance(module, OpRun) else copy.deepcopy(module)
        module = module.to(dtype=dtype and getattr(torch, dtype))
        if maps_last:
            _lay_channels_last(module)
    like = next((tensor for tensor in module.parameters() if tensor.is_floating_point()), torch.zeros(()))
    batch = torch.randn((images, *size), generator=torch.Generator().manual_seed(0)).to(like.dtype)
    if channels_last and batch.dim() == 4:
        batch = batch.contiguous(memory_format=torch.channels_last)
    module, batch = module.to(device), batch.to(device)
    run = _compiled(module, batch) if compiled else partial(module, batch)
    return _cuda_timer(run) if device == "cuda" else _cpu_timer(run, clock)


def check_compiler(device: str) -> None:
    """Raise :class:`UserError` where ``torch.compile`` has nothing to compile with."""
    if device == "cpu":
        from torch._inductor import config as inductor  # takes a second

        names = inductor.cpp.cxx if isinstance(inductor.cpp.cxx, (tuple, list)) else (inductor.cpp.cxx,)
        if not any(name and shutil.which(name) for name in names):
            raise UserError("backend 'torch.compile' needs a C++ compiler, such as g++; install one, or take 'torch'")


def _compiled(module: nn.Module, batch: Tensor) -> Callable[[], Any]:
    """A compiled module; of a single op only what is compiled in a network too: other ops call the same kernels."""
    if isinstance(module, OpRun):
        if any(kind not in POINTWISE for kind in module.kind.split(", ")):
            return partial(module, batch)
        run = partial(torch.compile(module.on, dynamic=False), *module.feeds)
    else:
        run = partial(torch.compile(module, dynamic=False), batch)
    limits = {"recompile_limit": MOST_COMPILED, "accumulated_recompile_limit": MOST_COMPILED}
    with torch.inference_mode(), torch._dynamo.config.patch(limits):
        run()
    return run


def _lay_channels_last(module: nn.Module) -> None:
    """In place; ``Module.to`` refuses modules that also hold tensors of five dimensions."""
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def _cpu_timer(run: Callable[[], Any], clock: Clock) -> Timer:
    def timer(runs: int) -> float:
        with torch.inference_mode():
            start = clock()
            for _ in range(runs):
                run()
            return clock() - start

    return timer


def _cuda_timer(run: Callable[[], Any]) -> Timer:
    """By events on the stream that runs the kernels: the queue is empty at the start and at the end."""

    def timer(runs: int) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        with torch.inference_mode():
            torch.cuda.synchronize()
            start.record()
            for _ in range(runs):
                run()
            end.record()
            torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000

    return timer
