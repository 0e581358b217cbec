"""The list of mutations fits the code as it is, and the runner tells what tests notice from what they do not."""

from __future__ import annotations

import ast
import multiprocessing
import subprocess

import mutants
import pytest
from code_exchange import exchange
from mutants import KILLED, OUT_OF_TIME, ROOT, SURVIVED, MutantError, Mutation, read, run_all, run_tests

MUTATIONS = read()
AREAS = ("graph", "models/mutators", "models/ops", "estimators", "search", "engine", "checkpoints", "export")


@pytest.mark.parametrize("file", sorted({mutation.file for mutation in MUTATIONS}))
def test_every_text_is_there_once_and_gives_code(file):
    for mutation in MUTATIONS:
        if mutation.file == file:
            ast.parse(mutation.apply(ROOT))


def test_tests_that_are_named_are_there():
    for name in {name for mutation in MUTATIONS for name in mutation.tests}:
        path, _, function = name.partition("::")
        text = (ROOT / path).read_text()
        assert not function or f"def {function}(" in text, name  # names of parameters change, and nothing would tell


def test_all_of_the_kernel_is_mutated():
    assert len(MUTATIONS) >= 60 and len(set(MUTATIONS)) == len(MUTATIONS)
    for area in AREAS:
        assert any(mutation.file.startswith(f"mmrazor_lite/{area}/") for mutation in MUTATIONS), area


CODE = """FIRST = 0


def count(numbers):
    found = FIRST
    for number in numbers:
        found += 1
    return found  # all
"""
TEST = "from mmrazor_lite import count\n\n\ndef test_count():\n    assert count([5]) == 1\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository of one function and its test; the server of other tests' processes has imported this package."""
    monkeypatch.setattr(mutants, "PROCESSES", multiprocessing.get_context("spawn"))
    for name, text in (("mmrazor_lite/__init__.py", CODE), ("tests/test_count.py", TEST)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def mutation(old: str, new: str = "pass") -> Mutation:
    return Mutation("mmrazor_lite/__init__.py", old, new, ("tests/test_count.py",))


def test_functions_get_the_code_of_another_text(tmp_path):
    path, names = str(tmp_path / "counting.py"), {}
    exec(compile(CODE, path, "exec"), names)
    assert exchange(path, CODE, CODE.replace("+= 1", "+= 2")) and names["count"]([5]) == 2
    assert not exchange(path, CODE, CODE.replace("FIRST = 0", "FIRST = 1")), "an import would set it"
    assert names["count"]([5]) == 2


def test_what_becomes_of_a_mutation(tree):
    changes = {
        ("found += 1", "found += 2"): KILLED,
        ("# all", "# of them"): SURVIVED,
        ("FIRST = 0", "FIRST = 1"): KILLED,  # by an import alone
    }
    results = list(run_all([mutation(*change) for change in changes], tree, jobs=1))
    assert {(found.old, found.new): outcome for found, outcome, _ in results} == changes
    assert run_tests(tree, ["tests/test_count.py"], limit=0.05)[0] == OUT_OF_TIME
    assert (tree / "mmrazor_lite/__init__.py").read_text() == CODE


def test_what_cannot_be_told_is_refused(tree):
    with pytest.raises(MutantError, match="the old text is 0 times in the file, not once; it is in no file"):
        list(run_all([mutation("gone")], tree))
    with pytest.raises(MutantError, match="the old text is 3 times in the file"):
        list(run_all([mutation("number")], tree))
    (tree / "tests/test_count.py").write_text(TEST.replace("== 1", "== 3"))
    with pytest.raises(MutantError, match="a test that kills fails on the tree as it is"):
        list(run_all([mutation("found += 1", "found += 2")], tree, jobs=1))


def test_a_text_that_moved_is_found(tree):
    (tree / "mmrazor_lite/counting.py").write_text(CODE)
    with pytest.raises(MutantError, match=r"it is in mmrazor_lite/__init__.py, mmrazor_lite/counting.py"):
        Mutation("mmrazor_lite/old.py", "found += 1", "pass", ()).apply(tree)
