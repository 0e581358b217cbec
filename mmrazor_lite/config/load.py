"""Load a config file: our names, the user's overrides, and a check of every key before anything is built."""

from __future__ import annotations

import ast
import copy
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.fileio import require_file

from .build import register_quietly

if TYPE_CHECKING:
    from mmengine.config import Config


AMP_WRAPPER = "mmrazor_lite.SubnetAmpOptimWrapper"


def load_config(path: str | os.PathLike, cfg_options: Sequence[str] = (), amp: bool = False) -> Config:
    """Return the config of ``path`` with ``cfg_options`` ("KEY=VALUE") merged, names normalised and every key checked.

    ``data_root`` among them reaches every dataset whose ``data_root`` was copied from it. With ``amp``, they find the
    optimizer wrapper of mixed precision in place, whose ``dtype`` they may set.

    A ``model`` that names a network of torchvision, timm or the user's own gets a ``PlainClassifier`` around it.

    Raises:
        UserError: missing or broken file, MMRazor 0.x style, a name that is not registered, a key that nothing reads, a
            value that makes no sense.
    """
    require_file(path, "config file")
    register_quietly()
    return completed(_read(path), path, cfg_options, amp)


def completed(cfg: Config, path: str | os.PathLike, cfg_options: Sequence[str] = (), amp: bool = False) -> Config:
    """Do everything of :func:`load_config` but the reading, on ``cfg``."""
    from . import names, overrides, schema, values

    values.check_shape(cfg._cfg_dict, str(path))
    _refuse_what_is_not_carried(cfg, str(path))
    schema.check_top_level(cfg._cfg_dict, str(path))
    _pass_on_data_root(cfg, path)
    wrapper = cfg.get("optim_wrapper") or {}
    if amp and str(wrapper.get("type")).rpartition(".")[2] in ("OptimWrapper", "SubnetOptimWrapper"):
        wrapper["type"] = AMP_WRAPPER
    overrides.apply(cfg, cfg_options)
    values.check_shape(cfg._cfg_dict, str(path))
    around = cfg.setdefault("model_wrapper_cfg", {"type": "SubnetDDP"})
    if around is not None and cfg.get("find_unused_parameters") is not None:  # mmengine's way to say it
        around.setdefault("find_unused_parameters", cfg.find_unused_parameters)
    names.normalise(cfg._cfg_dict)
    if cfg.get("default_scope") in (None, *names.SCOPES):  # names of ours have their prefix by now
        cfg.default_scope = "mmpretrain"
    schema.validate(cfg._cfg_dict, source=str(path))
    values.check(cfg._cfg_dict, str(path))
    _put_classifier_around(cfg, str(path))
    return cfg


def _pass_on_data_root(cfg: Config, path: str | os.PathLike) -> None:
    """Give ``data_root`` of a file to the datasets whose own was copied from that of one of its bases.

    Raises:
        UserError: There are datasets and none takes it.
    """
    from . import overrides

    root = cfg.get("data_root")
    if root is None:
        return
    for old in _data_roots(str(path)) - {root}:
        overrides.move_data_root(cfg._cfg_dict, old, root)
    loaders = {key: value for key, value in cfg.items() if key.endswith("dataloader") or key == "search_cfg"}
    if any(loaders.values()) and not overrides.has_data_root(loaders, root):
        raise UserError(
            f"{path}: data_root={root!r} at top level reaches no dataset; set it in the datasets, such as "
            "train_dataloader.dataset.data_root"
        )


def _data_roots(path: str) -> set[str]:
    """The values that ``data_root`` is given in a config file and in the files it is based on."""
    return {
        node.value.value
        for _, text in _sources(path)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and any(isinstance(target, ast.Name) and target.id == "data_root" for target in node.targets)
    }


def _check_numbers(path: str) -> None:
    """Raise :class:`UserError` for a number of a config file, or of its bases, that Python reads as 0."""
    from . import overrides

    for source, text in _sources(path):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and type(node.value) is float and not node.value:
                written = (ast.get_source_segment(text, node) or "").replace("_", "")
                if lost := overrides.lost_number(written):
                    where = f"{source}: line {node.lineno}"
                    raise UserError(f"{where}: {lost} is too small for a number and would be read as 0")


def _sources(path: str, below: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """A config file in Python and the files it is based on, each with its text.

    Raises:
        UserError: One is based on itself.
    """
    from mmengine.config import Config

    real = os.path.realpath(path)
    if real in below:
        raise UserError(f"{path} is a _base_ of itself; take it out of the _base_ of {below[-1]}")
    if path.endswith(".py") and not Config._is_lazy_import(path):
        with open(path, encoding="utf-8") as file:
            yield path, file.read()
        for base in Config._get_base_files(path):
            yield from _sources(Config._get_cfg_path(base, path)[0], (*below, real))


def _put_classifier_around(cfg: Config, source: str) -> None:
    """Write out a ``model`` that names a plain network; an algorithm does this to its architecture."""
    from mmrazor_lite.models.classifiers import nets

    model = cfg.get("model")
    if model and nets.source_of(model.get("type")):
        expanded = nets.expand(model, f"{source}: model")
        if nets.is_wrapper(expanded):
            cfg.model = expanded


def _read(path: str | os.PathLike) -> Config:
    """Parse the file; ``mmcls::`` in ``_base_`` finds mmpretrain's configs."""
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE["mmcls"] = "mmpretrain"
    try:
        _check_numbers(str(path))
        return Config.fromfile(str(path))
    except (Exception, SystemExit) as error:  # the file is code, which may raise anything
        raise UserError(f"config file '{path}' {_why_unreadable(path, error)}") from error


def _why_unreadable(path: str | os.PathLike, error: BaseException) -> str:
    """Say why, without mmengine's advice to install a project that this one does not use."""
    from . import not_carried

    asked = re.match(r"(\w+) is not installed, please install", str(error))
    package = asked[1] if asked else None
    if why := not_carried.reason_of_file(str(path), package):
        return f"is of something else: {why}"
    if package == "mmrazor":
        return (
            "cannot be read: a _base_ of 'mmrazor::' is a file of MMRazor's package, which is not used here: copy that "
            f"file beside this one, or start from the configs in {not_carried.same_here(str(path))}"
        )
    return f"cannot be read: {error if isinstance(error, UserError) else reason(error)}"


def _refuse_what_is_not_carried(cfg: Config, source: str) -> None:
    from . import names, not_carried, schema

    plain = copy.deepcopy(cfg._cfg_dict)
    names.normalise(plain)
    not_carried.check(plain, source, schema.find, schema.FREE)
