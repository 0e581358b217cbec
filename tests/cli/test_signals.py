"""Signals that end a command, wherever they fall."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from mmrazor_lite.cli import signals


class Going:
    """Python drops what is raised while an object goes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)
        time.sleep(0)


@pytest.fixture
def interruptible():
    """A shell lets what it starts in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_python_drops_is_raised_again(number, interruptible):
    hook, before = sys.unraisablehook, signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), signals.raised() as ended:
        Going(number)
        for _ in range(100):
            time.sleep(0.01)
        pytest.fail("the run goes on")
    assert ended == [number] * (number == signal.SIGTERM)
    assert sys.unraisablehook is hook and signal.getsignal(signal.SIGTERM) is before


def test_other_errors_that_python_drops_are_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Fails:
        def __del__(self) -> None:
            raise ValueError("gone")

    with signals.raised():
        Fails()
    assert [about.exc_type for about in told] == [ValueError]
