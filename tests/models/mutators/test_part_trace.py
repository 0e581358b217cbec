"""A part that is costed from the trace of a like one costs what its own trace says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmrazor_lite.models.backbones import MBBlock, ShuffleBlock, TFNASBlock
from mmrazor_lite.models.mutators import part_trace

NORM = {"type": "BN"}
SE = {"se_channels": 4, "act_cfg": {"type": "Swish"}}
BLOCKS = {
    "shuffle": lambda k: ShuffleBlock(8, 16, kernel_size=k, stride=2, norm_cfg=NORM),
    "mobile": lambda k: MBBlock(8, 8, kernel_size=k, expand_ratio=3, norm_cfg=NORM),
    "tfnas": lambda k: TFNASBlock(8, 16, 32, kernel_size=k, stride=2, mid_widths=range(16, 33), **SE),
    "dense": lambda k: nn.Sequential(nn.Conv2d(8, 4, k, padding=k // 2), nn.ReLU(), nn.Conv2d(4, 8, 1)),
}
UNLIKE = {  # the size of its map, or what it computes, follows from the kernel
    "no padding": lambda k: nn.Sequential(nn.Conv2d(8, 4, k), nn.ReLU()),
    "dilated": lambda k: nn.Sequential(nn.Conv2d(8, 4, k, padding=k // 2, dilation=2), nn.ReLU()),
    "not square": lambda k: nn.Sequential(nn.Conv2d(8, 4, (k, 1), padding=k // 2), nn.ReLU()),
    "alone": lambda k: nn.Conv2d(8, 4, k, padding=k // 2),
    "same weight": lambda k: twice(nn.Conv2d(8, 8, k, padding=k // 2)),
}


def twice(layer: nn.Module) -> nn.Module:
    """Two layers with one weight."""
    other = copy.copy(layer)
    other._parameters = dict(layer._parameters)
    return nn.Sequential(layer, other)


@pytest.fixture(autouse=True)
def traces(monkeypatch) -> list:
    """The parts that were traced; none is known at the start."""
    made, trace = [], part_trace.trace
    monkeypatch.setattr(part_trace, "_KNOWN", {})
    monkeypatch.setattr(
        part_trace, "trace", lambda module, *args, **options: made.append(module) or trace(module, *args, **options)
    )
    return made


def rows(module: nn.Module) -> str:
    """All of its table."""
    table = part_trace.trace_alone(module.eval(), (8, 12, 12), groups=getattr(module, "inner_groups", ())).table
    return repr([table.rows, table.weights, table.alive, table.parameter_bytes, table.places])


@pytest.mark.parametrize("name", BLOCKS)
def test_one_trace_serves_all_kernels(name, traces, monkeypatch):
    shared = [rows(BLOCKS[name](k)) for k in (5, 3, 7)]
    assert len(traces) == 1
    for k, found in zip((5, 3, 7), shared, strict=True):
        monkeypatch.setattr(part_trace, "_KNOWN", {})
        assert rows(BLOCKS[name](k)) == found
    assert len(set(shared)) == 3


@pytest.mark.parametrize("name", UNLIKE)
def test_others_are_traced_by_themselves(name, traces):
    assert rows(UNLIKE[name](3)) != rows(UNLIKE[name](5))
    assert len(traces) == 2


@pytest.mark.parametrize("name", ["mobile", "dense"])
def test_wider_numbers_are_traced_by_themselves(name, traces, monkeypatch):
    """The bytes of every map double; what was traced before, in this process, does not speak for them."""
    rows(BLOCKS[name](3).double())
    single = rows(BLOCKS[name](3))
    monkeypatch.setattr(part_trace, "_KNOWN", {})
    assert rows(BLOCKS[name](3)) == single and len(traces) == 3


def test_a_wider_buffer_is_traced_by_itself(traces):
    class Offset(nn.Module):
        def __init__(self, *size: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 4, 1)
            self.register_buffer("offset", torch.zeros(size))

        def forward(self, x):
            return self.conv(x + self.offset)

    assert rows(Offset(1)) != rows(Offset(1).double()) and len(traces) == 2
    assert rows(Offset(1)) and len(traces) == 2
    assert rows(Offset(8, 1, 1)) and len(traces) == 3
