"""Runs jobs, several at a time, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks._jobs import start
from benchmarks.claims.job import Jobs

ELSEWHERE = 75  # exit status of a job whose folder another process holds
ENDED = 143  # of one that was interrupted or terminated


@dataclass
class Runner:
    """Runs what is to do of some jobs.

    Args:
        jobs: All of the study.
        words: Options of the command line that a process of a job gets too.
        at_once: Jobs at a time.
        most: Jobs in all; None for all that are to do.
    """

    jobs: Jobs
    words: Sequence[str]
    at_once: int = 1
    most: int | None = None
    failed: list[str] = field(default_factory=list)
    _running: dict[str, tuple[subprocess.Popen, float]] = field(default_factory=dict)

    def run(self, names: Sequence[str]) -> int:
        """Run them, and what they need; the number of those that failed. An interruption ends the processes too."""
        todo = self.jobs.todo(names)
        print(f"{len(names)} jobs, {len(names) - sum(name in todo for name in names)} done before", flush=True)
        todo = todo[: self.most]
        try:
            while todo or self._running:
                while len(self._running) < self.at_once and (name := self._next(todo)) is not None:
                    todo.remove(name)
                    self._running[name] = self._start(name), time.monotonic()
                if not self._running:  # what is left waits for what failed, or is behind the last one allowed
                    print(f"left: {', '.join(todo)}", flush=True)
                    break
                time.sleep(0.2)
                self._reap()
        finally:
            for process, _ in self._running.values():
                process.terminate()
            for process, _ in self._running.values():
                process.wait()
        return len(self.failed)

    def _next(self, todo: Sequence[str]) -> str | None:
        """The first job whose needs are there."""
        for name in todo:
            job = self.jobs.jobs[name]
            ready = all(map(self.jobs.done, job.needs))
            if ready and all(self.jobs.done(other) and self.jobs.here(other) for other in job.reads):
                return name
        return None

    def _start(self, name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "benchmarks.claims", "--do", name, *self.words]
        print(f"{name}: started", flush=True)
        return start(command, self.jobs.work / "logs" / f"{name}.log", threads=1)

    def _reap(self) -> None:
        for name, (process, began) in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[name]
            told = {0: "done", ELSEWHERE: "is run by another process", ENDED: "ended before its time"}.get(
                code, "FAILED"
            )
            self.failed += [name] * (told == "FAILED")
            hint = f", see {self.jobs.work / 'logs' / f'{name}.log'}" if told == "FAILED" else ""
            print(f"{name}: {told}, {time.monotonic() - began:.0f} s{hint}", flush=True)
