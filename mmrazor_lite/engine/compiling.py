"""``compile`` of a config: which networks it is for, and which part of one it compiles."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from mmrazor_lite.errors import UserError


def check_compile(options: Any, model: nn.Module) -> None:
    """Refuse to compile a network whose widths change from pass to pass: each would be compiled anew."""
    if options is not None and not isinstance(options, bool | Mapping):
        raise UserError(f"compile={options!r}: give True, or the arguments of torch.compile as a dict")
    kind = getattr(model, "kind", "subnet")
    if options not in (None, False) and kind != "subnet":
        raise UserError(
            f"compile: this is a {'supernet' if kind == 'supernet' else 'model of several subnets'}, whose widths "
            "change in every pass; remove it, or compile the retraining of one subnet"
        )


def compile_network(options: bool | Mapping | None, algorithm: nn.Module, logger: logging.Logger) -> None:
    """Compile the network where ``options`` say so; the step around it seeds and checks on the host."""
    if options in (None, False):
        return
    architecture = getattr(algorithm, "architecture", algorithm)
    parts = (getattr(architecture, name, None) for name in ("backbone", "net"))
    network = next((part for part in parts if isinstance(part, nn.Module)), architecture)
    network.compile(**({} if options is True else options))  # in place: names in checkpoints stay
    logger.info(f"{type(network).__name__} is compiled in the first steps, which are slow")
