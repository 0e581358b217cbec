"""Work that halts and goes on: a thread of its own, in turns with whoever waits for its next halt."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


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
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._value

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


class _Settings:
    """What torch keeps for each thread apart, as it is where this is made: gradients, autocast, the default device."""

    def __init__(self, device_type: str) -> None:
        self._grad, self._device = torch.is_grad_enabled(), torch.get_default_device()
        self._autocast = {
            kind: (torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in {"cpu", device_type}
        }

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with torch.set_grad_enabled(self._grad), ExitStack() as stack:
            for kind, (dtype, enabled) in self._autocast.items():
                if enabled:
                    stack.enter_context(torch.autocast(kind, dtype))
            if self._device != torch.get_default_device():
                stack.enter_context(self._device)
            yield
