"""Static subnets, split checkpoints, and the one way in and out for weights."""

from typing import TYPE_CHECKING, Any

from mmrazor_lite.checkpoints import (
    checkpoint_hash,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    state_dict_of,
)
from mmrazor_lite.export.onnx_file import export_onnx
from mmrazor_lite.export.portable import export_pt2
from mmrazor_lite.late import late

if TYPE_CHECKING:
    from mmrazor_lite.delivery import deliver
    from mmrazor_lite.export.best_subnet import write_best_checkpoint
    from mmrazor_lite.export.splitting import split
    from mmrazor_lite.export.subnet_loading import load_subnet

__all__ = [
    "checkpoint_hash",
    "deliver",
    "export_onnx",
    "export_pt2",
    "load_subnet",
    "load_weights",
    "read_checkpoint",
    "save_checkpoint",
    "split",
    "state_dict_of",
    "write_best_checkpoint",
]

_configs = late(
    __name__, {"load_subnet": "subnet_loading", "split": "splitting", "write_best_checkpoint": "best_subnet"}
)
_above = late("mmrazor_lite", {"deliver": "delivery"})


def __getattr__(name: str) -> Any:
    """What builds networks from configs, and what stands on everything else."""
    return _above(name) if name == "deliver" else _configs(name)
