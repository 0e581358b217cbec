"""Which subnet a ``sub_model`` is: the command line's, then the one a checkpoint carries, then the config's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrazor_lite import counterparts
from mmrazor_lite.config import overrides
from mmrazor_lite.errors import UserError
from mmrazor_lite.walk import kind_of

KEY = "model.fix_subnet"
WEIGHTS = "model.init_cfg.checkpoint"


def is_sub_model(model: Any) -> bool:
    """Whether a ``model`` section is one fixed subnet."""
    return kind_of(model) in ("sub_model", "SubModel")


def settle(cfg: Any, cfg_options: Sequence[str]) -> str | None:
    """Make ``cfg.model.fix_subnet`` the subnet that counts; nothing to do for other models.

    The checkpoint is the one that is loaded last: ``load_from``, the one that ``resume`` goes on from, or that of
    ``model.init_cfg``, which is not read where one of the others replaces its weights. A subnet of the command line
    stays, and building or loading refuses a checkpoint of another one.

    Args:
        cfg: The config with every flag applied.
        cfg_options: The ``KEY=VALUE`` of the command line.

    Returns:
        What was settled, as a line for the log.

    Raises:
        UserError: The checkpoint cannot be read; neither it nor the config names a subnet that is there.
    """
    model = cfg.model
    if not is_sub_model(model):
        return None
    from mmrazor_lite.models.algorithms.sub_model import split_init_cfg

    later, given = _loaded_later(cfg), overrides.parse(cfg_options)
    pretrained, others = split_init_cfg(model.get("init_cfg"))
    named = pretrained and pretrained["checkpoint"]
    settled = _settled(model, later, named, others, given)
    option = {WEIGHTS, WEIGHTS.rpartition(".")[0]} & given.keys()
    if later and named and option and Path(named).absolute() != Path(later).absolute():
        settled += f"; {WEIGHTS}={named} is not read: {later} replaces its weights"
    return settled


def _settled(model: Any, later: str | None, named: str | None, others: list | None, given: Mapping[str, Any]) -> str:
    """Settle it; ``others`` are the entries of ``init_cfg`` that name no checkpoint."""
    from mmrazor_lite.export import checkpoint_hash

    path = later or named
    if later:
        model.init_cfg, model.init_weight_from_supernet = others, False
    if any(key == KEY or key.startswith(f"{KEY}.") for key in given):
        return f"subnet: {model.fix_subnet} (--cfg-options {KEY})"
    carried = _carried(path) if path else None
    if path and not later and not carried and (found := _searched(path)):
        model.fix_subnet, model.init_cfg = found, others
        digest = checkpoint_hash(path)
        return f"subnet: the one that the search of {path} (sha256 {digest}) has found; it starts with new weights"
    if carried is None:
        _require_file(model.get("fix_subnet"), path)
        return f"subnet: {model.get('fix_subnet')} ({KEY} of the config)"
    configured = model.get("fix_subnet")
    model.fix_subnet = carried
    instead = f", not {configured} of the config" if isinstance(configured, str) else ""
    return f"subnet: the one that {path} carries{instead}"


def _require_file(configured: Any, path: str | None) -> None:
    """Refuse a subnet file of the config that is not there: its default, where the user gave none."""
    if configured and (not isinstance(configured, str | Path) or Path(configured).is_file()):
        return
    which = f"{KEY} names no file"
    if configured:
        which = f"the file of {KEY}, '{configured}', is not there{counterparts.hint(configured)}"
    if path:
        supernet = " (it is a supernet)" if _ours(path).get("kind") == "supernet" else ""
        raise UserError(f"{path} carries no subnet{supernet}, and {which}: give --cfg-options {KEY}=FILE")
    raise UserError(
        f"{which}: give --cfg-options {KEY}=FILE, or a checkpoint that carries its subnet as {WEIGHTS}=CKPT"
    )


def _loaded_later(cfg: Any) -> str | None:
    from mmrazor_lite.engine.run_checkpoint import latest_checkpoint

    return cfg.get("load_from") or (latest_checkpoint(cfg.work_dir) if cfg.get("resume") else None)


def _searched(path: str) -> dict[str, Any] | None:
    """Return the document of the network that a search by gradients has found, where a checkpoint is of one."""
    from mmrazor_lite.export import read_checkpoint
    from mmrazor_lite.models.algorithms.tfnas import searched_in

    return searched_in(read_checkpoint(path))


def _carried(path: str) -> dict[str, Any] | None:
    """Return the document of the subnet that a checkpoint is of, or None where it says none."""
    ours = _ours(path)
    document = ours.get("subnet") if ours.get("kind") == "subnet" else None
    return dict(document) if isinstance(document, Mapping) else None


def _ours(path: str) -> Mapping[str, Any]:
    """Return what a checkpoint says it holds; empty where it says nothing."""
    from mmrazor_lite.export import read_checkpoint
    from mmrazor_lite.models.said import said_by

    return said_by(read_checkpoint(path))
