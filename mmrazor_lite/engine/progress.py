"""How far a long task is and when it will be done: a bar on a terminal, one log line per step elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType

from mmengine.logging import print_log
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

CALM_SECONDS = 30.0  # between two lines of a log about one step


class StepProgress:
    """A context manager; :meth:`update` after every step, :meth:`inside` within one that takes long.

    Args:
        title: Beginning of the line.
        start: The part (0 to 1) that was done before, by the run that this one resumes.
        quiet: Show nothing; for all processes but the first.
    """

    def __init__(self, title: str, start: float = 0.0, quiet: bool = False) -> None:
        self.title = title
        self._start, self._quiet = start, quiet
        self._began = self._step_began = self._said = time.monotonic()
        console = Console()
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            columns = (
                TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
            )  # fmt: skip
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(title, total=1.0, completed=start, left="")

    def __enter__(self) -> StepProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, text: str) -> None:
        """Show that the part ``done`` (0 to 1) is behind us, and ``text``."""
        self._step_began = self._said = time.monotonic()
        if self._quiet:
            return
        left = f"{self._time_left(done)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=f"{self.title}: {text}", left=left)
        else:
            print_log(f"{self.title}: {text} ({done:.0%}, {left})", logger="current")

    @property
    def is_due(self) -> bool:
        """Whether :meth:`within` would show something now."""
        return not self._quiet and (self._bar is not None or time.monotonic() - self._said >= CALM_SECONDS)

    def within(self, done: float, text: str) -> None:
        """As :meth:`update`, for steps that take no time: a log gets a line every :data:`CALM_SECONDS`."""
        if self.is_due:
            self.update(done, text)

    def inside(self, done: int, total: int, best: float, known: int = 0) -> None:
        """Show that ``done`` of the ``total`` subnets of this step are scored, the best of them ``best``.

        On a terminal the line changes; a log gets a line every :data:`CALM_SECONDS`. ``known`` of them took no time.
        """
        if not self.is_due:
            return
        now = self._said = time.monotonic()
        seconds = (now - self._step_began) * (total - done) / max(1, done - known)
        left = f"{timedelta(seconds=round(seconds))} left"
        text = f"{done:,} of {total:,} subnets scored, best {best:.6g}"
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self.title}: {text}", left=left)
        else:
            print_log(f"{self.title}: {text} ({left})", logger="current")

    def _time_left(self, done: float) -> str:
        gained = done - self._start
        if gained <= 0:
            return "?"
        seconds = (time.monotonic() - self._began) * (1 - done) / gained
        return str(timedelta(seconds=round(seconds)))
