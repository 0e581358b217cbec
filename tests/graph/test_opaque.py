"""Modules kept out of the trace: one op each, at full width, with exact costs; the rest stays searchable."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from handmade import block
from torch import nn
from zoo import prepare

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import trace
from mmrazor_lite.graph.opaque import opaque


class Gate(nn.Module):
    """An ``if`` on the data, with everything inside that costs something."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.fc, self.pool = nn.Linear(channels, channels), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        scale = self.fc(nn.functional.relu6(self.pool(x)).flatten(1))[:, :, None, None]
        y = torch.relu(self.norm(self.conv(x))) * torch.sigmoid(scale)
        if y.sum() > 0:
            return x + y
        return x - y


class Pair(nn.Module):
    """Returns more than a tensor, takes a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x, *, times):
        y = self.conv(x)
        return {"both": (x, y if y.mean() > 0 else -y), "times": times}


class Net(nn.Module):
    def __init__(self, body: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second, self.third = block(3, 16), block(16, 8), block(8, 12)
        self.body, self.head = body or Gate(), nn.Conv2d(12, 5, 1)

    def forward(self, x):
        return self.head(self.third(self.body(self.second(self.first(x))))).mean((2, 3))


class Nested(nn.Module):
    """Calls a pair twice, and one gate inside another module that matches too."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.gates = Pair(), nn.Sequential(Gate(), Gate())

    def forward(self, x):
        first = self.pair(x, times=2)
        second = self.pair(first["both"][1], times=3)
        assert second["times"] == 3
        return self.gates(second["both"][0])


@pytest.mark.parametrize("subnet", ["max", "min", "sample"])
@pytest.mark.parametrize(("body", "patterns"), [(Gate, ["body"]), (Nested, ["body.pair", "body.gates*"])])
def test_the_rest_is_searchable_and_right(body, patterns, subnet):
    torch.manual_seed(0)
    twin = prepare(Net(body()), (3, 8, 8), opaque=patterns, any_width=True)
    assert [mutable.name for mutable in twin.mutator.mutables] == ["first.0", "third.0"]
    reasons = {layer.layer: layer.reason for layer in twin.mutator.fixed}
    assert patterns[0] in reasons["second.0"] and "opaque" in reasons["second.0"]
    inside = {f"body.{name}" for name, m in twin.plain.body.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert all("opaque" in reasons[name] for name in inside)
    space = twin.mutator.search_space
    draw = (np.random.default_rng(0),) if subnet == "sample" else ()
    oracles.assert_subnet_is_right(twin.double(), getattr(space, subnet)(*draw))


def test_a_layer_that_is_also_used_outside_stays_too():
    class Shares(Net):
        def __init__(self) -> None:
            super().__init__()
            self.body.outside = self.outside = nn.Conv2d(16, 16, 1)

        def forward(self, x):
            x = self.outside(self.first(x))
            return self.head(self.third(self.body(self.second(x)))).mean((2, 3))

    torch.manual_seed(0)
    twin = prepare(Shares(), (3, 8, 8), opaque=["body"], any_width=True)
    assert [mutable.name for mutable in twin.mutator.mutables] == ["third.0"]
    oracles.assert_subnet_is_right(twin.double(), twin.mutator.search_space.min())


def test_each_call_is_one_op():
    traced = trace(Net(Nested()), (3, 8, 8), opaque=["body.pair", "body.gates", "body.gates.1"])
    for graph in traced.graphs:
        ops = [op for op in graph if op.kind == "opaque"]
        # two tensors come out of each call of the pair; the inner gate is part of the outer module
        assert [op.module_path for op in ops] == ["body.pair"] * 4 + ["body.gates"]
        macs = [op.argument("macs") for op in ops]
        assert macs == [64 * 64, 0, 64 * 64, 0, 2 * (64 * 9 * 64 + 64)]
        assert sum(op.argument("extra_flops") for op in ops[:4]) == 2 * 64 * 8  # the biases of the convs
        assert not [op for op in graph if op.layer and op.layer.startswith("body")]


def test_the_model_is_left_as_it_was():
    model = Net().train()
    model.body.norm.eval()
    own = model.body.conv.forward
    model.body.conv.forward = own  # a forward that somebody set on the module
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    trace(model, (3, 8, 8), opaque=["body", "body.conv"])
    assert model.training and not model.body.norm.training
    assert "forward" not in model.body.__dict__ and model.body.conv.__dict__["forward"] is own
    assert not model.body._forward_hooks and not model.body._forward_pre_hooks
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_forwards_come_back_after_an_error():
    model = Net()
    with pytest.raises(ZeroDivisionError), opaque(model, ["body"], torch.zeros(2, 3, 8, 8)):
        assert "forward" in model.body.__dict__
        raise ZeroDivisionError
    assert "forward" not in model.body.__dict__


def test_a_run_that_fails_is_told_with_its_place():
    model = Net(Gate(9))
    with pytest.raises(UserError, match=r"nor run: module 'body.fc' \(Linear\)"):
        trace(model, (3, 8, 8), opaque=["body"])
    assert not model.body._forward_hooks and "forward" not in model.body.__dict__


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match=r"opaque: no module of Net matches 'boddy' \(did you mean 'body'\?\)"):
        trace(Net(), (3, 8, 8), opaque=["boddy"])
