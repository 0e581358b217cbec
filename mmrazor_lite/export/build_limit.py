"""A limit on what a constructor makes and takes: a config of a few bytes may ask for any number of layers of any size.

Not all of it is tensors: some networks make tables of positions in loops of Python, whose length is the square of what
the config says. So time and memory are limited too. What a constructor imports is the library's and no fault of the
file, and takes longer than any network: that time does not count.
"""

from __future__ import annotations

import inspect
import math
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from mmrazor_lite.errors import UserError

_BY_SIZE = ("empty", "zeros", "ones", "rand", "randn")
MAX_CALLS = 300_000  # an initialised layer takes some ten
SECONDS, PER_SECOND = 1.5, 4e6  # of this process at work; weights beside it that allow one more
_TICK = 0.05  # seconds of work between two looks at the clock
_MEMORY = 4 << 30  # bytes that a constructor may take, but for its weights
_PAGE = resource.getpagesize()
_FREE = 1 << 22  # elements of one tensor that are no parameter: tables of positions and the like


@contextmanager
def bounded(modules: int, elements: int, what: str, seconds: float = SECONDS) -> Iterator[None]:
    """Refuse to build more than so many modules, or parameters of more than so many elements, inside the block.

    Args:
        modules: How many.
        elements: Of all parameters together, and of any tensor that is made.
        what: Begins the error.
        seconds: That the processors may work for it, but for imports; a limit in the main thread only, where signals
            arrive.

    Raises:
        UserError: Inside the block, as soon as it is more.
    """
    count = {"modules": 0, "elements": 0}

    def refuse(found: str) -> None:
        raise UserError(f"{what} makes {found}, far more than the weights beside it are of")

    def on_module(parent: nn.Module, name: str, child: nn.Module | None) -> None:
        count["modules"] += 1
        if count["modules"] > modules:
            refuse(f"more than {modules:,} layers")

    def on_parameter(parent: nn.Module, name: str, parameter: Tensor | None) -> None:
        count["elements"] += 0 if parameter is None else parameter.numel()
        if count["elements"] > elements:
            refuse(f"more than {elements:,} weights")

    handles = [
        registration.register_module_module_registration_hook(on_module),
        registration.register_module_parameter_registration_hook(on_parameter),
    ]
    try:
        with _Sizes(max(elements, _FREE), refuse), _in_memory(_MEMORY + 16 * elements), _in_time(seconds, what):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _in_time(seconds: float, what: str) -> Iterator[None]:
    """Raise :class:`UserError` in the block after so many seconds of work outside imports, and again every second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    worked, outside = 0.0, _imports(inspect.currentframe())

    def tick(number: int, frame: FrameType | None) -> None:
        nonlocal worked
        if _imports(frame) > outside:
            return
        worked += _TICK
        if worked >= seconds:
            signal.setitimer(signal.ITIMER_VIRTUAL, 1.0, 1.0)
            raise UserError(
                f"{what} takes more than {seconds:.3g} s to build, far more than the weights beside it are of; where "
                "it may, give the module of full size: load_subnet(path, architecture=...)"
            )

    before = signal.signal(signal.SIGVTALRM, tick)
    rest = signal.setitimer(signal.ITIMER_VIRTUAL, _TICK, _TICK)
    try:
        yield
    finally:
        # A tick that another thread has met may come after the end, and by default it would end the process.
        signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_VIRTUAL, *rest)
        if before not in (None, signal.SIG_DFL):
            signal.signal(signal.SIGVTALRM, before)


def _imports(frame: FrameType | None) -> int:
    """How many frames of imports that frame is in."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        frame = frame.f_back
    return count


@contextmanager
def _in_memory(most: int) -> Iterator[None]:
    """Let this process take so many bytes more in the block; what asks for more gets a ``MemoryError``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE + most
    except OSError:  # a system that does not say what it has
        yield
        return
    ends = [end for end in (soft, hard, limit) if end != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(ends), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Sizes(TorchFunctionMode):
    """Looks at the size of every tensor before it is made."""

    def __init__(self, elements: int, refuse: Callable[[str], None]) -> None:
        super().__init__()
        self._elements, self._refuse = elements, refuse
        self._calls = 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        size = _size(getattr(func, "__name__", ""), args, kwargs)
        self._calls += 1
        if size > self._elements:
            self._refuse(f"a tensor of {size:,.0f} numbers")
        if self._calls > MAX_CALLS:
            self._refuse(f"more than {MAX_CALLS:,} calls of torch")
        return func(*args, **kwargs)


def _size(name: str, args: tuple, kwargs: dict) -> float:
    """Elements that a call will make, as far as its arguments are plain numbers; 0 where they do not say."""
    if name in _BY_SIZE or name == "full":
        size = kwargs.get("size", args[0] if name == "full" or (args and not isinstance(args[0], int)) else args)
        return math.prod(size) if isinstance(size, (list, tuple, torch.Size)) and _are_numbers(size) else 0
    if name in ("arange", "linspace", "eye") and _are_numbers(args):
        if name == "linspace":
            return kwargs.get("steps", args[2] if len(args) > 2 else 0)
        if name == "eye":
            return math.prod(args) * (args[0] if len(args) == 1 else 1)
        start, end = (0, args[0]) if len(args) == 1 else args[:2] if len(args) > 1 else (0, 0)
        return abs(end - start) / (abs(args[2]) if len(args) > 2 and args[2] else 1)
    return 0


def _are_numbers(values: Any) -> bool:
    return all(isinstance(value, (int, float)) for value in values)
