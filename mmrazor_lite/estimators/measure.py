"""How long modules take: timers for torch and other runtimes, and rounds whose order spreads drift over all of them.

A timer is called with a number of runs and gives the seconds that they took together.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from mmrazor_lite.errors import UserError

from .runtime_timers import RUNTIMES, check_runtime, runtime_timers
from .torch_timers import check_compiler, torch_timer

Timer = Callable[[int], float]
DEVICES, CLOCKS = ("cpu", "cuda"), ("wall", "cpu")
COMPILED = "torch.compile"
BACKENDS = ("torch", COMPILED, *RUNTIMES)
DTYPES = ("float32", "bfloat16", "float16", "float64")
WARM_UP = 3  # runs before the clock is looked at: memory is allocated, kernels are chosen
MAX_RUNS = 10_000  # of one round
PACE_SIZE, PACE_RUNS = 128, 6  # of the product of matrices that tells how fast the machine is now


class Measures(Protocol):
    """What a table is measured with: a :class:`Bench`, or a clock of another kind.

    Attributes:
        pace: A timer of one thing, always the same, that tells how fast the machine is now; None where it cannot vary.
    """

    pace: Timer | None

    def facts(self) -> dict[str, Any]:
        """What decides about the times, as plain data."""

    def timers(self, modules: Mapping[str, tuple[nn.Module, Sequence[int]]]) -> dict[str, Timer]:
        """A timer of each module on images or maps of its size (C, H, W)."""


class Bench:
    """Makes timers of modules on one device.

    Args:
        device: One of :data:`DEVICES`.
        backend: One of :data:`BACKENDS`; those that are not torch's on the CPU only, in float32.
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
        if backend in RUNTIMES:
            check_runtime(backend)
            if device != "cpu":
                raise UserError(f"backend '{backend}' measures on 'cpu' only; take 'torch' for cuda")
            if dtype not in (None, "float32") or channels_last:
                raise UserError(
                    f"backend '{backend}' measures float32 in its own layout; leave out dtype and channels_last"
                )
        if backend == COMPILED:
            check_compiler(device)
        self.device, self.backend, self.threads, self.batch_size = device, backend, threads, batch_size
        self.dtype, self.channels_last, self.clock = dtype, channels_last, clock
        torch.set_num_threads(threads)

    def facts(self) -> dict[str, Any]:
        """What decides about the times, as plain data: device, its name, backend with version, threads, batch size."""
        return {
            "device": self.device,
            "name": torch.cuda.get_device_name() if self.device == "cuda" else processor(),
            "backend": self.backend,
            "version": version(self.backend) if self.backend in RUNTIMES else str(torch.__version__),
            "threads": self.threads,
            "batch_size": self.batch_size,
            **({} if self.dtype is None else {"dtype": self.dtype}),
            **({"channels_last": True} if self.channels_last else {}),
            **({} if self.clock == "wall" else {"clock": self.clock}),
        }

    @property
    def pace(self) -> Timer | None:
        """A timer of a product of matrices, on the CPU."""
        if self.device != "cpu":
            return None
        matrix = torch.rand((PACE_SIZE, PACE_SIZE), generator=torch.Generator().manual_seed(0))
        return lambda runs: self._seconds(lambda: torch.mm(matrix, matrix), runs * PACE_RUNS)

    def _seconds(self, function: Callable[[], Any], runs: int) -> float:
        start = self._now()
        for _ in range(runs):
            function()
        return self._now() - start

    @property
    def _now(self) -> Callable[[], float]:
        return time.perf_counter if self.clock == "wall" else time.process_time

    def timer(self, module: nn.Module, size: Sequence[int]) -> Timer:
        """A timer of ``module``, in eval mode, on images or maps of ``size`` (C, H, W)."""
        return self.timers({"": (module, size)})[""]

    def timers(self, modules: Mapping[str, tuple[nn.Module, Sequence[int]]]) -> dict[str, Timer]:
        """A timer of each module, in eval mode, on images or maps of its size (C, H, W)."""
        for module, _ in modules.values():
            module.eval()
        if self.backend in RUNTIMES:
            return runtime_timers(modules, self.backend, self.batch_size, self.threads, self._now)
        settings = (self.device, self.batch_size, self.dtype, self.channels_last, self.backend == COMPILED, self._now)
        return {key: torch_timer(module, size, *settings) for key, (module, size) in modules.items()}


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


def interleaved(
    timers: Mapping[str, Timer], repeats: int, min_seconds: float, rng: np.random.Generator
) -> dict[str, list[float]]:
    """Times of one run of each timer, in milliseconds: ``repeats`` each, in rounds of a new random order.

    A round runs a timer as often as it takes to fill ``min_seconds``, so that the clock's own steps do not matter; what
    slows the machine down for a while meets some repeats of many timers instead of all repeats of one.
    """
    names, runs = list(timers), calibrated(timers, min_seconds)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for index in rng.permutation(len(names)).tolist():
            name = names[index]
            found[name].append(timers[name](runs[name]) / runs[name] * 1000)
    return found


def calibrated(timers: Mapping[str, Timer], min_seconds: float) -> dict[str, int]:
    """How often each timer has to run to fill ``min_seconds``, after a warm-up."""
    runs = {}
    for name, timer in timers.items():
        timer(WARM_UP)
        once = max(timer(WARM_UP) / WARM_UP, 1e-9)
        runs[name] = min(max(1, round(min_seconds / once)), MAX_RUNS)
    return runs


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
