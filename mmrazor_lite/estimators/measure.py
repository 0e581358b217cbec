"""How long modules take: a bench makes timers of them, in torch and other runtimes, and knows the machine's pace."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from mmrazor_lite.errors import UserError

from .runtime_timers import RUNTIMES, check_runtime, runtime_timers
from .steady_rounds import Pace, Timer
from .torch_timers import check_compiler, torch_timer

DEVICES = ("cpu", "cuda")
COMPILED = "torch.compile"
BACKENDS = ("torch", COMPILED, *RUNTIMES)
DTYPES = ("float32", "bfloat16", "float16", "float64")
CLOCK = {"wall": time.perf_counter, "cpu": time.process_time}
PACE_SIZE, PACE_RUNS = 128, 6  # of the product of matrices that tells how fast the machine is now
PACE_WARM = 3  # of these runs before that, so that what ran before has no part in it: caches were full of other things
_PACES: dict[tuple[int, str], Pace] = {}  # by threads and clock: all of a process know the same full speed


class Measures(Protocol):
    """What a table is measured with: a :class:`Bench`, or a clock of another kind.

    Attributes:
        pace: Tells how fast the machine is now; None where that cannot vary.
    """

    pace: Pace | None

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
        settings = (("device", device, DEVICES), ("backend", backend, BACKENDS), ("clock", clock, CLOCK))
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
        self.pace = machine_pace(threads, clock) if device == "cpu" else None
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

    def timer(self, module: nn.Module, size: Sequence[int]) -> Timer:
        """A timer of ``module``, in eval mode, on images or maps of ``size`` (C, H, W)."""
        return self.timers({"": (module, size)})[""]

    def timers(self, modules: Mapping[str, tuple[nn.Module, Sequence[int]]]) -> dict[str, Timer]:
        """A timer of each module, in eval mode, on images or maps of its size (C, H, W)."""
        for module, _ in modules.values():
            module.eval()
        if self.backend in RUNTIMES:
            return runtime_timers(modules, self.backend, self.batch_size, self.threads, CLOCK[self.clock])
        settings = (self.device, self.batch_size, self.dtype, self.channels_last, self.backend == COMPILED)
        now = CLOCK[self.clock]
        return {key: torch_timer(module, size, *settings, now) for key, (module, size) in modules.items()}


def machine_pace(threads: int, clock: str = "wall") -> Pace:
    """The pace of this machine, by a product of matrices on the CPU; one for the whole process.

    Args:
        threads: That compute; whoever measures sets as many.
        clock: One of :data:`CLOCK`.
    """
    if (threads, clock) not in _PACES:
        matrix = torch.rand((PACE_SIZE, PACE_SIZE), generator=torch.Generator().manual_seed(0))
        now = CLOCK[clock]

        product = torch.empty_like(matrix)

        def timer(runs: int) -> float:
            for _ in range(PACE_WARM):
                torch.mm(matrix, matrix, out=product)
            start = now()
            for _ in range(runs * PACE_RUNS):
                torch.mm(matrix, matrix, out=product)
            return now() - start

        # Other threads of a runtime wait for each other, which is no sign of another process.
        clocks = (CLOCK["wall"], CLOCK["cpu"]) if threads == 1 and clock == "wall" else None
        _PACES[threads, clock] = Pace(timer, clocks)
    return _PACES[threads, clock]


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


def processor() -> str:
    """The name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
