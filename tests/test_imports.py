"""Imports go one way, between rooms and wherever in a file they stand; what must be quick to import is.

Files come in through one door for each kind: what reads them is called there and nowhere else.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "mmrazor_lite"
FOLDER = Path(__file__).resolve().parents[1] / PACKAGE
FILES = {
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(FOLDER.rglob("*.py"))
}
# From below to above; what stands in one line knows nothing of each other. A room is a folder, and of ``models`` one of
# its folders or files; the modules beside the rooms are ``base``, the package's own ``__init__`` is ``version``.
ROOMS = (
    ("version",),
    ("base",),
    ("subnet", "datasets", "migration"),
    ("checkpoints", "graph", "search"),
    ("programs",),
    ("estimators",),
    ("models.mutables", "models.calibration", "models.calls", "models.said", "models.classifiers", "models.distillers"),
    ("models.backbones", "models.ops"),
    ("models.mutators",),
    ("models.importance",),
    ("models.algorithms",),
    ("models",),
    ("export", "visualization"),
    ("engine", "config"),
    ("recipes", "slimming"),
    ("delivery",),
    ("cli",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
ALLOWED = {
    ("version", "export"): "mmrazor_lite.load_subnet, which is looked up when somebody asks for it",
    ("export", "delivery"): "mmrazor_lite.export.deliver, the same",
    ("version", "slimming"): "mmrazor_lite.slim and Slimmer, which are too",
}
READERS = {  # what reads a file, or a text, of each kind: the modules that may call it
    "json.load": set(),
    "json.loads": {"jsonio", "folder_lock"},  # a lock holds a line of its own, of at most 4096 bytes
    "mmengine.load": set(),
    "numpy.load": {"estimators/latency_tfnas"},  # without pickles, of limited size
    "pickle.load": set(),
    "pickle.loads": set(),
    "safetensors.torch.load_file": {"checkpoints/checkpoint_file"},
    "torch.load": {"checkpoints/checkpoint_file"},
    "yaml.load": {"subnet/yamlio", "datasets/foreign_formats"},  # subnets; configs, where mmengine asks for them
    "yaml.safe_load": set(),
}
WITHOUT_TORCH = ("subnet", "search", "migration")
QUICK = ("cli", "config", "recipes")  # their commands say what is wrong with a call before torch is there
LATE = {  # what else imports inside functions, and why
    "export": "a network that is given as a module is loaded without mmengine; what builds one from a config needs it",
    "slimming": "a plain network is slimmed without mmengine; a config of a data set, and tuning, need it",
}


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All parts of a file."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules that a file imports, inside functions and for type checkers too; and whether inside a function."""
    package = path.parent.relative_to(FOLDER.parent).parts
    functions = [node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(part) for function in functions for part in ast.walk(function) if isinstance(part, ast.stmt)}
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((name.name, id(node) in inside) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            yield from ((f"{module}.{name.name}", id(node) in inside) for name in node.names)


def calls(path: Path) -> set[str]:
    """The full names of what a file calls, as far as its imports say them."""
    names: dict[str, str] = {}
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    functions = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
    plain = {names.get(function.id, "") for function in functions if isinstance(function, ast.Name)}
    dotted = [f for f in functions if isinstance(f, ast.Attribute) and isinstance(f.value, ast.Name)]
    return plain | {f"{names.get(function.value.id, '')}.{function.attr}" for function in dotted}


def room(module: str) -> str:
    """The room of a module, or of a name in one."""
    parts = module.split(".")[1:]
    if not parts or parts[0].startswith("__"):
        return "version"
    deep = parts[0] == "models" and len(parts) > 1 and f"models.{parts[1]}" in RANK
    return f"models.{parts[1]}" if deep else parts[0] if (FOLDER / parts[0]).is_dir() else "base"


@cache
def arrows() -> list[tuple[str, str, bool]]:
    """Every import of the package by itself: importing module, imported one, whether inside a function."""
    own = ((name, list(imports(path))) for name, path in FILES.items())
    return [(name, to, deep) for name, found in own for to, deep in found if to.split(".")[0] == PACKAGE]


def test_every_room_has_its_place():
    rooms = {room(name) for name in FILES}
    assert rooms <= set(RANK), f"say in ROOMS where {sorted(rooms - set(RANK))} belong"


def test_imports_go_one_way():
    upward = [
        f"{name} -> {to}"
        for name, to, _ in arrows()
        for pair in [(room(name), room(to))]
        if pair[0] != pair[1] and RANK[pair[0]] <= RANK[pair[1]] and pair not in ALLOWED
    ]
    assert not upward


def test_no_import_inside_a_function_hides_a_circle():
    hidden = [
        f"{name} -> {to}"
        for name, to, inside in arrows()
        if inside and room(name) not in (*QUICK, *LATE) and (room(name), room(to)) not in ALLOWED
    ]
    assert not hidden


def test_no_two_files_have_one_name():
    names = [path.stem for path in FILES.values() if path.stem != "__init__"]
    assert {name for name in names if names.count(name) > 1} == set()


def test_every_kind_of_file_has_its_readers():
    found: dict[str, set[str]] = {name: set() for name in READERS}
    for path in FILES.values():
        for name in calls(path) & READERS.keys():
            found[name].add(str(path.relative_to(FOLDER).with_suffix("")))
    assert found == READERS


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_torch_is_not_named_there(part):
    found = [(name, to) for name in FILES if room(name) == part for to, _ in imports(FILES[name])]
    assert not [pair for pair in found if pair[1].split(".")[0] in ("torch", "mmengine", "mmpretrain")]


@pytest.mark.parametrize(
    ("package", "absent"),
    [
        (PACKAGE, ("torch", "mmengine", "numpy")),
        (f"{PACKAGE}.cli", ("torch", "mmengine", "numpy")),
        *((f"{PACKAGE}.{part}", ("torch", "mmengine")) for part in WITHOUT_TORCH),
    ],
)
def test_importing_is_quick(package, absent):
    code = f"import {package}, sys, json; print(json.dumps([name for name in {absent} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
