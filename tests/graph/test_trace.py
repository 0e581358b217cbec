"""Tracing: both modes, refusals in one line, and models left as they were."""

from __future__ import annotations

import ast

import pytest
import torch
from handmade import Net, block
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import TraceError, find_width_groups, layer_table, trace
from mmrazor_lite.models.mutators import OneShotChannelMutator


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


class OnlyInTraining(DependsOnTheData):
    def forward(self, x):
        return self.a(x) if not self.training else super().forward(x)


class ShapeFromTheData(DependsOnTheData):
    def forward(self, x):
        x = self.a(x)
        return x[x > 0].sum() + x


class Counts(DependsOnTheData):
    """Keeps its place in a buffer that a run changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += 1
        return super().forward(x)


class LeavesTorch(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.detach().numpy()) * 1


class TooWide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(9, 8, 1)

    def forward(self, x):
        return self.a(x) + 1


class Custom:
    """An output that no graph can hold."""


class ReturnsAnObject(nn.Module):
    def forward(self, x):
        return Custom()


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (TwoInputs, ["in eval mode", "nor run", "missing 1 required positional argument: 'y'", "wrap the model"]),
        (
            DependsOnTheData,
            ["in eval mode", "module 'net' (DependsOnTheData)", "'return self.a(x) if x.sum() > 0 else self.a(-x)'"],
        ),
        (OnlyInTraining, ["in train mode", "module 'net' (OnlyInTraining)", "else self.a(-x)'", "opaque=['net']"]),
        (ShapeFromTheData, ["module 'net'", "'return x[x > 0].sum() + x'", "op aten.index", "depends on the data"]),
        (Counts, ["module 'net' (Counts)", "x.sum() > 0", "a Python value is made of a tensor's values"]),
        (LeavesTorch, ["module 'net'", "'return torch.from_numpy(", "of test_trace.py:", ".numpy() is not supported"]),
        (TooWide, ["nor run", "module 'net.a' (Conv2d)", "'return self.a(x) + 1'", "another input_shape"]),
        (ReturnsAnObject, ["not a known type", "returns tensors, tuples, lists or dicts"]),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(cls, words, capfd):
    model = nn.Sequential()
    model.net = cls()
    model.train()
    for module in model.net.children():
        module.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with pytest.raises(TraceError, match="^Sequential: cannot be traced in ") as error:
        OneShotChannelMutator().prepare(model, (3, 8, 8))
    line = str(error.value)
    assert isinstance(error.value, UserError) and "\n" not in line
    assert [word for word in words if word not in line] == [], line
    assert capfd.readouterr() == ("", "")  # torch would print pages
    assert model.training and not any(module.training for module in model.net.children())
    assert not any(type(module).__name__.startswith("Dynamic") for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_the_model_itself_cannot_be_opaque():
    with pytest.raises(TraceError, match=r"the model itself \(DependsOnTheData\), line .* into a module of its own"):
        trace(DependsOnTheData(), (3, 8, 8), ())


class Branches(nn.Module):
    """A stem and blocks, of which some look at the data."""

    def __init__(self, *looking: int, count: int = 4) -> None:
        super().__init__()
        self.stem, self.fc = block(3, 8), nn.Linear(8, 5)
        self.blocks = nn.Sequential(*(Looks() if i in looking else block(8, 8) for i in range(count)))

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class Looks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = block(8, 8)

    def forward(self, x):
        return self.inner(x) if x.sum() > 0 else self.inner(-x)


@pytest.mark.parametrize(
    ("model", "names"),
    [(Branches(1), ["blocks.1"]), (Branches(0, 2, 3), ["blocks.0", "blocks.2", "blocks.3"])],
)
def test_the_way_out_of_the_message_works(model, names):
    """It names all modules that have to be kept out, and with them the network is prepared."""
    with pytest.raises(TraceError, match="Way out: rewrite that line, or keep the module") as error:
        OneShotChannelMutator().prepare(model, (3, 8, 8))
    advice = ast.literal_eval(str(error.value).rpartition("opaque=")[2])
    assert advice == names
    mutator = OneShotChannelMutator(opaque=advice)
    mutator.prepare(model, (3, 8, 8))
    reasons = {layer.layer: layer.reason for layer in mutator.fixed}
    assert all("opaque" in reasons[f"{name}.inner.0"] for name in names)


def test_a_way_out_that_the_caller_does_not_have_is_not_given():
    with pytest.raises(TraceError, match="module 'blocks.1' .* Way out: rewrite that line$"):
        trace(Branches(1), (3, 8, 8))


def test_a_way_out_that_leads_nowhere_is_not_given():
    """More modules look at the data than a message may name."""
    with pytest.raises(TraceError, match="module 'blocks.0' .* Way out: rewrite that line$"):
        OneShotChannelMutator().prepare(Branches(*range(6), count=6), (3, 8, 8))


def test_an_image_too_small_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 7), nn.Conv2d(8, 4, 7))
    with pytest.raises(TraceError, match=r"module '1' \(Conv2d\): .* try another input_shape"):
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
    table = layer_table(traced, find_width_groups(traced))
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
