"""Runs jobs, several at a time; a process takes a few of one kind, and so reads the images once for all of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._jobs import start
from benchmarks.claims.job import Job, Jobs

ELSEWHERE = 75  # exit status of a job whose folder another process holds
ENDED = 143  # of one that was interrupted or terminated
TOGETHER = 4  # jobs of a process: to start it and to read the images takes 15 s


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
    _running: dict[tuple[str, ...], tuple[subprocess.Popen, float]] = field(default_factory=dict)

    def run(self, names: Sequence[str]) -> int:
        """Run them, and what they need; the number of those that failed. An interruption ends the processes too."""
        todo = self.jobs.todo(names)
        print(f"{len(names)} jobs, {len(names) - sum(name in todo for name in names)} done before", flush=True)
        todo = todo[: self.most]
        try:
            while todo or self._running:
                while len(self._running) < self.at_once and (names := self._next(todo)):
                    todo = [name for name in todo if name not in names]
                    self._running[names] = self._start(names), time.monotonic()
                if not self._running:  # what is left waits for what failed, or is behind the last one allowed
                    print(f"left: {', '.join(todo)}", flush=True)
                    break
                time.sleep(0.2)
                todo = [*self._reap(), *todo]
        finally:
            for process, _ in self._running.values():
                process.terminate()
            for process, _ in self._running.values():
                process.wait()
        return len(self.failed)

    def _next(self, todo: Sequence[str]) -> tuple[str, ...]:
        """The first job whose needs are there, and those of its kind behind it, as many as a process takes.

        No more than leaves something to the other processes.
        """
        ready = [name for name in todo if self._is_ready(self.jobs.jobs[name])]
        alike = [name for name in ready if self._kind(name) == self._kind(ready[0])]
        return tuple(alike[: min(TOGETHER, -(-len(alike) // self.at_once))])

    def _is_ready(self, job: Job) -> bool:
        reads = all(self.jobs.done(other) and self.jobs.here(other) for other in job.reads)
        return reads and all(map(self.jobs.done, job.needs))

    def _kind(self, name: str) -> tuple[str, str]:
        return self.jobs.jobs[name].claim, self.jobs.jobs[name].config

    def _start(self, names: Sequence[str]) -> subprocess.Popen:
        command = [sys.executable, "-m", "benchmarks.claims", "--do", *names, *self.words]
        print(f"{', '.join(names)}: started", flush=True)
        return start(command, self._log(names), threads=1)

    def _log(self, names: Sequence[str]) -> Path:
        return self.jobs.work / "logs" / f"{names[0]}.log"

    def _reap(self) -> list[str]:
        """Tell what ended; return the jobs that a process did not come to."""
        left = []
        for names, (process, began) in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[names]
            seconds = f"{time.monotonic() - began:.0f} s"
            missing = [name for name in names if not self.jobs.done(name)] if code else []
            done = [name for name in names if name not in missing]
            if done:
                print(f"{', '.join(done)}: done, {seconds}", flush=True)
            if not missing:
                continue
            last, *others = missing
            told = {ELSEWHERE: "is run by another process", ENDED: "ended before its time"}.get(code, "FAILED")
            self.failed += [last] * (told == "FAILED")
            hint = f", see {self._log(names)}" if told == "FAILED" else ""
            print(f"{last}: {told}, {seconds}{hint}", flush=True)
            left += others if told != "ended before its time" else []
        return left
