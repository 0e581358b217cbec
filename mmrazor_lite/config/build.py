"""What a config names, registered, and its model, built."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite import counterparts
from mmrazor_lite.errors import UserError, building


def register_quietly() -> None:
    """Import mmpretrain and our packages so that every name is registered, without the import chatter of others."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from mmpretrain.utils import register_all_modules

        from mmrazor_lite.registry import register_all

        register_all_modules(init_default_scope=False)
        register_all()
    from mmrazor_lite.datasets.foreign_formats import read_plainly

    read_plainly()


def build_model(cfg: Any) -> Any:
    """Build ``cfg.model`` without a Runner, with initial weights."""
    from mmengine.registry import MODELS, init_default_scope

    require_subnet_files(cfg)
    init_default_scope(cfg.get("default_scope", "mmpretrain"))
    config = dict(cfg.model)
    if cfg.get("data_preprocessor") is not None:
        config.setdefault("data_preprocessor", cfg.data_preprocessor)
    with building("model"):
        return MODELS.build(config)


def build_mutator(cfg: Any, otherwise: str) -> Any:
    """Build the model of ``cfg`` and return its mutator; raise :class:`UserError` ``otherwise`` where it has none."""
    mutator = getattr(build_model(cfg), "mutator", None) if cfg.get("model") else None
    if mutator is None:
        raise UserError(otherwise)
    return mutator


def require_subnet_files(cfg: Mapping) -> None:
    """Raise :class:`UserError` where ``model`` names a subnet file that is not there."""
    model = cfg.get("model") or {}
    for key in ("channel_cfg", "fix_subnet"):
        named = model.get(key) or []
        for entry in named if isinstance(named, list | tuple) else [named]:
            if isinstance(entry, str) and not Path(entry).is_file():
                raise UserError(
                    f"the file of model.{key}, '{entry}', is not there{counterparts.hint(entry)}: give --cfg-options "
                    f"model.{key}=FILE, such as a search writes"
                )
