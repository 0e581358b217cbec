"""What a long step says of itself: one line that changes on a terminal, few lines in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mmrazor_lite.engine import progress
from mmrazor_lite.engine.progress import CALM_SECONDS, StepProgress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as they are told to."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def said(monkeypatch):
    """The lines of the log."""
    lines: list[str] = []
    monkeypatch.setattr(progress, "print_log", lambda text, logger: lines.append(text))
    return lines


def test_a_log_gets_a_line_in_half_a_minute(clock, said):
    with StepProgress("search") as shown:
        for done in range(1, 1001):
            clock[0] += 1.0
            shown.inside(done, 1000, 70 + done / 100)
    assert len(said) == 1000 // CALM_SECONDS
    assert said[0] == "search: 30 of 1,000 subnets scored, best 70.3 (0:16:10 left)"
    assert said[-1].startswith("search: 990 of 1,000 subnets scored, best 79.9 (0:00:10 left)")


def test_what_was_known_took_no_time(clock, said):
    shown = StepProgress("search")
    clock[0] += 40
    shown.inside(520, 600, 71.0, known=500)
    assert said == ["search: 520 of 600 subnets scored, best 71 (0:02:40 left)"]


def test_short_steps_say_nothing_and_others_are_quiet(clock, said):
    shown, other = StepProgress("search"), StepProgress("search", quiet=True)
    for number in range(1, 11):
        for done in range(5):
            clock[0] += 5
            shown.inside(done + 1, 5, 1.0)
            other.inside(done + 1, 5, 1.0)
        shown.update(number / 10, f"step {number}")
        other.update(number / 10, f"step {number}")
    assert said == [f"search: step {n} ({n * 10}%, 0:{(10 - n) * 25 // 60:02}:{(10 - n) * 25 % 60:02} left)"
                    for n in range(1, 11)]  # fmt: skip


def test_a_terminal_shows_every_subnet_in_one_line(clock, said, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=out, force_terminal=True, width=160))
    with StepProgress("search") as shown:
        for done in range(1, 4):
            clock[0] += 2.0
            shown.inside(done, 4, 70.5)
            shown._bar.refresh()
    text = out.getvalue()
    assert not said and text.count("\n") <= 2
    for done in (1, 2, 3):
        assert f"search: {done} of 4 subnets scored, best 70.5" in text and f"0:00:0{2 * (4 - done)} left" in text
