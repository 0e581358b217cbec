"""The files of a config: the one that is named, and those that it is based on."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mmrazor_lite import shipped
from mmrazor_lite.errors import UserError, reason

from . import not_carried
from .overrides import lost_number

if TYPE_CHECKING:
    from mmengine.config import Config


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

    ``mmrazor_lite::`` finds the configs that come with this package, ``mmpretrain::`` and ``mmcls::`` mmpretrain's; all
    else is a path from the folder of ``path``.

    Raises:
        UserError: This package has no such config.
        NotInstalledError: It is of a package that is not installed.
    """
    from mmengine.config import utils

    if "::" not in base:
        return os.path.join(os.path.dirname(path), base), None
    if shipped.is_named(base):
        return shipped.find(base), None
    utils.MODULE2PACKAGE["mmcls"] = "mmpretrain"
    package, inside = utils._get_package_and_cfg_path(base)
    # mmengine's own search of the folder needs pkg_resources in its older releases, which newer setuptools have not.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise NotInstalledError(package)
    folder, scope = os.path.dirname(found.origin), base.partition("::")[0]
    try:
        return utils._get_external_cfg_path(folder, inside), scope
    except ValueError:  # no model of it has this config: a base
        return utils._get_external_cfg_base_path(folder, inside), scope


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


def helpers(path: str) -> frozenset[str]:
    """The top-level names that the files of a config use themselves, or take from a base as ``_base_.NAME``."""
    return frozenset(
        name for _, tree, text in sources(path) for name in (*_names_read(tree), *_TEMPLATE_NAME.findall(text))
    )


def _names_read(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_base_":
            yield node.attr


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
    return f"cannot be read: {error if isinstance(error, UserError) else reason(error)}"
