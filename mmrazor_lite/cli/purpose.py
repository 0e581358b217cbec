"""Which step a config is of, the one beside it that is of another step, and the line for a command that needs that one.

Configs of the same network lie in one folder, and their names differ in what they are for: ``a_supernet_x.py``,
``a_search_x.py``, ``a_subnet_x.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from mmrazor_lite.config import schema
from mmrazor_lite.errors import UserError
from mmrazor_lite.walk import kind_of

TRAINING = ("train_dataloader", "train_cfg", "optim_wrapper")
TEST = ("test_dataloader", "test_cfg", "test_evaluator")
_FOLDERS = {
    "AutoSlim": "configs/pruning/autoslim",
    "SPOS": "configs/nas/spos",
    "OFA": "configs/nas/mmcls/onceforall",
}


def _classes(cfg: Mapping) -> list[type]:
    """The class of ``model`` and its bases, as far as they are algorithms; empty for a plain network."""
    from mmrazor_lite.models.algorithms import Algorithm

    found = next((built for _, built in schema.find(cfg["model"]["type"])), None)
    return [cls for cls in getattr(found, "__mro__", ()) if issubclass(cls, Algorithm)]


def kinds(cfg: Mapping) -> frozenset[str]:
    """What the algorithm of a config can be, see ``Algorithm.kinds``; empty for a plain network."""
    classes = _classes(cfg)
    return classes[0].kinds if classes else frozenset()


def require(cfg: Mapping, path: Any, command: str, sections: tuple[str, ...] = ()) -> None:
    """Raise :class:`UserError` where a config lacks the model, or a section that a command reads.

    Args:
        cfg: The config.
        path: Its file.
        command: What is to be done, such as ``"training"``.
        sections: Keys that have to be there.
    """
    if not isinstance(cfg.get("model"), Mapping) or not cfg["model"]:
        has = "data" if any(key.endswith("dataloader") for key in cfg) else "settings"
        raise UserError(f"'{path}' has no model, only {has}: give a config with model=dict(type=...) for {command}")
    lacking = [key for key in sections if cfg.get(key) is None]
    if lacking:
        raise UserError(
            f"'{path}' has no {', '.join(lacking)}: {command} needs {', '.join(sections)}; a config takes them from "
            "_base_, as those in configs/ do"
        )


def no_search(cfg: Mapping, path: Any) -> UserError:
    """Return the error for a config that is to be searched and says no search."""
    require(cfg, path, "a search")
    said, classes = f"'{path}' has no search_cfg: it is not a search config", _classes(cfg)
    names = [cls.__name__ for cls in classes]
    if not classes:
        name = kind_of(cfg["model"])
        return UserError(f"{said}, and {name} has no subnets to search: docs/any_model.md shows how it gets them")
    if "supernet" not in kinds(cfg):
        return UserError(f"{said} but one of a single subnet, for tools/train.py and tools/test.py")
    if "TFNAS" in names:
        return UserError(f"{said}; TF-NAS searches while it trains: tools/train.py {path}")
    folder = next((_FOLDERS[name] for name in names if name in _FOLDERS), "configs/*/*")
    beside = sibling(path, "supernet", "search") or sibling(path, "subnet", "search")
    return UserError(f"{said}, see {beside or f'{folder}/*search*.py'}")


def no_split(cfg: Mapping, path: Any) -> UserError | None:
    """Return the error for a config of something that is not split, or None."""
    require(cfg, path, "a split")
    classes = _classes(cfg)
    name = classes[0].__name__ if classes else kind_of(cfg["model"])
    joint = "what is split is a joint model, of a config with model.type='AutoSlim' and channel_cfg: docs/autoslim.md"
    if not classes:
        return UserError(f"'{path}' is of {name}, which has no subnets; {joint}")
    if "joint" in kinds(cfg):
        return None
    if "supernet" not in kinds(cfg):
        return UserError(f"'{path}' is of one subnet, whose checkpoints are a plain network already; {joint}")
    if "TFNAS" in (cls.__name__ for cls in classes):
        how = "tools/nas/parse_tfnas.py writes the network that it has found, which is then trained"
        return UserError(f"'{path}' is of a TF-NAS search: {how}; {joint}")
    how = "tools/search.py and tools/specialize.py write the best subnet of a supernet as best_subnet.pth"
    return UserError(f"'{path}' is of a supernet ({name}): {how}; {joint}")


def sibling(config: str | os.PathLike, role: str, wanted: str) -> str | None:
    """The config in the same folder that is for ``wanted`` as ``config`` is for ``role``."""
    path = Path(config)
    if role not in path.stem:
        return None
    exact = path.with_name(path.name.replace(role, wanted))
    if exact.is_file() and exact != path:
        return str(exact)
    target = _name(path.stem.replace(role, wanted))
    found = sorted(other for other in path.parent.glob("*.py") if other != path and _name(other.stem) == target)
    if not found:
        return None
    return str(max(found, key=lambda other: SequenceMatcher(None, other.stem, path.stem).ratio()))


def _name(stem: str) -> str:
    """What a config's name says of the network and the images: without batch sizes, kind and limit of a search."""
    parts = [part for part in stem.split("_") if not re.fullmatch(r"\d+xb\d+|evolution|flops\d+", part)]
    return "_".join("in1k" if re.fullmatch(r"in1k\d+", part) else part for part in parts)
