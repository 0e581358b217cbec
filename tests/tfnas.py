"""What tests of TF-NAS share: a tiny network, its supernet, and a latency table that can be computed by hand."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from mmrazor_lite.estimators.cells import Cell
from mmrazor_lite.estimators.latency_table import LatencyTable
from mmrazor_lite.models.backbones import TFNASNet
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.models.mutators import NasMutator

SHAPE = (3, 16, 16)
STAGES = [[8, 2, 2, "ReLU"], [12, 2, 1, "SiLU"], [12, 1, 1, "SiLU"]]
OPERATORS = tuple(f"MBI_k{k}_e{e}{se}" for se in ("", "_se") for k in (3, 5) for e in (3, 6))  # as published
OPTIONS = {"arch_setting": STAGES, "stem_channels": (8, 6), "stem_stride": 1, "stem_se": 4, "last_channels": 16}
BLOCKS = [f"backbone.layers.{stage}.{block}" for stage, row in enumerate(STAGES) for block in range(row[1])]


class Net(nn.Module):
    """A backbone with a classifier."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.backbone = TFNASNet(**{**OPTIONS, **options})
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 5)."""
        return self.fc(self.backbone(x)[0])


@functools.cache
def _prepared() -> tuple[Net, NasMutator]:
    torch.manual_seed(0)
    model = Net()
    for module in model.modules():  # statistics and norms that show a wrong slice
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    plain = copy.deepcopy(model)
    mutator = NasMutator()
    mutator.prepare(model, SHAPE)
    return plain, mutator


def prepared() -> tuple[Net, Net, NasMutator]:
    """The untouched network, the same in float64 after ``prepare``, and its mutator; a test may change them."""
    plain, mutator = copy.deepcopy(_prepared())
    return plain.double(), mutator.architecture.double(), mutator


def images(n: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random images."""
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def operators(mutator: NasMutator) -> dict[str, MutableOP]:
    """The operator choices of a mutator by name, in order."""
    return {name: module for name, module in mutator.modules.items() if isinstance(module, MutableOP)}


def table_of(mutator: NasMutator, base: float = 1.0) -> LatencyTable:
    """A table with a formula: block b with operator o at width w takes (1 + b / 10) * (0.01 w + 0.05 o) ms."""
    cells, space = [], mutator.search_space
    for block, (name, module) in enumerate(operators(mutator).items()):
        widths = tuple(f"{name}.{candidate}.mid_channels" for candidate in module.names)
        values = np.full((len(widths), max(len(space[width].candidates) for width in widths)), np.nan)
        for op, width in enumerate(widths):
            offered = np.array(space[width].candidates)
            values[op, : len(offered)] = milliseconds(block, op, offered)
        cells.append(Cell(name, (name, widths), values[..., None]))
    return LatencyTable(space, Cell("", (), np.array([base])), cells)


def milliseconds(block: int, op: int, width: Any) -> Any:
    """The formula of :func:`table_of`."""
    return (1 + block / 10) * (0.01 * width + 0.05 * op)


def choices_of(stages: Sequence[Sequence[Sequence[int]]], depths: Sequence[int]) -> dict[str, Any]:
    """The choices of published notation: per stage a list of (operator index, width); ``depths`` there may be."""
    choices: dict[str, Any] = {}
    for stage, (blocks, most) in enumerate(zip(stages, depths, strict=True)):
        if most > 1:
            choices[f"backbone.layers.{stage}.depth"] = len(blocks)
        for index, (op, width) in enumerate(blocks):
            name = f"backbone.layers.{stage}.{index}"
            choices |= {name: OPERATORS[op], f"{name}.{OPERATORS[op]}.mid_channels": width}
    return choices
