"""Tracing: both modes, refusals in one line, and models left as they were."""

from __future__ import annotations

import pytest
import torch
from handmade import Net, block
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import TraceError, find_width_groups, layer_table, trace
from mmrazor_lite.models.mutators import OneShotChannelMutator
from mmrazor_lite.models.ops import KIND


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 8)

    def forward(self, x, y):
        return self.a(x) + y


class DependsOnTheData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 8)

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.a(-x)


@pytest.mark.parametrize("cls", [TwoInputs, DependsOnTheData])
def test_what_cannot_be_traced_is_refused_in_one_line(cls):
    model = cls().train()
    model.a[1].eval()
    with pytest.raises(TraceError, match=f"{cls.__name__}: cannot be traced in eval mode") as error:
        OneShotChannelMutator().prepare(model, (3, 8, 8))
    assert isinstance(error.value, UserError) and "\n" not in str(error.value)
    assert model.training and not model.a[1].training
    assert type(model.a[0]) is nn.Conv2d


def test_an_image_too_small_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 7), nn.Conv2d(8, 4, 7))
    with pytest.raises(TraceError, match="input_shape"):
        trace(model, (3, 8, 8))


def test_tracing_changes_nothing():
    model = Net()
    model.body = nn.Identity()
    model.stem[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    traced = trace(model, (1, 3, 8, 8))
    assert traced.input_shape == (3, 8, 8)
    assert model.training and not model.stem[1].training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_ops_name_their_layers_and_arguments():
    model = Net()
    model.body = nn.Identity()
    ops = list(trace(model, (3, 8, 8)).eval)
    assert [(op.kind, op.inplace, op.layer) for op in ops] == [
        ("conv2d", False, "stem.0"),
        ("batch_norm", False, "stem.1"),
        ("relu", False, None),
        ("conv2d", False, "head"),
        ("mean", False, None),
    ]
    assert [op.module_path for op in ops] == ["stem.0", "stem.1", "stem.2", "head", ""]
    assert ops[0].argument("groups") == 1 and list(ops[0].argument("padding")) == [1, 1]


def test_table_rows():
    model = Net()
    model.body = nn.Identity()
    traced = trace(model, (3, 8, 8))
    table = layer_table(traced, find_width_groups(traced, KIND))
    rows = [(row.name, row.kind, row.positions, row.kernel, len(row.inputs), len(row.outputs)) for row in table.rows]
    assert rows == [
        ("stem.0", "conv", 64, 9, 3, 16),
        ("stem.1", "norm", 64, 1, 1, 16),
        ("stem.2", "activation", 64, 1, 1, 16),
        ("head", "conv", 64, 1, 16, 5),
        ("", "pool", 64, 1, 1, 5),
    ]
    assert sum(row.kernel * len(row.inputs) * len(row.outputs) for row in table.weights) == sum(
        parameter.numel() for parameter in model.parameters()
    )
