"""What a checkpoint may hold beside tensors, and what becomes of it.

Public training scripts put their options, paths and settings beside the weights. Objects of the classes below are read
as nothing: no code of theirs runs, what they hold is dropped, and whatever led to them is left out of the content.
Subclasses of dict are read as plain ones. A name that is on no list is refused.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

# Classes that only describe a run; by the names that their pickles have.
_DESCRIPTIONS = (
    *("argparse.Namespace", "types.SimpleNamespace", "typing.Any"),
    *(f"builtins.{name}" for name in ("bool", "float", "int", "str", "tuple", "frozenset")),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    ),
    "torch.torch_version.TorchVersion",
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(
        f"omegaconf.nodes.{name}Node"
        for name in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")
    ),
    "ml_collections.config_dict.config_dict.ConfigDict",
    *(
        f"{package}.callbacks.{name}"
        for package in ("pytorch_lightning", "lightning.pytorch")
        for name in ("model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping")
    ),
    *("utils.meters.Meter", "utils.meters.ScalarMeter"),  # of slimmable_networks
)
# Subclasses of dict, read as a plain one.
_MAPPINGS = (
    "collections.defaultdict",
    "easydict.EasyDict",
    "addict.addict.Dict",
    *("yacs.config.CfgNode", "fvcore.common.config.CfgNode", "detectron2.config.config.CfgNode"),
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
_NUMBERS = (
    *(np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8),
    *(np.uint64, np.uint32, np.uint16, np.uint8, np.bool_, np.str_),
)


class Inert:
    """Stands where an object was that only describes a run; takes any arguments and any state, and keeps none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Make one, whatever the arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Forget ``state``."""


class _Mapping(OrderedDict):
    """A subclass of dict, while it is read: the arguments that make one (such as a factory) and its state are lost."""

    def __new__(cls, *args: Any, **kwargs: Any) -> OrderedDict:
        """Make a plain one, which entries can be set of."""
        return OrderedDict()


def _history() -> type:
    """mmengine's class of a log's history; where nobody has imported it, nobody needs one."""
    module = sys.modules.get(_HISTORY.rpartition(".")[0])
    return Inert if module is None else module.HistoryBuffer


def _history_statistic(owner: type, name: str) -> Any:
    """Stand in for ``getattr`` in the pickles of mmengine's log history, which name its four statistics with it."""
    if owner is _history() and name in ("min", "max", "mean", "current"):
        return Inert if owner is Inert else getattr(owner, name)
    raise ValueError(f"getattr({owner!r}, {name!r}) is not allowed")


def allowed_globals() -> list[Any]:
    """Everything beside tensors and plain data that the pickle of a checkpoint may name."""
    reconstruct = np.ndarray(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [(_history(), _HISTORY), np.ndarray, np.dtype, (_history_statistic, "builtins.getattr")]
    for package in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2 write different names for the same functions
        allowed += [(reconstruct, f"{package}.multiarray._reconstruct"), (scalar, f"{package}.multiarray.scalar")]
    allowed += [type(np.dtype(kind)) for kind in _NUMBERS]
    allowed += [(Inert, name) for name in _DESCRIPTIONS] + [(_Mapping, name) for name in _MAPPINGS]
    return [*allowed, (dict, "builtins.dict"), (list, "builtins.list")]


def without_inert(value: Any) -> Any:
    """Return what :func:`check_content` has seen in containers of its own, without what was read as nothing."""
    if type(value) in (dict, OrderedDict):
        # By the classes' own method: the instance may carry attributes that hide it.
        items = ((key, without_inert(item)) for key, item in dict.items(value) if not _is_inert(key))
        copy = type(value)((key, item) for key, item in items if not _is_inert(item))
        metadata = vars(value).get("_metadata") if type(value) is OrderedDict else None
        if isinstance(metadata, Mapping):
            copy._metadata = metadata  # type: ignore[attr-defined]
        return copy
    if type(value) in (list, tuple):
        parts = map(without_inert, value)
        return type(value)(None if _is_inert(part) else part for part in parts)
    return value


def _is_inert(value: Any) -> bool:
    return isinstance(value, Inert) or value is Inert or value is _Mapping
