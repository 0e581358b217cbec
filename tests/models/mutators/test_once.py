"""A network is prepared once, wholly or not at all; only what a network can be is activated and exported."""

from __future__ import annotations

import pytest
import tfnas
import torch
from handmade import Net, block
from torch import nn

from mmrazor_lite import load_subnet
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.mutables import MutableOP
from mmrazor_lite.models.mutators import NasMutator, OneShotChannelMutator

SHAPE = (3, 8, 8)


class Chain(Net):
    def make(self):
        self.a, self.b = block(16, 12), block(12, 16)

    def body(self, x):
        return self.b(self.a(x))


class Operators(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.choice = MutableOP({"conv_1": nn.Conv2d(8, 8, 1), "conv_3": nn.Conv2d(8, 8, 3, padding=1)})
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.choice(self.stem(x)).mean((2, 3)))


NETWORKS = {"widths": (Chain, OneShotChannelMutator), "operators": (Operators, NasMutator)}


def prepared(name: str) -> tuple[nn.Module, OneShotChannelMutator | NasMutator]:
    build, mutator = NETWORKS[name]
    model, mutator = build(), mutator()
    mutator.prepare(model, SHAPE)
    return model, mutator


@pytest.mark.parametrize("second", [OneShotChannelMutator, NasMutator])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_second_prepare_is_refused_and_harms_nothing(name, second):
    model, mutator = prepared(name)
    subnet, images = mutator.search_space.min(), torch.randn(2, *SHAPE)
    mutator.activate(subnet)
    before = model.eval()(images)
    for network in (model, nn.Sequential(model)):
        with pytest.raises(UserError, match=r"is prepared already, by a mutator .* export\(\)") as error:
            second().prepare(network, SHAPE)
        assert "\n" not in str(error.value)
    assert torch.equal(model(images), before)
    assert torch.equal(mutator.export(subnet).eval()(images), mutator.export(subnet).eval()(images))


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_of_a_prepared_network_are_networks_of_their_own(name):
    model, mutator = prepared(name)
    exported = mutator.export(mutator.search_space.max())
    again = OneShotChannelMutator()
    again.prepare(exported, SHAPE)
    images = torch.randn(1, *SHAPE)
    assert torch.equal(exported.eval()(images), model.eval()(images))


def test_networks_that_share_layers_are_prepared_apart():
    """Each sees the one convolution through its own slices; the weights are one tensor."""
    conv = nn.Conv2d(16, 12, 3, padding=1)
    networks = [_with(conv) for _ in range(2)]
    mutators = [OneShotChannelMutator(), OneShotChannelMutator()]
    for mutator, network in zip(mutators, networks, strict=True):
        mutator.prepare(network, SHAPE)
    images = torch.randn(1, *SHAPE)
    mutators[0].activate(mutators[0].search_space.min())
    before = networks[0].eval()(images)
    mutators[1].activate(mutators[1].search_space.max())
    networks[1].eval()(images)
    assert torch.equal(networks[0](images), before)
    assert networks[0].a[0]._parameters["weight"] is networks[1].a[0]._parameters["weight"]
    for network, mutator in zip(networks, mutators, strict=True):
        assert torch.equal(mutator.export(mutator.active).eval()(images), network(images))


def _with(conv: nn.Module) -> nn.Module:
    network = Chain()
    network.a[0] = conv
    return network


class Refused(Chain):
    """Its layers are dynamic when the pattern of the mutator is found to name nothing."""


@pytest.mark.parametrize("options", [{"units": {"nothing": {"divisor": 2}}}, {"exclude": ["nothing"]}])
def test_a_failed_prepare_leaves_the_network_as_it_was(options):
    model = Refused()
    classes = [type(module) for module in model.modules()]
    with pytest.raises(UserError, match="matches no layer"):
        OneShotChannelMutator(**options).prepare(model, SHAPE)
    assert [type(module) for module in model.modules()] == classes
    mutator = OneShotChannelMutator()
    mutator.prepare(model, SHAPE)
    assert mutator.export(mutator.search_space.min())(torch.randn(2, *SHAPE)).shape == (2, 5)


def test_a_failed_prepare_of_operators_leaves_the_network_as_it_was(monkeypatch):
    model = tfnas.Net(arch_setting=[[8, 2, 1, "ReLU"]], stem_channels=(8, 8))
    stage = model.backbone.layers[0]
    stage[0].active = "MBI_k5_e6"
    classes = [type(module) for module in model.modules()]
    with monkeypatch.context() as patch:
        patch.setattr(NasMutator, "_publish", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            NasMutator().prepare(model, tfnas.SHAPE)
    assert [type(module) for module in model.modules()] == classes
    assert stage[0].active == "MBI_k5_e6" and stage.active_depth == 2  # as they were, not as small as can be
    NasMutator().prepare(model, tfnas.SHAPE)


# what may be activated ------------------------------------------------------------------------------------------


WIDTH = "stem.0"
BAD_WIDTHS = {
    "none": ({WIDTH: 0}, rf"choice '{WIDTH}' cannot be 0 \(allowed: 1 to 16\)"),
    "negative": ({WIDTH: -3}, rf"choice '{WIDTH}' cannot be -3 \(allowed: 1 to 16\)"),
    "too many": ({WIDTH: 17}, rf"choice '{WIDTH}' cannot be 17"),
    "a share": ({WIDTH: 0.5}, rf"choice '{WIDTH}' cannot be 0.5"),
    "a truth": ({WIDTH: True}, rf"choice '{WIDTH}' cannot be True"),
    "text": ({WIDTH: "8"}, rf"choice '{WIDTH}' cannot be '8'"),
    "a list": ({WIDTH: [8]}, rf"choice '{WIDTH}' cannot be \[8\]: one number"),
    "missing": ({WIDTH: None}, rf"choice '{WIDTH}' cannot be None"),
    "unknown": ({"stem.1": 8}, r"unknown choice 'stem.1' \(did you mean 'stem.0'\?\)"),
}


@pytest.mark.parametrize("name", BAD_WIDTHS)
def test_widths_that_cannot_be_are_refused_by_name(name):
    model, mutator = prepared("widths")
    change, message = BAD_WIDTHS[name]
    before, images = mutator.active, torch.randn(2, *SHAPE)
    expected = model.eval()(images)
    for call in (mutator.activate, mutator.export):
        with pytest.raises(UserError, match=message) as error:
            call({**mutator.search_space.max(), **change})
        assert "\n" not in str(error.value) and mutator.active == before
    assert torch.equal(model(images), expected)


def test_a_missing_width_and_what_is_no_subnet_are_refused():
    _, mutator = prepared("widths")
    with pytest.raises(UserError, match=rf"choice '{WIDTH}' is missing \(allowed: 1 to 16\)"):
        mutator.export({name: 4 for name in mutator.search_space if name != WIDTH})
    for nothing in (None, [8, 8], "max", 3):
        with pytest.raises(UserError, match="a subnet maps the names of choices to candidates"):
            mutator.export(nothing)


def test_units_are_kept_whole():
    class Grouped(Net):
        def make(self):
            self.a = nn.Conv2d(16, 16, 3, padding=1, groups=4)

        def body(self, x):
            return self.a(x)

    mutator = OneShotChannelMutator()
    mutator.prepare(Grouped(), SHAPE)
    ((name, choice),) = mutator.search_space.items()
    assert choice.candidates[-1] == 16
    with pytest.raises(UserError, match=rf"choice '{name}' cannot be 6 \(allowed: 4 to 16 in steps of 4\)"):
        mutator.export({name: 6})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choice": "conv_5"}, "choice 'choice': 'conv_5' is not a candidate"),
        ({"choice": 0}, "choice 'choice': 0 is not a name"),
        ({"chioce": "conv_1"}, r"unknown choice 'chioce' \(did you mean 'choice'\?\)"),
        (None, "1 of 1 choices missing: 'choice'"),
    ],
)
def test_operators_that_are_not_there_are_refused_by_name(change, message):
    model, mutator = prepared("operators")
    subnet = {} if change is None else {**mutator.search_space.max(), **change}
    for call in (mutator.activate, mutator.export):
        with pytest.raises(UserError, match=message):
            call(subnet)
    assert mutator.active == mutator.search_space.max() and model.choice.active == "conv_3"


@pytest.mark.parametrize(("key", "value"), [("width", 0), ("width", 17), ("key", "nothing.0")])
def test_a_file_of_a_subnet_that_cannot_be_is_refused(tmp_path, key, value):
    from mmrazor_lite.models.algorithms import AutoSlim
    from mmrazor_lite.models.classifiers import PlainClassifier

    algorithm = AutoSlim(
        PlainClassifier(Chain()), {"type": "OneShotChannelMutator"}, channel_cfg=0.5, input_shape=SHAPE
    )
    meta = algorithm.checkpoint_meta()
    choices = meta["subnet"]["choices"]
    name = next(iter(choices))
    if key == "width":
        choices[name] = value
    else:
        choices[value] = 8
    path = tmp_path / "subnet.pth"
    torch.save({"state_dict": algorithm.state_dict(), "meta": {"mmrazor_lite": meta}}, path)
    with pytest.raises(UserError, match=name if key == "width" else value):
        load_subnet(path, Chain())
