"""Mutations: one line of the package is changed, and the tests named for it must fail. Run by ``make mutants``.

``mutants.yaml`` lists them: ``file``, ``old`` (a text that is there exactly once), ``new``, ``tests`` (what pytest is
given), and ``survives``, the reason, where a change is known to make no difference. Each mutation is made in a copy of
the tree and tested by a process of its own; one that runs out of time counts as killed. Before, all tests named must
pass on the copy as it is: a test that fails anyway kills nothing. That run leaves the bytecode that the others read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".yaml")
LIMIT = 120.0  # seconds of the tests of one mutation
# Processes are forked from one that has imported what is not mutated and takes seconds.
PRELOADED = ("torch.export", "torch._dynamo", "mmpretrain.models", "hypothesis", "scipy.stats", "pytest")
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


def run_tests(tree: Path, tests: Sequence[str], limit: float, *, keep: bool = False) -> tuple[str, str]:
    """Whether the tests pass in a tree (``survived``), fail (``killed``) or take too long; and the end of their output.

    ``keep``: what was compiled stays beside the files, for later runs.

    Raises:
        MutantError: pytest could not run them.
    """
    with tempfile.NamedTemporaryFile() as log:
        process = PROCESSES.Process(target=_pytest, args=(str(tree), list(tests), log.name, keep))
        process.start()
        process.join(limit)
        late = process.is_alive()
        if late:
            with suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        process.join()
        text = Path(log.name).read_text(errors="replace")[-2000:]
    if process.exitcode > 1:
        raise MutantError(f"pytest ended with {process.exitcode} on {' '.join(tests)}:\n{text}")
    outcome = OUT_OF_TIME if late else KILLED if process.exitcode else SURVIVED
    return outcome, text


def _pytest(tree: str, tests: list[str], log: str, keep: bool) -> None:
    """What a process does: run tests of a tree, in that tree."""
    os.setsid()  # so that what it starts ends with it
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = tree
    sys.path.insert(0, tree)
    sys.dont_write_bytecode = not keep
    import pytest

    import mmrazor_lite

    if not Path(mmrazor_lite.__file__).is_relative_to(tree):
        sys.exit(f"{mmrazor_lite.__file__} is not in {tree}")
    words = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    code = pytest.main([*words, *tests])
    sys.stdout.flush()
    os._exit(int(code))  # nothing that the exit of a whole interpreter would still do


def judge(mutation: Mutation, tree: Path, limit: float) -> str:
    """Test one mutation in a copy of the tree, which is as before afterwards."""
    path = tree / mutation.file
    before, at = path.read_text(), path.stat().st_mtime
    path.write_text(mutation.apply(tree))
    os.utime(path, (at + 10, at + 10))  # of another second than its bytecode
    try:
        return run_tests(tree, mutation.tests, limit)[0]
    finally:
        path.write_text(before)
        os.utime(path, (at, at))


def run_all(
    mutations: Sequence[Mutation], root: Path = ROOT, jobs: int = 2, limit: float = LIMIT
) -> Iterator[tuple[Mutation, str, float]]:
    """Test mutations, ``jobs`` at a time; yields each with what became of it and the seconds it took, in order.

    Raises:
        MutantError: A text is not found, or a test fails without any mutation.
    """
    for mutation in mutations:
        mutation.apply(root)
    with tempfile.TemporaryDirectory(prefix="mutants") as folder, ThreadPoolExecutor(jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            trees.put(copy_tree(root, Path(folder, str(number))))

        def with_a_tree(work, *args):
            tree, began = trees.get(), time.monotonic()
            try:
                return work(*args, tree), time.monotonic() - began
            finally:
                trees.put(tree)

        named = sorted({test for mutation in mutations for test in mutation.tests})
        parts = [part for part in (named[number::jobs] for number in range(jobs)) if part]

        def as_it_is(part: list[str], tree: Path) -> tuple[str, str]:
            return run_tests(tree, part, 20 * limit, keep=True)

        for part in [pool.submit(with_a_tree, as_it_is, part) for part in parts]:
            (outcome, text), _ = part.result()
            if outcome != SURVIVED:
                raise MutantError(f"a test that the list names fails on the tree as it is:\n{text}")
        waiting = [pool.submit(with_a_tree, lambda m, tree: judge(m, tree, limit), mutation) for mutation in mutations]
        for mutation, future in zip(mutations, waiting, strict=True):
            yield mutation, *future.result()


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
