"""Work that halts and goes on: a thread of its own, in turns with whoever waits for its next halt."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

T = TypeVar("T")
FACTS = frozenset("__get__ untyped_storage data_ptr size dim numel stride is_contiguous".split())  # they make nothing


class Closed(BaseException):
    """Raised in work that halts and is not to go on."""


class Halting(Generic[T]):
    """What runs up to where it hands over a value, waits there, and goes on from there when asked.

    Unlike a generator it may hand over from deep inside of calls, as the forward of a network is.

    Args:
        work: Called with a function that hands over a value and returns when the work is to go on.
        device_type: Of the tensors; what torch keeps for each thread apart is as it is where this is made.
    """

    def __init__(self, work: Callable[[Callable[[T], None]], None], device_type: str = "cpu") -> None:
        self._work, self._settings = work, _Settings(device_type)
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._value: T | None = None
        self._asked: Callable[[], Any] | None = None
        self._answer: tuple[Any, BaseException | None] = (None, None)
        self._error: BaseException | None = None
        self._ended = self._closing = False
        # a daemon: where nobody closes it, it does not keep the program from its end
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run,), daemon=True)
        self._thread.start()

    def next(self) -> T | None:
        """What is handed over next, None at the end; an error of the work is raised here."""
        if self._ended:
            return None
        self._value = None
        self._go.release()
        self._back.acquire()
        while self._asked is not None:
            self._run_asked()
            self._go.release()
            self._back.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._value

    def ask(self, function: Callable[[], Any]) -> Any:
        """Of the work: what a function gives that the thread runs which waits for the next value."""
        if self._closing:  # nobody waits for one
            return function()
        self._asked = function
        del function
        self._back.release()
        self._go.acquire()
        if self._closing:
            raise Closed
        (result, error), self._answer = self._answer, (None, None)
        if error is not None:
            raise error
        return result

    def _run_asked(self) -> None:
        function, self._asked = self._asked, None
        try:
            self._answer = function(), None
        except BaseException as error:
            self._answer = None, error

    def close(self) -> None:
        """Let it go from where it is, and whatever it holds."""
        self._closing = True
        self._go.release()
        self._thread.join()
        self._value = None

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._closing:
                with self._settings():
                    self._work(self._halt)
        except Closed:
            pass
        except BaseException as error:
            self._error = error
        self._ended = True
        self._back.release()

    def _halt(self, value: T) -> None:
        self._value = value
        self._back.release()
        self._go.acquire()
        if self._closing:
            raise Closed


class AskedOps(TorchFunctionMode):
    """Has the ops of some work run by the thread that waits for it: an allocator keeps the memory of threads apart.

    What it keeps of one is of no use to another, and with many threads that is more than the work itself holds. Where
    settings of the thread were changed on the way, and what reads no tensor, as what changes them, runs where it is.
    """

    def __init__(self, halting: Halting) -> None:
        super().__init__()
        self._halting, self._before = halting, _here()

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        is_fact = getattr(func, "__name__", "") in FACTS
        if is_fact or not _holds_tensor((*args, *kwargs.values())) or _here() != self._before:
            return func(*args, **kwargs)
        op = partial(func, *args, **kwargs)
        del args, kwargs
        return self._halting.ask(op)


def _holds_tensor(values: Iterable) -> bool:
    return any(
        isinstance(value, Tensor) or (isinstance(value, (tuple, list)) and _holds_tensor(value)) for value in values
    )


def _here() -> tuple:
    """What torch keeps for each thread apart and an op on the processor depends on."""
    autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast


def _default_device() -> torch.device:
    """Asked of a tensor: torch 2.6 does not tell that of ``with torch.device(...)``."""
    return torch.empty(0).device


class _Settings:
    """What torch keeps for each thread apart, as it is where this is made: gradients, autocast, the default device."""

    def __init__(self, device_type: str) -> None:
        self._grad, self._device = torch.is_grad_enabled(), _default_device()
        self._autocast = {
            kind: (torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in {"cpu", device_type}
        }

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with torch.set_grad_enabled(self._grad), ExitStack() as stack:
            for kind, (dtype, enabled) in self._autocast.items():
                if enabled:
                    stack.enter_context(torch.autocast(kind, dtype))
            if self._device != _default_device():
                stack.enter_context(self._device)
            yield
