"""Choices speak for themselves: the protocol, for all modules that have it, and new kinds that no part of us knows."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from oracles import assert_close, assert_same_bits, count, memory
from torch import Tensor, nn
from torch.nn import functional as F

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators.latency_parts import plan_parts
from mmrazor_lite.models import mutables
from mmrazor_lite.models.algorithms import SPOS
from mmrazor_lite.models.backbones import OFABlock, TFNASBlock
from mmrazor_lite.models.mutables import ITSELF, ChoiceModule, InnerWidths, MutableDepth, MutableOP, Offer
from mmrazor_lite.models.mutators import NasMutator
from mmrazor_lite.models.ops import export
from mmrazor_lite.search import EvolutionSearcher, GreedySearcher
from mmrazor_lite.subnet import Choice, read_subnet, write_subnet

RESOLUTIONS = (8, 12)
SHAPE = (3, 12, 12)
CLASSES = 4
ACTIVATIONS = {"relu": nn.ReLU, "hardswish": nn.Hardswish, "gelu": nn.GELU}


# new kinds, as a user would write them ----------------------------------------------------------------------------


class ActivationChoice(nn.Module):
    """An activation function out of several."""

    def __init__(self) -> None:
        super().__init__()
        self.active = "relu"

    def forward(self, x: Tensor) -> Tensor:
        return getattr(F, self.active)(x)

    def offer(self) -> Offer:
        return Offer([Choice(ITSELF, tuple(ACTIVATIONS), kind="operator")])

    def activate(self, values: Mapping) -> None:
        self.active = values[ITSELF]

    def settled(self) -> nn.Module:
        return ACTIVATIONS[self.active]()


class Mixer(nn.Module):
    """A bottleneck: two decisions about its form (the window of a pooling, and whether it has one more layer), and one
    about its width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.into, self.norm = nn.Conv2d(channels, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.more, self.out = nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, channels, 1)
        self.window, self.has_more = 5, "yes"

    def forward(self, x: Tensor) -> Tensor:
        inner = F.avg_pool2d(F.relu(self.norm(self.into(x))), self.window, 1, self.window // 2)
        return x + self.out(self.more(inner) if self.has_more == "yes" else inner)

    def offer(self) -> Offer:
        groups = [{"out": ["into", "norm", "more"], "into": ["out"]}]
        window, more = Choice("window", (1, 3, 5), kind="value"), Choice("more", ("no", "yes"), kind="operator")
        return Offer([window, more, Choice("width", (4, 8, 12, 16))], {ITSELF: InnerWidths("width", groups)})

    def activate(self, values: Mapping) -> None:
        self.window, self.has_more = values["window"], values["more"]

    def settled(self) -> nn.Module:
        return PlainMixer(self.into, self.norm, self.more if self.has_more == "yes" else None, self.out, self.window)


class PlainMixer(nn.Module):
    """What a :class:`Mixer` leaves behind."""

    def __init__(self, into: nn.Module, norm: nn.Module, more: nn.Module | None, out: nn.Module, window: int) -> None:
        super().__init__()
        self.into, self.norm, self.more, self.out = into, norm, more, out
        self.pool = nn.AvgPool2d(window, 1, window // 2)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.pool(F.relu(self.norm(self.into(x))))
        return x + self.out(inner if self.more is None else self.more(inner))


class Backbone(nn.Module):
    """A user's own network; each stage may be left out from its second block on, whether that is a choice or not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = self._block(3, 1)
        self.one = MutableDepth(Mixer(8), self._block(8, 1), Mixer(8), depths=(1, 2, 3))
        self.two = MutableDepth(self._block(8, 2), nn.Conv2d(8, 8, 3, 1, 1), depths=(1, 2))

    @staticmethod
    def _block(channels: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, 8, 3, stride, 1, bias=False), nn.BatchNorm2d(8), ActivationChoice())

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.two(self.one(self.stem(x))),)


class Net(nn.Module):
    """The backbone with a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.fc = Backbone(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone(x)[0].mean((2, 3)))


@pytest.fixture(scope="module")
def prepared() -> NasMutator:
    torch.manual_seed(0)
    model, mutator = Net(), NasMutator(resolutions=RESOLUTIONS)
    for module in model.modules():  # statistics and norms that show a wrong slice
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    mutator.prepare(model, SHAPE)
    return mutator


def rows(mutator: NasMutator, number: int = 40) -> np.ndarray:
    space = mutator.search_space
    ends = [space.index(space.max()), space.index(space.min())]
    return np.stack([*ends, *space.sample_indices(np.random.default_rng(0), number)])


# the protocol -----------------------------------------------------------------------------------------------------


def _operators(**options) -> MutableOP:
    blocks = {str(k): TFNASBlock(8, 8, 16, kernel_size=k, **options) for k in (3, 5)}
    return MutableOP({**blocks, "conv": nn.Conv2d(8, 8, 1)})


EXAMPLES = {
    "operators": lambda: _operators(),
    "operators with a width each": lambda: _operators(mid_widths=range(8, 17)),
    "elastic block": lambda: OFABlock(8, 8, [3, 5, 7], [2, 3], 1, True, {"type": "BN"}, {"type": "ReLU"}),
    "block without a choice": lambda: OFABlock(8, 8, [3], [2], 1, True, {"type": "BN"}, {"type": "ReLU"}),
    "depth": lambda: MutableDepth(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), depths=(2, 3)),
    "one depth": lambda: MutableDepth(nn.Conv2d(8, 8, 1)),
    "activation": ActivationChoice,
    "mixer": lambda: Mixer(8),
}


def test_all_kinds_are_examples():
    named = [getattr(mutables, name) for name in mutables.__all__]
    kinds = {kind for kind in named if isinstance(kind, type) and issubclass(kind, nn.Module)}
    offering = {kind for kind in kinds if "offer" in vars(kind)}
    assert offering == {MutableOP, MutableDepth, mutables.ElasticBlock}
    assert all(any(isinstance(make(), kind) for make in EXAMPLES.values()) for kind in offering)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_offered_can_be_activated_and_leaves_a_plain_module(name):
    torch.manual_seed(0)
    module = EXAMPLES[name]().eval()
    assert isinstance(module, ChoiceModule)
    offer, own = module.offer(), {choice.name: choice for choice in module.offer().choices}
    assert len(own) == len(offer.choices) and repr(module.offer()) == repr(offer)
    assert all(c.active_if is None or c.active_if[0] in own for c in offer.choices)
    for place, inner in offer.inner.items():
        part = module if place == ITSELF else module.get_submodule(place)
        assert own[inner.choice].kind == "width" or set(inner.widths) == set(own[inner.choice].candidates)
        for group in inner.groups:
            assert all(part.get_submodule(layer) is not None for layer in (*group["out"], *group["into"]))
    assert [module.get_submodule(child) for child in offer.stage] == (list(module) if offer.stage else [])
    tensors, x = [id(tensor) for tensor in module.parameters()], torch.randn(2, 8, 6, 6)
    shapes = set()
    widths = {choice.name for choice in offer.choices if choice.kind == "width"}  # set by slices, beside this
    for values in itertools.product(*(c.candidates[:1] if c.name in widths else c.candidates for c in own.values())):
        if not own:
            continue
        module.activate(dict(zip(own, values, strict=True)))
        static, before = export(module), module(x)
        assert_same_bits(static(x), before)
        assert_same_bits(module(x), before)  # it is as it was
        shapes.add(before.shape)
        assert not any(isinstance(part, MutableOP | MutableDepth | Mixer) for part in static.modules())
    assert [id(tensor) for tensor in module.parameters()] == tensors
    assert len(shapes) == (1 if own else 0)


# a network with new kinds -----------------------------------------------------------------------------------------


def test_operators_come_first_then_depths_then_the_rest(prepared):
    """Rows, draws and files follow this order."""
    firsts = [module.offer().choices[0].kind for module in prepared.modules.values()]
    assert firsts == ["operator"] * 3 + ["depth"] * 2 + ["value"] * 2
    assert next(iter(prepared.search_space.values())).kind == "resolution"


def test_the_space_has_their_choices(prepared):
    space, one = prepared.search_space, "backbone.one"
    assert set(prepared.modules) == {
        one, f"{one}.0", f"{one}.1.2", f"{one}.2", "backbone.two", "backbone.two.0.2", "backbone.stem.2",
    }  # fmt: skip
    assert space["backbone.stem.2"].candidates == tuple(ACTIVATIONS)
    assert space[f"{one}.1.2"].active_if == (f"{one}.depth", (2, 3))  # inside a block that may be left out
    assert space[f"{one}.2.width"].active_if == (f"{one}.depth", (3,)) and space[f"{one}.0.width"].active_if is None
    mixed = 3 * 2 * 4
    assert space.size == len(RESOLUTIONS) * 3 * (mixed + mixed * 3 + mixed * 3 * mixed) * 3 * 2


def test_costs_are_those_of_the_export(prepared):
    space, found = prepared.search_space, rows(prepared, 12)
    costs = prepared.cost_model(found)
    for index, row in enumerate(found):
        subnet = space.subnet(row)
        static, shape = prepared.export(subnet), (3, subnet["resolution"], subnet["resolution"])
        counted = count(static, shape) if index > 4 else {**count(static, shape), "memory": memory(static, shape)}
        assert {key: int(costs[key][index]) for key in counted} == counted
        assert prepared.cost_model.of(subnet) == {key: int(values[index]) for key, values in costs.items()}
    every = prepared.cost_model(space.sample_indices(np.random.default_rng(1), 3000))
    for resource, values in every.items():
        low, high = (prepared.cost_model.extreme(resource, largest) for largest in (False, True))
        assert low <= values.min() <= values.max() <= high


def test_an_export_computes_what_the_active_subnet_does(prepared):
    mutator = copy.deepcopy(prepared)
    model = mutator.architecture.double()
    for row in rows(mutator, 12):
        subnet = mutator.search_space.subnet(row)
        static = mutator.export(subnet)
        mutator.activate(subnet)
        assert not any(isinstance(part, ChoiceModule) for part in static.modules())
        x = torch.randn(4, 3, subnet["resolution"], subnet["resolution"], dtype=torch.float64)
        for training in (False, True):
            assert_close(model.train(training)(x), static.train(training)(x))


def test_a_subnet_survives_its_file(prepared, tmp_path):
    for row in rows(prepared, 5):
        subnet = prepared.search_space.subnet(row)
        write_subnet(tmp_path / "net.yaml", subnet, prepared.search_space, prepared.cost_model.of(subnet))
        assert read_subnet(tmp_path / "net.yaml", prepared.search_space).subnet == subnet
    retrained = NasMutator(resolutions=RESOLUTIONS)
    retrained.prepare(Net(), SHAPE, any_width=True)
    assert retrained.search_space.fingerprint == prepared.search_space.fingerprint
    other = {**subnet, "backbone.one.0.width": 7}  # no candidate of the search
    assert count(retrained.export(other), SHAPE)["params"] == retrained.cost_model.of(other)["params"]


@pytest.fixture(scope="module")
def algorithm(registered) -> SPOS:
    from mmengine.model import BaseDataPreprocessor
    from mmpretrain.models import ImageClassifier

    torch.manual_seed(0)
    head = {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 8}
    network = ImageClassifier(Backbone(), neck={"type": "GlobalAveragePooling"}, head=head)
    return SPOS(network, input_shape=SHAPE, data_preprocessor=BaseDataPreprocessor()).train()


def _batch(seed: int) -> dict:
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (32,), generator=generator)
    images = torch.randn((32, *SHAPE), generator=generator) + torch.linspace(-2, 2, CLASSES)[labels, None, None, None]
    return {"inputs": images, "data_samples": [DataSample().set_gt_label(int(label)) for label in labels]}


def test_they_are_trained_and_searched(algorithm):
    wrapper = SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.05, momentum=0.9))
    for step in range(60):
        data, (path,) = _batch(step), algorithm.passes(step)
        if step == 0:
            static = algorithm.mutator.export(path.subnet)
            expected = F.cross_entropy(static(data["inputs"]), torch.cat([s.gt_label for s in data["data_samples"]]))
            before = {key: value.detach().clone() for key, value in algorithm.architecture.named_parameters()}
        loss = algorithm.train_step(data, wrapper)["loss"]
        if step == 0:
            assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
            moved = {k for k, v in algorithm.architecture.named_parameters() if not torch.equal(v, before[k])}
            assert moved == set(dict(static.named_parameters()))
    space, cost, data = algorithm.search_space, algorithm.cost_model, _batch(1000)
    labels = torch.cat([sample.gt_label for sample in data["data_samples"]])

    def score(row: np.ndarray) -> dict[str, float]:
        algorithm.mutator.activate(space.subnet(row))
        with torch.no_grad():
            logits = algorithm.architecture.head(algorithm.architecture.extract_feat(data["inputs"]))
        return {"score": float((logits.argmax(1) == labels).float().mean())}

    algorithm.train()  # norms use the statistics of the batch, as recalibrated ones do
    low, high = cost.extreme("macs", False), cost.extreme("macs", True)
    limit = (low + high) / 2
    evolution = EvolutionSearcher(
        space, cost, [("macs", 0, limit)], max_epochs=4, num_candidates=8, top_k=3, num_mutation=4, num_crossover=2
    )
    greedy = GreedySearcher(space, cost, [("macs", 0.5 * high + 0.5 * cost.of(_narrowest(space))["macs"])])
    for searcher in (evolution, greedy):
        while not searcher.done:
            asked = searcher.ask()
            searcher.tell(asked, [score(row) for row in asked])
        best = searcher.results()[0]
        assert score(best.row)["score"] == best.metrics["score"] > 0.6
        assert cost.of(space.subnet(best.row))["macs"] <= (
            limit if searcher is evolution else searcher.budgets[0].limit
        )


def _narrowest(space) -> dict:
    return {**space.max(), **{name: choice.candidates[0] for name, choice in space.items() if choice.kind == "width"}}


def test_no_latency_is_counted_twice(prepared):
    with pytest.raises(UserError, match="'backbone.one.1.2' lies inside of 'backbone.one.1', which may be left out"):
        plan_parts(prepared, {})


# what does not fit ------------------------------------------------------------------------------------------------


class _Two(ActivationChoice):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


class _Unsettled(nn.ReLU):
    def offer(self) -> Offer:
        return Offer([Choice(ITSELF, ("a", "b"), kind="operator")])

    def activate(self, values: Mapping) -> None:
        pass


def _twice() -> nn.Module:
    choice = ActivationChoice()
    return nn.Sequential(nn.Conv2d(3, 8, 1), choice, nn.Conv2d(8, 8, 1), choice)


class _Narrow(Mixer):
    def offer(self) -> Offer:
        offer = super().offer()
        return Offer([*offer.choices[:-1], Choice("width", (4, 8))], offer.inner)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), _Two(), _First()), "'1' .*must take one tensor and give one"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), _Narrow(8)), "has 16 channels, the inner widths of '1' end at 8"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 8, 1), MutableOP({"a": ActivationChoice(), "b": nn.ReLU()})),
            "choice '1._candidates.a' lies inside of the choice '1'",
        ),
        (_twice, "'1' and '3' are one module"),
        (
            lambda: nn.Sequential(ActivationChoice(), _Unsettled()),
            r"'1' \(_Unsettled\) offers choices without settled",
        ),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    model = build()
    with pytest.raises(UserError, match=message):
        NasMutator().prepare(model, SHAPE)


class _WrongInTheMiddle(ActivationChoice):
    def settled(self) -> nn.Module:
        return nn.ReLU() if self.active == "hardswish" else super().settled()


def test_a_static_form_that_computes_something_else_is_refused():
    """The largest and the smallest subnet do not have it."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), _WrongInTheMiddle(), nn.Conv2d(8, 8, 1))
    with pytest.raises(
        UserError, match=r"'1' \(_WrongInTheMiddle\): .*settled\(\).*'hardswish'.* computes something else"
    ):
        NasMutator().prepare(model, SHAPE)
    assert model[1].active == "relu"


class _First(nn.Module):
    def forward(self, x: tuple) -> Tensor:
        return x[0]
