"""The examples of the pages do what they say: code that is marked runs as it stands, page by page in one folder.

A comment before a block says what becomes of it: ``<!-- runs -->`` runs Python, or the commands of a shell block;
``<!-- file: NAME -->`` writes the block to a file, which later blocks import or name.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from mmrazor_lite import registry
from mmrazor_lite.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^<!-- (runs|file: (\S+)) -->\n```(python|shell)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!-- (?:runs|file: )", re.MULTILINE)
FIRST = "docs/extending/algorithm.md"  # its checkpoint is searched by the next page
PAGES = sorted(
    (
        str(path.relative_to(ROOT))
        for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        if MARK.search(path.read_text())
    ),
    key=lambda name: (name != FIRST, name),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader would be: a folder with ``configs``; what the pages register and import is gone afterwards."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "configs").symlink_to(ROOT / "configs")
    path = list(sys.path)
    yield folder
    sys.path[:] = path
    modules = {file.stem for file in folder.glob("*.py")}
    for each in (value for value in vars(registry).values() if isinstance(value, registry.Registry)):
        for name in [name for name, cls in each.module_dict.items() if cls.__module__ in modules]:
            del each.module_dict[name]
    for name in modules:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", PAGES)
def test_page(name, folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    text, names = (ROOT / name).read_text(), {}
    blocks = BLOCK.findall(text)
    assert len(blocks) == len(MARK.findall(text)), "a mark without its block"
    for _, file, kind, code in blocks:
        if file:
            assert f"`{file}`:\n\n<!-- file" in text, f"{name}: a reader does not see the name of {file}"
            (folder / file).write_text(code)
            importlib.invalidate_caches()
        elif kind == "python":
            with monkeypatch.context() as script:
                script.syspath_prepend(str(folder))  # Python puts a script's own folder there; a command does not
                exec(compile(code, name, "exec"), names)
        else:
            for line in code.replace("\\\n", " ").splitlines():
                program, *words = shlex.split(line)
                assert program == "mmrazor-lite"
                assert main(words) == 0, capfd.readouterr().err
