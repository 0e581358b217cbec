"""An exported subnet stands alone: what a copy cannot follow is refused when the network is prepared, with its place.

``Works`` lists ways to reach modules and features that a copy follows; ``REFUSED`` those that it does not.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import threading

import pytest
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import alike
from mmrazor_lite.graph.alike import Remembered
from mmrazor_lite.graph.versions import RELEASE
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.models.mutators import NasMutator, OneShotChannelMutator, standalone

SHAPE = (3, 8, 8)


class Base(nn.Module):
    """Two blocks whose features meet in a third layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.mix, self.fc = nn.Conv2d(24, 12, 1), nn.Linear(12, 5)
        self.seen: dict[str, Tensor] = {}
        self.make()

    def make(self) -> None:
        pass

    def first(self) -> Tensor:
        """The features of ``a``."""
        return self.seen["a"]

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        return self.fc(self.mix(torch.cat([self.first(), y], 1)).relu().mean((2, 3)))


class Chain(Base):
    """Without features that are kept."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        return self.fc(self.mix(torch.cat([y, y], 1)).relu().mean((2, 3)))


# what a copy follows --------------------------------------------------------------------------------------------


class MethodAsHook(Base):
    def make(self):
        self.a.register_forward_hook(self.keep)

    def keep(self, module, args, out):
        self.seen["a"] = out


class PartialOfMethod(Base):
    def make(self):
        self.a.register_forward_hook(functools.partial(self.keep, "a"))

    def keep(self, key, module, args, out):
        self.seen[key] = out


def keep_on_the_module(module, args, out):
    module.kept = [out]


class OnTheModule(Base):
    def make(self):
        self.a.register_forward_hook(keep_on_the_module)

    def first(self):
        return self.a.kept[0]


class PreHook(Base):
    def make(self):
        self.b.register_forward_pre_hook(self.keep)

    def keep(self, module, args):
        self.seen["a"] = args[0]


class AsAnAttribute(Base):
    def forward(self, x):
        self.kept = self.a(x)
        return super().forward(x)

    def first(self):
        return self.kept


class CountsOnly(Chain):
    """A hook that looks at the network it was made in and changes nothing."""

    def make(self):
        self.calls = 0
        self.a.register_forward_hook(lambda module, args, out: len(list(self.parameters())) and None)


class WeightNorm(Chain):
    def make(self):
        torch.nn.utils.weight_norm(self.b[0])


class SpectralNorm(Chain):
    def make(self):
        torch.nn.utils.spectral_norm(self.b[0])


class Parametrized(Chain):
    def make(self):
        torch.nn.utils.parametrizations.weight_norm(self.b[0])


class PlainList(Chain):
    def make(self):
        self.order = [self.a[0], *self.a[1:], self.b]

    def forward(self, x):
        for layer in self.order:
            x = layer(x)
        return self.fc(self.mix(torch.cat([x, x], 1)).relu().mean((2, 3)))


class PlainDict(Chain):
    def make(self):
        self.parts = {"a": self.a[0], "rest": (self.a[1], self.a[2])}

    def forward(self, x):
        x = self.parts["a"](x)
        for layer in self.parts["rest"]:
            x = layer(x)
        x = self.b(x)
        return self.fc(self.mix(torch.cat([x, x], 1)).relu().mean((2, 3)))


class MethodAsAttribute(Chain):
    def make(self):
        self.run = self.b[0].forward

    def forward(self, x):
        x = self.run(self.a(x))
        return self.fc(self.mix(torch.cat([x, x], 1)).relu().mean((2, 3)))


@dataclasses.dataclass
class Holder:
    layer: nn.Module


class InADataclass(Chain):
    def make(self):
        self.holder = Holder(self.b)

    def forward(self, x):
        x = self.holder.layer(self.a(x))
        return self.fc(self.mix(torch.cat([x, x], 1)).relu().mean((2, 3)))


class Closure(Base):
    def make(self):
        self.a.register_forward_hook(lambda module, args, out: self.seen.__setitem__("a", out))


class ClosureOverTheDictionary(Base):
    def make(self):
        seen = self.seen

        def keep(module, args, out):
            seen["a"] = out

        self.a.register_forward_hook(keep)


class ClosureInTraining(Base):
    """The features are read in train mode only."""

    def make(self):
        self.a.register_forward_hook(lambda module, args, out: self.seen.__setitem__("a", out))

    def forward(self, x):
        y = self.b(self.a(x))
        first = self.seen["a"] if self.training else y
        return self.fc(self.mix(torch.cat([first, y], 1)).relu().mean((2, 3)))


class ForwardOfAnother(Chain):
    def make(self):
        b = self.b
        self.run = lambda x: b(x)

    def forward(self, x):
        x = self.run(self.a(x))
        return self.fc(self.mix(torch.cat([x, x], 1)).relu().mean((2, 3)))


class WeightsOfAnother(Chain):
    """A pre-hook that makes a weight of two others, of the network in which it was made."""

    def make(self):
        self.scale = nn.Parameter(torch.ones(12))
        weight = self.b[0].weight.detach().clone()
        del self.b[0]._parameters["weight"]
        self.b[0].weight = weight
        hook = lambda module, args: setattr(module, "weight", weight * self.scale.view(-1, 1, 1, 1))  # noqa: E731
        self.b[0].register_forward_pre_hook(hook)


class Statistics(Chain):
    """A hook that averages in train mode, into the network in which it was made."""

    def make(self):
        self.register_buffer("mean", torch.zeros(()))
        self.a.register_forward_hook(lambda module, args, out: self.note(out))

    def note(self, out):
        if self.training:
            self.mean.mul_(0.9).add_(out.detach().mean(), alpha=0.1)


class Counter(Chain):
    """Functions that share a variable."""

    def make(self):
        calls = 0

        def count(module, args, out):
            nonlocal calls
            calls += self.training

        self.a.register_forward_hook(count)
        self.count = lambda: calls


WORKS = [
    MethodAsHook, PartialOfMethod, OnTheModule, PreHook, CountsOnly, WeightNorm, SpectralNorm, Parametrized,
    PlainList, PlainDict, MethodAsAttribute, InADataclass, AsAnAttribute,
    Closure, ClosureOverTheDictionary, ClosureInTraining, ForwardOfAnother, WeightsOfAnother, Statistics, Counter,
]  # fmt: skip
KEEP = {
    MethodAsHook, PartialOfMethod, PreHook, AsAnAttribute, Closure, ClosureOverTheDictionary, ClosureInTraining,
}  # fmt: skip
ALL_CHOICES = {PlainList, PlainDict, MethodAsAttribute, CountsOnly}  # everything a plain chain has


def refused_by_older_torch(build: type) -> bool:
    """Networks that keep features: ``torch.export`` of older releases refuses them, and what it says is passed on."""
    if RELEASE >= (2, 15) or build not in KEEP:
        return False
    try:
        OneShotChannelMutator(divisor=2).prepare(build(), SHAPE)
    except UserError as error:
        return re.search(r"cannot be traced in eval mode .*(assigned during export|arity)", str(error)) is not None
    return False


@pytest.mark.parametrize("build", WORKS)
def test_a_subnet_computes_and_learns_what_the_network_does(build):
    if refused_by_older_torch(build):
        return
    torch.manual_seed(0)
    model, mutator = build(), OneShotChannelMutator(divisor=2)
    mutator.prepare(model, SHAPE)
    assert len(mutator.mutables) == (3 if build in ALL_CHOICES else len(mutator.mutables)) > 0
    model.train()(torch.randn(4, *SHAPE)).sum().backward()  # whatever is kept now has a history
    for subnet in (mutator.search_space.max(), mutator.search_space.min()):
        plain = mutator.export(subnet)
        mutator.activate(subnet)
        for batch in (1, 3):
            images = torch.randn(batch, *SHAPE)
            torch.testing.assert_close(plain.eval()(images), model.eval()(images))
        model.zero_grad()
        plain.train()(torch.randn(2, *SHAPE)).sum().backward()
        assert all(parameter.grad is None for parameter in model.parameters())
        assert plain.a[0].weight.grad.abs().sum() > 0


# what it does not -----------------------------------------------------------------------------------------------


class Hidden(Base):
    """The network is in a dictionary that the hook closes over."""

    def make(self):
        state = {"net": self}
        self.a.register_forward_hook(lambda module, args, out: state["net"].seen.__setitem__("a", out))


class HiddenInTraining(Hidden):
    """The features are read in train mode only."""

    def forward(self, x):
        y = self.b(self.a(x))
        first = self.seen["a"] if self.training else y
        return self.fc(self.mix(torch.cat([first, y], 1)).relu().mean((2, 3)))


KEEP |= {Hidden, HiddenInTraining}


class HiddenForward(Chain):
    def make(self):
        state = {"block": self.b}

        def run(x):
            return state["block"](x)

        self.run = run

    def forward(self, x):
        x = self.run(self.a(x))
        return self.fc(self.mix(torch.cat([x, x], 1)).relu().mean((2, 3)))


class HiddenWeights(Chain):
    """A pre-hook that makes a weight of two others, of the network in which it was made."""

    def make(self):
        self.scale = nn.Parameter(torch.ones(12))
        weight, state = self.b[0].weight.detach().clone(), {"net": self}
        del self.b[0]._parameters["weight"]
        self.b[0].weight = weight

        def scaled(module, args):
            module.weight = weight * state["net"].scale.view(-1, 1, 1, 1)

        self.b[0].register_forward_pre_hook(scaled)


class HiddenStatistics(Statistics):
    """A hook that averages in train mode, into the network in which it was made."""

    def make(self):
        self.register_buffer("mean", torch.zeros(()))
        state = {"net": self}
        self.a.register_forward_hook(lambda module, args, out: state["net"].note(out))


class HiddenPenalty(Chain):
    """A hook that adds, in train mode, nothing but a gradient: to the network in which it was made."""

    def make(self):
        state = {"net": self}

        def regularised(module, args, out):
            return out + 0 * state["net"].fc.bias.sum() if module.training else None

        self.fc.register_forward_hook(regularised)


class Lock(Chain):
    def make(self):
        self.b.lock = threading.Lock()


REFUSED = {
    Hidden: r"a forward hook of module 'a' \(Sequential\), <lambda> of test_standalone.py:\d+, holds the model itself",
    HiddenInTraining: r"a forward hook of module 'a' .* holds the model itself",
    HiddenForward: r"the attribute 'run' of the model itself .*, run of .* holds the module 'b' .* reads the weights",
    HiddenWeights: r"a forward pre-hook of module 'b.0' .* holds the model itself",
    HiddenStatistics: r"a forward hook of module 'a' .* writes into the tensors of the network it was made of",
    HiddenPenalty: r"a forward hook of module 'fc' .* trains the weights of the network it was made of",
    Lock: r"the attribute 'lock' of module 'b' \(Sequential\) cannot be copied, .*cannot pickle",
}


@pytest.mark.parametrize("build", REFUSED)
def test_what_a_copy_cannot_follow_is_refused_with_its_place(build):
    if refused_by_older_torch(build):
        return
    torch.manual_seed(0)
    model = build()
    classes, state = [type(module) for module in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UserError, match=REFUSED[build]) as error:
        OneShotChannelMutator(divisor=2).prepare(model, SHAPE)
    assert "\n" not in str(error.value) and "Way out: " in str(error.value)
    assert [type(module) for module in model.modules()] == classes
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_functions_of_a_copy_share_what_they_shared():
    model, mutator = Counter(), OneShotChannelMutator(divisor=2)
    mutator.prepare(model, SHAPE)
    before, clone = model.count(), mutator.export(mutator.search_space.max())
    clone.train()(torch.randn(2, *SHAPE))
    assert (model.count(), clone.count()) == (before, before + 1)


def test_the_way_out_of_the_message_works():
    """``register_forward_hook(self.method)``, as the message says; the network is the one refused otherwise."""
    if refused_by_older_torch(Hidden):
        return
    with pytest.raises(UserError, match=r"through a method \(register_forward_hook\(self.method\)\)"):
        OneShotChannelMutator(divisor=2).prepare(Hidden(), SHAPE)
    OneShotChannelMutator(divisor=2).prepare(MethodAsHook(), SHAPE)


@pytest.mark.parametrize("build", [Hidden, Lock])
def test_networks_with_operators_are_checked_too(build):
    if refused_by_older_torch(build):
        return

    class Net(build):
        def make(self):
            super().make()
            self.b[2] = MutableOP({"relu": nn.ReLU(), "conv": nn.Conv2d(12, 12, 1)})

    with pytest.raises(UserError, match=REFUSED[build]):
        NasMutator().prepare(Net(), SHAPE)


def test_forms_are_checked_once_for_all_that_are_built_alike(monkeypatch):
    """16 forms of 4 modules, where 8 things are remembered; another network has others."""
    checked = []
    monkeypatch.setattr(alike, "MAX_KNOWN", 8)
    real = standalone._differs
    monkeypatch.setattr(standalone, "_KNOWN", Remembered())
    monkeypatch.setattr(standalone, "_differs", lambda *args: checked.append(args) or real(*args))
    counts = []
    for wider in (0, 0, 1):
        checked.clear()
        kernels = {f"conv_{2 * k + 1}": k for k in range(4)}
        sizes = range(8 + wider, 12 + wider)
        choices = [MutableOP({n: nn.Conv2d(i, i + 1, 2 * k + 1, padding=k) for n, k in kernels.items()}) for i in sizes]
        NasMutator().prepare(nn.Sequential(nn.Conv2d(3, sizes[0], 1), *choices, Classifier(sizes[-1] + 1)), SHAPE)
        counts.append(len(checked))
    assert counts[0] >= 16 and counts[1] < 4 and counts[2] == counts[1] + 4


class Classifier(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, 5)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))
