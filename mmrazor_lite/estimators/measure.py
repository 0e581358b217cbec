"""How long modules take: timers for torch and ONNX Runtime, and rounds in an order that spreads drift over all of them.

A timer is called with a number of runs and gives the seconds that they took together.
"""

from __future__ import annotations

import copy
import itertools
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError

Timer = Callable[[int], float]
DEVICES, BACKENDS, CLOCKS = ("cpu", "cuda"), ("torch", "onnxruntime"), ("wall", "cpu")
DTYPES = ("float32", "bfloat16", "float16", "float64")
WARM_UP = 3  # runs before the clock is looked at: memory is allocated, kernels are chosen
MAX_RUNS = 10_000  # of one round


class Bench:
    """Makes timers of modules on one device.

    Args:
        device: One of :data:`DEVICES`.
        backend: One of :data:`BACKENDS`; ONNX Runtime on the CPU only.
        threads: That compute on the CPU, set for the whole process.
        batch_size: Images per run.
        dtype: ``'float32'``, ``'bfloat16'`` ...; None for that of each module.
        channels_last: Whether maps and kernels lie in that order.
        clock: ``'wall'``, or ``'cpu'``: how long this process has computed, which other work on the machine changes
            less; of one thread on the CPU.

    Raises:
        UserError: An unknown name, a number below 1, no CUDA, a package that is missing.
    """

    def __init__(
        self,
        device: str = "cpu",
        backend: str = "torch",
        threads: int | None = None,
        batch_size: int = 1,
        dtype: str | None = None,
        channels_last: bool = False,
        clock: str = "wall",
    ) -> None:
        threads = torch.get_num_threads() if threads is None else threads
        for name, value in (("threads", threads), ("batch_size", batch_size)):
            if type(value) is not int or value < 1:
                raise UserError(f"{name}={value!r} must be a whole number, 1 or more")
        settings = (("device", device, DEVICES), ("backend", backend, BACKENDS), ("clock", clock, CLOCKS))
        for name, value, known in (*settings, ("dtype", dtype or DTYPES[0], DTYPES)):
            if value not in known:
                raise UserError(f"{name}={value!r} is unknown (allowed: {', '.join(known)})")
        if clock == "cpu" and (device != "cpu" or threads != 1):
            raise UserError("clock='cpu' counts what one thread of the CPU computes; give device='cpu' and threads=1")
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("device 'cuda': this machine has no GPU that torch can use; measure with 'cpu'")
        if backend == "onnxruntime":
            _onnxruntime()
            if device != "cpu":
                raise UserError("backend 'onnxruntime' measures on 'cpu' only; take 'torch' for cuda")
            if dtype not in (None, "float32") or channels_last:
                raise UserError(
                    "backend 'onnxruntime' measures float32 in its own layout; leave out dtype and channels_last"
                )
        self.device, self.backend, self.threads, self.batch_size = device, backend, threads, batch_size
        self.dtype, self.channels_last, self.clock = dtype, channels_last, clock
        torch.set_num_threads(threads)

    def facts(self) -> dict[str, Any]:
        """What decides about the times, as plain data: device, its name, backend with version, threads, batch size."""
        version = torch.__version__ if self.backend == "torch" else _onnxruntime().__version__
        return {
            "device": self.device,
            "name": torch.cuda.get_device_name() if self.device == "cuda" else processor(),
            "backend": self.backend,
            "version": str(version),
            "threads": self.threads,
            "batch_size": self.batch_size,
            **({} if self.dtype is None else {"dtype": self.dtype}),
            **({"channels_last": True} if self.channels_last else {}),
            **({} if self.clock == "wall" else {"clock": self.clock}),
        }

    def timer(self, module: nn.Module, size: Sequence[int]) -> Timer:
        """A timer of ``module``, in eval mode, on images or maps of ``size`` (C, H, W)."""
        module = module.eval()
        if self.dtype is not None or self.channels_last:  # of a copy: the module stays as it is
            module = copy.deepcopy(module).to(dtype=self.dtype and getattr(torch, self.dtype))
            if self.channels_last:
                _lay_channels_last(module)
        like = next((tensor for tensor in module.parameters() if tensor.is_floating_point()), torch.zeros(()))
        images = torch.randn((self.batch_size, *size), generator=torch.Generator().manual_seed(0)).to(like.dtype)
        if self.backend == "onnxruntime":
            return _onnx_timer(module, images, self.threads)
        if self.channels_last and images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        module, images = module.to(self.device), images.to(self.device)
        if self.device == "cuda":
            return _cuda_timer(module, images)
        return _cpu_timer(module, images, time.perf_counter if self.clock == "wall" else time.process_time)


@contextmanager
def threads_kept(threads: int | None = None) -> Iterator[None]:
    """Within it the CPU computes with so many threads, or as many as a bench sets; after it with as many as before."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def _lay_channels_last(module: nn.Module) -> None:
    """In place; ``Module.to`` refuses modules that also hold tensors of five dimensions."""
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def _cpu_timer(module: nn.Module, images: Tensor, clock: Callable[[], float]) -> Timer:
    def timer(runs: int) -> float:
        with torch.inference_mode():
            start = clock()
            for _ in range(runs):
                module(images)
            return clock() - start

    return timer


def _cuda_timer(module: nn.Module, images: Tensor) -> Timer:
    """By events on the stream that runs the kernels: the queue is empty at the start and at the end."""

    def timer(runs: int) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        with torch.inference_mode():
            torch.cuda.synchronize()
            start.record()
            for _ in range(runs):
                module(images)
            end.record()
            torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000

    return timer


def _onnx_timer(module: nn.Module, images: Tensor, threads: int) -> Timer:
    session = _session(module, images, threads)
    feed = {session.get_inputs()[0].name: images.numpy()}

    def timer(runs: int) -> float:
        start = time.perf_counter()
        for _ in range(runs):
            session.run(None, feed)
        return time.perf_counter() - start

    return timer


def _session(module: nn.Module, images: Tensor, threads: int) -> Any:
    """An ONNX Runtime session of ``module`` with all optimisations, for inputs of the shape of ``images``."""
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "part.onnx")
        torch.onnx.export(module.cpu(), (images,), path, dynamo=False)
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"backend 'onnxruntime' needs the package '{error.name}': pip install 'mmrazor_lite[onnx]'"
        ) from None
    return onnxruntime


def interleaved(
    timers: Mapping[str, Timer], repeats: int, min_seconds: float, rng: np.random.Generator
) -> dict[str, list[float]]:
    """Times of one run of each timer, in milliseconds: ``repeats`` each, in rounds of a new random order.

    A round runs a timer as often as it takes to fill ``min_seconds``, so that the clock's own steps do not matter; what
    slows the machine down for a while meets some repeats of many timers instead of all repeats of one.
    """
    names, runs = list(timers), {}
    for name in names:
        timers[name](WARM_UP)
        once = max(timers[name](WARM_UP) / WARM_UP, 1e-9)
        runs[name] = min(max(1, round(min_seconds / once)), MAX_RUNS)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for index in rng.permutation(len(names)).tolist():
            name = names[index]
            found[name].append(timers[name](runs[name]) / runs[name] * 1000)
    return found


def spread(times: Sequence[float]) -> float:
    """How far repeats lie apart: the distance of the quartiles, as a share of the median."""
    low, middle, high = np.percentile(times, [25, 50, 75])
    return float((high - low) / middle) if middle else 0.0


def processor() -> str:
    """The name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
