"""What is built alike is traced once, and what may run other ops is not taken for it."""

from __future__ import annotations

import copy
import gc
import importlib
import weakref

import pytest
import torch
import zoo
from torch import nn

from mmrazor_lite.graph import find_width_groups, layer_table, trace
from mmrazor_lite.graph.alike import MAX_KNOWN, Remembered, is_installed
from mmrazor_lite.graph.computation import lines_of


class Block(nn.Module):
    """A conv that is scaled and shifted, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.again = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.options = {"scales": [2.0, 3.0]}
        self.table = torch.arange(4.0).reshape(4, 1, 1)
        self.register_buffer("shift", torch.ones(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(self.conv(x) * self.options["scales"][0] + self.shift + self.table)

    def silent_hook(self, args: tuple) -> None:
        """A hook that does nothing."""


class Other(Block):
    """Runs other ops."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu()


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), Block(), nn.ReLU())


def any_code() -> Remembered:
    """A memory that takes the code of these tests to stay as it is."""
    return Remembered(stays=lambda module: True)


def made_anew(first: nn.Module, second: nn.Module) -> bool:
    """Whether the second of two models is looked at although the first was."""
    known, made = any_code(), []
    for model in (first, second):
        known.get(model, (), lambda model=model: made.append(model))
    return len(made) == 2


def test_models_of_one_code_are_alike():
    first, second = network(), network().eval()
    second[1].shift.fill_(7)
    assert not made_anew(first, second)
    known = any_code()
    assert [known.get(network(), (size,), object) for size in (1, 1)].count(known.get(first, (1,), object)) == 2
    assert known.get(first, (1,), object) is not known.get(first, (2,), object)


def test_the_same_hooks_are_alike():
    def hooked(state: bool) -> nn.Module:
        model = network()
        model[1].register_forward_pre_hook(Block.silent_hook)
        if state:
            model.register_state_dict_post_hook(lambda *_: None)
        return model

    assert not made_anew(hooked(True), hooked(False))
    assert made_anew(hooked(False), network())


def _closure(model: nn.Module) -> None:
    model[1].scale = lambda x: model(x)


CHANGES = {
    "a number": lambda m: setattr(m[0], "stride", (2, 2)),
    "a number inside": lambda m: m[1].options["scales"].__setitem__(0, 2.5),
    "a constant": lambda m: m[1].table.mul_(2),
    "a shape": lambda m: setattr(m[1], "shift", torch.ones(1, 1, 1)),
    "a type": lambda m: m[1].conv.double(),
    "a class": lambda m: setattr(m[1], "__class__", Other),
    "a method": lambda m: setattr(m[1], "forward", m[2].forward),
    "a module more": lambda m: m.append(nn.ReLU()),
    "a shared module": lambda m: setattr(m[1], "again", m[1].conv),
    "a shared weight": lambda m: setattr(m[1].again, "weight", m[1].conv.weight),
    "a hook": lambda m: m[0].register_forward_hook(lambda *_: None),
    "what closes over something": _closure,
    "what cannot be written": lambda m: setattr(m[1], "generator", (x for x in "ab")),
    "no bias": lambda m: setattr(m[0], "bias", None),
    "a weight that is not trained": lambda m: m[0].weight.requires_grad_(False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_not_alike(change):
    first, second = network(), network()
    CHANGES[change](second)
    assert made_anew(first, second)
    assert made_anew(second, network())


def test_a_class_of_the_same_name_is_another():
    def build() -> nn.Module:
        class Net(nn.Module):
            def forward(self, x):
                return x

        return Net()

    assert made_anew(build(), build())


@pytest.mark.parametrize(
    ("name", "value"), [("forward", Other.forward), ("marked", property(lambda self: 1)), ("__doc__", "Another.")]
)
def test_a_class_that_is_changed_is_another(monkeypatch, name, value):
    known = any_code()
    before = known.get(network(), (), object)
    assert known.get(network(), (), object) is before
    monkeypatch.setattr(Block, name, value, raising=False)
    assert known.get(network(), (), object) is not before


@pytest.mark.parametrize("state", [torch.no_grad, lambda: torch.autocast("cpu")])
def test_how_a_model_is_run_counts(state):
    known = any_code()
    before = known.get(network(), (), object)
    with state():
        assert known.get(network(), (), object) is not before


def test_few_are_remembered_and_none_is_held():
    known = any_code()
    first = known.get(network(), (), object)
    for size in range(MAX_KNOWN):
        known.get(network(), (size,), object)
    assert known.get(network(), (), object) is not first
    model = zoo.ZOO["resnet18"].build()
    trace(model, (3, 32, 32))
    gone = [weakref.ref(model), weakref.ref(model.conv1.weight)]
    del model
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_a_trace_is_of_the_model_given():
    models = [zoo.ZOO["resnet18"].build() for _ in range(2)]
    models[1].bn1.running_mean.fill_(7)
    with torch.no_grad():  # as files are loaded
        traces = [trace(models[0], (3, 32, 32))]
    traces.append(trace(models[1], (3, 32, 32)))
    assert traces[0].eval.ops[0].node is traces[1].eval.ops[0].node  # one program
    for model, traced in zip(models, traces, strict=True):
        assert traced.model is model
        buffers = [traced.eval.values[n] for n, name in traced.eval.names.items() if name == ("bn1", "running_mean")]
        assert len(buffers) == 1 and buffers[0] is model.bn1.running_mean


def helper(x: torch.Tensor) -> torch.Tensor:
    return x.relu()


class CallsAHelper(nn.Module):
    """Its class stays the same where the function is written anew, as in a notebook."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(helper(self.first(x)))


def test_code_that_is_being_written_is_traced_anew(monkeypatch):
    before = [op.kind for op in trace(CallsAHelper(), (3, 8, 8)).eval.ops]
    monkeypatch.setitem(globals(), "helper", torch.tanh)
    after = [op.kind for op in trace(CallsAHelper(), (3, 8, 8)).eval.ops]
    assert "relu" in before and "tanh" in after and "relu" not in after
    importlib.import_module("mmrazor_lite.models.backbones.cifar")
    assert is_installed("torchvision.models.resnet") and is_installed("mmrazor_lite.models.backbones.cifar")
    assert not is_installed("__main__") and not is_installed(__name__)


@pytest.mark.parametrize("name", ["densenet", "vit"])
def test_all_that_follows_is_the_same(name):
    variant = zoo.ZOO[name]
    first = variant.build()
    traces = [trace(model, variant.input_shape) for model in (first, copy.deepcopy(first))]
    assert traces[0].eval.ops[0].node is traces[1].eval.ops[0].node
    assert (traces[0].train is traces[0].eval) == (traces[1].train is traces[1].eval)
    assert lines_of(traces[0]) == lines_of(traces[1])
    graphs = [find_width_groups(traced) for traced in traces]
    assert graphs[0].groups == graphs[1].groups and graphs[0].fixed == graphs[1].fixed
    tables = [layer_table(*pair) for pair in zip(traces, graphs, strict=True)]
    assert repr(tables[0]) == repr(tables[1])
