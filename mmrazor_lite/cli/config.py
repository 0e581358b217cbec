"""Load a config file: our names, the user's overrides, and a check of every key before anything is built."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmrazor_lite.errors import UserError, reason

from .environment import register_quietly, require_file

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
    from . import names, overrides, schema, values

    require_file(path, "config file")
    register_quietly()
    cfg = _read(path)
    values.check_shape(cfg._cfg_dict, str(path))
    _refuse_what_is_not_carried(cfg, str(path))
    schema.check_top_level(cfg._cfg_dict, str(path))
    wrapper = cfg.get("optim_wrapper") or {}
    if amp and str(wrapper.get("type")).rpartition(".")[2] in ("OptimWrapper", "SubnetOptimWrapper"):
        wrapper["type"] = AMP_WRAPPER
    overrides.apply(cfg, cfg_options)
    values.check_shape(cfg._cfg_dict, str(path))
    cfg.setdefault("model_wrapper_cfg", {"type": "SubnetDDP"})
    names.normalise(cfg._cfg_dict)
    if cfg.get("default_scope") in (None, *names.SCOPES):  # names of ours have their prefix by now
        cfg.default_scope = "mmpretrain"
    schema.validate(cfg._cfg_dict, source=str(path))
    values.check(cfg._cfg_dict, str(path))
    _put_classifier_around(cfg, str(path))
    return cfg


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
        return Config.fromfile(str(path))
    except Exception as error:  # the file is code, which may raise anything
        raise UserError(f"config file '{path}' {_why_unreadable(path, error)}") from error


def _why_unreadable(path: str | os.PathLike, error: Exception) -> str:
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
    return f"cannot be read: {reason(error)}"


def _refuse_what_is_not_carried(cfg: Config, source: str) -> None:
    from . import names, not_carried, schema

    plain = copy.deepcopy(cfg._cfg_dict)
    names.normalise(plain)
    not_carried.check(plain, source, schema.find, schema.FREE)
