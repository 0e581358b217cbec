"""Mutations: one line of the package is changed, and the tests named for it must fail. Run by ``make mutants``.

``mutants.yaml`` lists them: ``file``, ``old`` (a text that is there exactly once), ``new``, ``tests`` (what pytest is
given), and ``survives``, the reason, where a change is known to make no difference. Each mutation is made in a copy of
the tree and tested by a process of its own, see :func:`judge`; one that runs out of time counts as killed. The tests
that kill must pass on the copy as it is: a test that fails anyway kills nothing.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import yaml
from code_exchange import exchange

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".yaml")
LIMIT = 120.0  # seconds that the tests of one mutation compute
WAIT = 5  # times as long they may take, on a machine that does other work
# Processes are forked from one that has imported what is not mutated and takes seconds.
PRELOADED = ("torch.export", "torch._dynamo", "mmpretrain.models", "hypothesis", "scipy.stats", "pytest")
WORDS = ("-x", "-q", "--no-header", "-p", "no:cacheprovider")
PROCESSES = multiprocessing.get_context("forkserver")
KILLED, SURVIVED, OUT_OF_TIME = "killed", "survived", "out of time"


class MutantError(Exception):
    """The list, or the tests it names, cannot be used as they are."""


@dataclass(frozen=True)
class Mutation:
    """One line to change, and the tests that should notice."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.old.strip()!r} -> {self.new.strip()!r}"

    def apply(self, root: Path) -> str:
        """The changed text of its file.

        Raises:
            MutantError: The file is not there, or does not hold the old text exactly once; says which files do.
        """
        path = root / self.file
        text = path.read_text() if path.exists() else ""
        if text.count(self.old) == 1:
            return text.replace(self.old, self.new)
        others = [str(p.relative_to(root)) for p in root.glob("mmrazor_lite/**/*.py") if self.old in p.read_text()]
        where = f"it is in {', '.join(others)}" if others else "it is in no file of the package"
        raise MutantError(f"{self}: the old text is {text.count(self.old)} times in the file, not once; {where}")

    @contextmanager
    def made(self, root: Path) -> Iterator[tuple[str, str]]:
        """Change the file, inside; gives its text before and after."""
        path = root / self.file
        before, after, at = path.read_text(), self.apply(root), path.stat().st_mtime
        path.write_text(after)
        os.utime(path, (at + 10, at + 10))  # of another second than its bytecode
        try:
            yield before, after
        finally:
            path.write_text(before)
            os.utime(path, (at, at))


def read(path: Path = LIST) -> list[Mutation]:
    """The mutations of a list."""
    return [Mutation(**{**entry, "tests": tuple(entry["tests"])}) for entry in yaml.safe_load(path.read_text())]


def copy_tree(root: Path, to: Path) -> Path:
    """Copy the files of a repository that git knows or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)
    return to


def run_tests(tree: Path, tests: Sequence[str], limit: float) -> tuple[str, str]:
    """Whether the tests pass in a tree (``survived``), fail (``killed``) or take too long; and the end of their output.

    Raises:
        MutantError: pytest could not run them.
    """
    with tempfile.NamedTemporaryFile() as log:
        process = PROCESSES.Process(target=_pytest, args=(str(tree), list(tests), log.name, limit))
        process.start()
        process.join(WAIT * limit)
        late = process.is_alive() or process.exitcode == -signal.SIGXCPU
        if process.is_alive():
            with suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        process.join()
        text = Path(log.name).read_text(errors="replace")[-2000:]
    if process.exitcode > 1:
        raise MutantError(f"pytest ended with {process.exitcode} on {' '.join(tests)}:\n{text}")
    outcome = OUT_OF_TIME if late else KILLED if process.exitcode else SURVIVED
    return outcome, text


def _enter(tree: str, log: str) -> None:
    """Make this process one that tests the package of a tree, and writes into a file."""
    os.setsid()  # so that what it starts ends with it
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = tree
    sys.path.insert(0, tree)
    import mmrazor_lite

    if not Path(mmrazor_lite.__file__).is_relative_to(tree):
        sys.exit(f"{mmrazor_lite.__file__} is not in {tree}")


def _pytest(tree: str, tests: list[str], log: str, limit: float) -> None:
    """What a process does: run tests of a tree, in that tree."""
    sys.dont_write_bytecode = True
    _enter(tree, log)
    _compute_at_most(limit)
    import pytest

    code = pytest.main([*WORDS, *tests])
    sys.stdout.flush()
    os._exit(int(code))  # nothing that the exit of a whole interpreter would still do


def _compute_at_most(limit: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 5))


def _forks(tree: str, mutations: list[Mutation], log: str, limit: float, results: Connection) -> None:
    """What a process does: collect all tests once, and run those of each mutation in a fork of itself.

    Sends the place, what became of it (None where only an import makes the change) and the test that failed; at last
    the same without a mutation, of the tests that failed.
    """
    sys.dont_write_bytecode = False  # what starts anew later reads it
    _enter(tree, log)
    import pytest

    class Loop:
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            sys.dont_write_bytecode = True
            if session.testsfailed:
                return True
            killers = set()
            for place, mutation in enumerate(mutations):
                items = [item for item in session.items if _is_of(item.nodeid, mutation.tests)]
                with mutation.made(Path(tree)) as texts:
                    outcome, killer = _forked(items, str(Path(tree, mutation.file)), texts, limit)
                killers.add(killer)
                results.send((place, outcome, killer))
            items = [item for item in session.items if item.nodeid in killers]
            if items:
                results.send((None, *_forked(items, tree, ("", ""), 20 * limit)))
            return True

    named = sorted({test for mutation in mutations for test in mutation.tests})
    pytest.main([*WORDS, f"--rootdir={tree}", *named], plugins=[Loop()])
    sys.stdout.flush()
    os._exit(0)


class _Watch:
    """A plugin of pytest that lists what fails."""

    def __init__(self, failed: list[str]) -> None:
        self.failed = failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(report.longreprtext[-1500:], flush=True)  # the last one's is told where it should not have failed
            self.failed.append(report.nodeid)


def _is_of(test: str, names: Sequence[str]) -> bool:
    return any(test == name or test.startswith((f"{name}::", f"{name}[")) for name in names)


def _forked(items: list, path: str, texts: tuple[str, str], limit: float) -> tuple[str | None, str]:
    """Run collected tests in a fork of this process, with the functions of one file exchanged."""
    began, (read_end, write_end) = time.monotonic(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            _compute_at_most(limit)
            if not items or not exchange(path, *texts):
                os._exit(3)
            failed: list[str] = []
            items[0].config.pluginmanager.register(_Watch(failed))
            for item, following in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if failed:
                    os.write(write_end, failed[0].encode())
                    sys.stdout.flush()
                    os._exit(1)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(3)
    os.close(write_end)
    status = None
    while status is None and time.monotonic() - began < WAIT * limit:
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found:
            status = time.sleep(0.02)
    if status is None:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with os.fdopen(read_end) as end:
        killer = end.read()
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return OUT_OF_TIME, ""
    code = os.waitstatus_to_exitcode(status)
    return None if code == 3 else SURVIVED if code == 0 else KILLED, killer


def judge(mutations: Sequence[Mutation], tree: Path, limit: float, found: Callable) -> None:
    """Test mutations in a copy of the tree, which is as before afterwards.

    Those of functions are tested in forks of one process, which has collected the tests. What survives there, or is
    made by an import, is tested by a process of its own. The tests that kill must pass without any mutation.

    Args:
        found: Called with a mutation, what became of it and the seconds it took.

    Raises:
        MutantError: pytest cannot run the tests, or one that kills fails on the tree as it is.
    """
    killers: set[str] = set()
    left = list(mutations)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile() as log:
        process = PROCESSES.Process(target=_forks, args=(str(tree), left, log.name, limit, theirs))
        process.start()
        theirs.close()
        began, wrong = time.monotonic(), None
        with suppress(EOFError):
            while True:
                place, outcome, killer = ours.recv()
                if place is None and outcome != SURVIVED:
                    wrong = killer
                if place is not None and outcome not in (None, SURVIVED):
                    found(mutations[place], outcome, time.monotonic() - began)
                    left.remove(mutations[place])
                began = time.monotonic()
        process.join()
        text = Path(log.name).read_text(errors="replace")[-2000:]
    if wrong is not None:
        raise MutantError(f"a test that kills fails on the tree as it is: {wrong}\n{text}")
    for mutation in left:
        began = time.monotonic()
        with mutation.made(tree):
            outcome, text = run_tests(tree, mutation.tests, limit)
        killers |= set(re.findall(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", text, re.MULTILINE)[:1])
        found(mutation, outcome, time.monotonic() - began)
    outcome, text = run_tests(tree, sorted(killers), 20 * limit) if killers else (SURVIVED, "")
    if outcome != SURVIVED:
        raise MutantError(f"a test that kills fails on the tree as it is: {text}")


def run_all(
    mutations: Sequence[Mutation], root: Path = ROOT, jobs: int = 2, limit: float = LIMIT
) -> Iterator[tuple[Mutation, str, float]]:
    """Test mutations, in ``jobs`` processes; yields each with what became of it and the seconds it took.

    Raises:
        MutantError: A text is not found, or a test fails without any mutation.
    """
    for mutation in mutations:
        mutation.apply(root)
    results: SimpleQueue = SimpleQueue()

    def work(number: int) -> None:
        try:
            judge(mutations[number::jobs], copy_tree(root, Path(folder, str(number))), limit, put)
            results.put(None)
        except Exception as error:
            results.put(error)

    def put(*result: object) -> None:
        results.put(result)

    with tempfile.TemporaryDirectory(prefix="mutants") as folder, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            pool.submit(work, number)
        for _ in range(len(mutations) + jobs):
            if isinstance(result := results.get(), Exception):
                raise result
            if result is not None:
                yield result


def main(words: Sequence[str] | None = None) -> int:
    """Print what became of each mutation; 1 if one survives without an explanation, or dies with one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="mutations of files whose name holds this")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="the K-th of N parts of the list")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default 2)")
    args = parser.parse_args(words)
    number, _, parts = args.part.partition("/")
    mutations = [mutation for mutation in read() if args.only in mutation.file]
    mutations = mutations[len(mutations) * (int(number) - 1) // int(parts) : len(mutations) * int(number) // int(parts)]
    wrong = 0
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(list(PRELOADED))
    try:
        for mutation, outcome, seconds in run_all(mutations, jobs=args.jobs):
            expected = outcome == SURVIVED if mutation.survives else outcome != SURVIVED
            wrong += not expected
            note = f" ({mutation.survives})" if mutation.survives else ""
            print(f"{outcome:12}{seconds:6.1f} s  {mutation}{note}{'' if expected else '   <--'}", flush=True)
    except MutantError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(mutations)} mutations, {wrong} of them not as expected")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
