"""The files of a config: the one that is named, and those that it is based on."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mmrazor_lite import shipped
from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.migration.generation import V0_KEYS

from . import not_carried, schema
from .overrides import lost_number

if TYPE_CHECKING:
    from mmengine.config import Config


MMRAZOR = "mmrazor::"
_TYPO = 0.8  # how alike a name and a key are, of which the one is a slip of the other
_LAZY = os.path.join("mmengine", "config", "lazy.py")
_TEMPLATE_NAME = re.compile(r"\{\{\s*_base_\.(\w+)")  # mmengine's other way to name a variable of a base


class NotInstalledError(Exception):
    """A ``_base_`` of a package that is not installed; its name is the text."""


def read(path: str) -> Config:
    """Parse a file and its bases; see :func:`find_base`.

    Raises:
        UserError: It cannot be read, is of another project, or has a number that Python reads as 0.
    """
    from mmengine.config import Config

    try:
        for source, tree, text in sources(path):
            _check_numbers(source, tree, text)
        with _bases_are_found():
            cfg = Config.fromfile(path, import_custom_modules=False)
        if cfg.get("custom_imports"):
            _import_custom_modules(cfg.custom_imports)
        return cfg
    except (Exception, SystemExit) as error:  # the file is code, which may raise anything
        raise UserError(f"config file '{path}' {_why_unreadable(path, error)}") from error


def sources(path: str, below: tuple[str, ...] = ()) -> Iterator[tuple[str, ast.Module, str]]:
    """Yield a config file in Python and the files it is based on, each parsed and as text.

    Raises:
        UserError: One is based on itself.
        NotInstalledError: One is of a package that is not installed.
    """
    from mmengine.config import Config

    real = os.path.realpath(path)
    if real in below:
        raise UserError(f"{path} is a _base_ of itself; take it out of the _base_ of {below[-1]}")
    if Config._is_lazy_import(path):
        return
    if path.endswith(".py"):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        yield path, ast.parse(text), text
    for base in Config._get_base_files(path):
        yield from sources(find_base(base, path)[0], (*below, real))


def find_base(base: str, path: str) -> tuple[str, str | None]:
    """Return the file that an entry of the ``_base_`` of ``path`` names, and its scope: where its names are looked up.

    ``mmrazor_lite::`` finds the configs that come with this package, ``mmrazor::`` those of MMRazor's that it has too,
    ``mmpretrain::`` and ``mmcls::`` mmpretrain's; all else is a path from the folder of ``path``.

    Raises:
        UserError: There is no such file.
        NotInstalledError: It is of a package that is not installed.
    """
    from mmengine.config import utils

    if "::" not in base:
        found = os.path.join(os.path.dirname(path), base)
        if not os.path.exists(found):
            raise UserError(f"its _base_ '{base}' is not there{_offered_instead(base)}")
        return found, None
    if shipped.is_named(base):
        return shipped.find(base), None
    if base.startswith(MMRAZOR):
        return _of_mmrazor(base), None
    utils.MODULE2PACKAGE["mmcls"] = "mmpretrain"
    package, inside = utils._get_package_and_cfg_path(base)
    # mmengine's own search of the folder needs pkg_resources in its older releases, which newer setuptools have not,
    # and reads the descriptions of all models of the package, to say of a model's config where it is.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise NotInstalledError(package)
    found = os.path.join(os.path.dirname(spec.origin), ".mim", "configs", inside)
    if not os.path.exists(found):
        raise UserError(f"its _base_ '{base}' is not there{_alike(found)}")
    return found, base.partition("::")[0]


def _alike(path: str) -> str:
    """What to say of a config of a package that is not there: which one of its folder has nearly that name."""
    folder, name = os.path.split(path)
    near = difflib.get_close_matches(name, os.listdir(folder) if os.path.isdir(folder) else (), n=1)
    return f"; '{near[0]}' is in that folder" if near else ""


def _offered_instead(base: str) -> str:
    """What to say of a base that is not there: where this package has one of the same name."""
    _, folder, rest = base.partition("_base_/")
    name = shipped.offered(folder + rest) if rest else None
    return f"; the one that comes with this package is '{MMRAZOR}{folder}{rest}'" if name else ""


def _of_mmrazor(base: str) -> str:
    """Our file in the place of one of MMRazor's: the settings and backbones that its configs are based on."""
    name = shipped.offered(base.removeprefix(MMRAZOR))
    if name is None:
        raise NotInstalledError("mmrazor")
    return shipped.find(name)


@contextlib.contextmanager
def _bases_are_found() -> Iterator[None]:
    """Let mmengine ask :func:`find_base`: its own table of packages has no place for one that is no project of it."""
    from mmengine.config import Config

    own = Config._get_cfg_path
    Config._get_cfg_path = staticmethod(find_base)
    try:
        yield
    finally:
        Config._get_cfg_path = staticmethod(own)


def helpers(path: str) -> frozenset[str] | None:
    """The top-level names of a config that are free: helper variables. None where the file is no plain Python.

    Those are names that the file which sets them uses, those that a file takes from a base as ``_base_.NAME``, and
    those of a base that nothing uses, unless they are a key or nearly one. A name that the file itself sets and does
    not use is none, also where a base uses one of that name: its value there was copied before.
    """
    files = list(sources(path))
    if not files or files[0][0] != path:
        return None
    free: set[str] = set()
    for _, tree, text in files:
        assigned, read, of_bases = _names(tree)
        free |= (assigned & read) | of_bases | set(_TEMPLATE_NAME.findall(text))
    (_, leaf, _), *bases = files
    unused = set().union(*(_names(tree)[0] for _, tree, _ in bases)) - free - V0_KEYS
    free |= {name for name in unused if not difflib.get_close_matches(name, schema.TOP_LEVEL, n=1, cutoff=_TYPO)}
    assigned, read, _ = _names(leaf)
    return frozenset(free - (assigned - read))


def _names(tree: ast.Module) -> tuple[set[str], set[str], set[str]]:
    """The names that a file sets, those that it reads or deletes, and those of its bases that it reads."""
    assigned, read, of_bases = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (assigned if isinstance(node.ctx, ast.Store) else read).add(node.id)
        elif isinstance(node, ast.alias):
            assigned.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ClassDef):
            assigned.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_base_":
            of_bases.add(node.attr)
    return assigned, read, of_bases


def data_roots(path: str) -> set[str]:
    """The values that ``data_root`` is given in a config file and in the files it is based on."""
    return {
        node.value.value
        for _, tree, _ in sources(path)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and any(isinstance(target, ast.Name) and target.id == "data_root" for target in node.targets)
    }


def _import_custom_modules(custom: Mapping[str, Any]) -> None:
    """Import what ``custom_imports`` names: as all code of a user's, from the current directory first."""
    from mmengine.utils import import_modules_from_strings

    from mmrazor_lite.network_names import import_from_current_directory

    names = custom.get("imports") or []
    for name in [names] if isinstance(names, str) else names:
        _check_same_file(str(name), import_from_current_directory(str(name)))
    try:
        import_modules_from_strings(**custom)
    except ImportError as error:
        why = error.__context__ or error
        raise UserError(
            f"custom_imports: {error} ({reason(why)}); modules are searched in the current directory, then among the "
            "installed packages"
        ) from error


def _check_same_file(name: str, folder: str) -> None:
    """Refuse a module of the current directory whose name an imported one of another folder has: Python keeps that."""
    top = name.partition(".")[0]
    held = getattr(sys.modules.get(top), "__file__", None)
    files = [os.path.join(folder, f"{top}.py"), os.path.join(folder, top, "__init__.py")]
    here = next((file for file in files if os.path.isfile(file)), None)
    if held and here and os.path.realpath(held) != os.path.realpath(here):
        raise UserError(
            f"custom_imports: '{name}' is {held} already, in this process, and would not be read from {folder}: give "
            "one of the two another name"
        )


def _check_numbers(source: str, tree: ast.Module, text: str) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is float and not node.value:
            written = (ast.get_source_segment(text, node) or "").replace("_", "")
            if lost := lost_number(written):
                where = f"{source}: line {node.lineno}"
                raise UserError(f"{where}: {lost} is too small for a number and would be read as 0")


def _why_unreadable(path: str, error: BaseException) -> str:
    """Say why, without mmengine's advice to install a project that this one does not use."""
    package = str(error) if isinstance(error, NotInstalledError) else None
    if package == "mmrazor":
        return (
            "cannot be read: a _base_ of 'mmrazor::' is a file of MMRazor's package, which is not used here: copy that "
            f"file beside this one, or start from the configs in {not_carried.same_here(path)}"
        )
    if line := _line_of_a_call(path, error):
        return f"cannot be read: line {line} calls what the file imports; a config may only name that: write the value"
    return f"cannot be read: {error if isinstance(error, UserError) else reason(error)}"


def _line_of_a_call(path: str, error: BaseException) -> int | None:
    """The line of a config that calls what it imports: mmengine stops there, and says nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    stopped = type(error) is RuntimeError and frames and frames[-1].filename.endswith(_LAZY)
    if not stopped:
        return None
    return next((frame.lineno for frame in reversed(frames) if frame.filename == path), None)
