"""Work that halts: it goes on from where it was, as the one who asks has set torch, and ends when it is let go."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch.overrides import handle_torch_function, has_torch_function

from mmrazor_lite.slimming.halting import AskedOps, Halting


def test_values_come_one_by_one_and_then_nothing():
    done = []

    def work(halt: Callable) -> None:
        for value in range(3):
            halt(value)
            done.append(value)

    halting = Halting(work)
    assert done == []
    assert [halting.next() for _ in range(3)] == [0, 1, 2] and done == [0, 1]
    assert halting.next() is None and halting.next() is None and done == [0, 1, 2]
    halting.close()


def test_what_torch_keeps_for_a_thread_is_as_it_is_where_the_work_is_made():
    def work(halt: Callable) -> None:
        halt((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.zeros(()).device.type))

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        inside = Halting(work)
    outside = Halting(work)
    assert inside.next() == (False, True, "meta") and outside.next() == (True, False, "cpu")
    inside.close()
    outside.close()


@pytest.mark.parametrize("halts", [0, 1])
def test_closing_ends_it_where_it_is(halts):
    ended, before = [], threading.active_count()

    def work(halt: Callable) -> None:
        try:
            halt(1)
            halt(2)
        finally:
            ended.append(True)

    halting = Halting(work)
    for _ in range(halts):
        halting.next()
    halting.close()
    assert threading.active_count() == before and ended == [True] * halts


def test_its_error_is_raised_where_it_is_asked():
    def work(halt: Callable) -> None:
        raise ValueError("of the work")

    halting = Halting(work)
    with pytest.raises(ValueError, match="of the work"):
        halting.next()
    assert halting.next() is None
    halting.close()


def thread_of(x: torch.Tensor) -> int:
    """An op that tells which thread runs it."""
    if has_torch_function((x,)):
        return handle_torch_function(thread_of, (x,), x)
    return threading.get_ident()


def test_ops_run_in_the_thread_that_asks_but_for_changed_settings():
    def work(halt: Callable) -> None:
        x = torch.zeros(2)
        with AskedOps(halting):
            halt(thread_of(x))
            with torch.enable_grad():
                halt(thread_of(x))
            with pytest.raises(RuntimeError, match="shape"):
                x.reshape(3)
            try:
                halt(0)
            finally:
                ended.append(thread_of(x + 1))

    ended: list[int] = []
    with torch.no_grad():
        halting = Halting(work)
        assert halting.next() == threading.get_ident()
        assert halting.next() not in (threading.get_ident(), None)
        assert halting.next() == 0
        halting.close()
    assert ended and ended[0] != threading.get_ident(), "nobody waits any more"
