"""Every layer that stays at full width has a reason in the user's words, and its channels in the table."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from handmade import Net, block
from torch import nn

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.estimators import analyse
from mmrazor_lite.graph.versions import macs_counter
from mmrazor_lite.models.algorithms import AutoSlim
from mmrazor_lite.models.classifiers import PlainClassifier
from mmrazor_lite.models.mutators import OneShotChannelMutator

SHAPE = (3, 4, 4)
C = 16


class Around(Net):
    """The stem, a layer under test between two blocks, and the head."""

    def make(self) -> None:
        self.a, self.b = block(C, C), block(C, C)
        self.layer = self.build()

    def build(self) -> nn.Module:
        return nn.Identity()

    def body(self, x):
        return self.b(self.middle(self.a(x)))

    def middle(self, x):
        return self.layer(x)


class Recurrent(Around):
    def build(self):
        return nn.LSTM(C, C, batch_first=True)

    def middle(self, x):
        return self.layer(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape_as(x)


class TwoWays(Recurrent):
    def build(self):
        return nn.GRU(C, C // 2, bidirectional=True, batch_first=True)


class Bilinear(Around):
    def build(self):
        return nn.Bilinear(C, C, C)

    def middle(self, x):
        x = x.movedim(1, -1)
        return self.layer(x, x).movedim(-1, 1)


class Mixes(nn.Module):
    """A layer of the user's own, with a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(C, C))

    def forward(self, x):
        return torch.einsum("nchw,oc->nohw", x, self.matrix)


class Own(Around):
    def build(self):
        return Mixes()


# network -> (name in the reasons, channels of the row: (inputs, outputs))
STAY = {
    Recurrent: ("no dynamic layer for LSTM", (C, C)),
    TwoWays: ("no dynamic layer for GRU", None),
    Bilinear: ("no dynamic layer for Bilinear", (C, C)),
    Own: (
        "no dynamic layer for Mixes (line 'return torch.einsum(\"nchw,oc->nohw\", x, self.matrix)' of test_reas",
        None,
    ),
}


BY_HAND = {Recurrent: 4 * C * (C + C), TwoWays: 2 * 3 * (C // 2) * (C + C // 2), Bilinear: C * C * C}  # macs per place


def prepared(model: nn.Module) -> OneShotChannelMutator:
    torch.manual_seed(0)
    mutator = OneShotChannelMutator(divisor=2)
    mutator.prepare(model, SHAPE)
    return mutator


@pytest.mark.parametrize("build", STAY)
def test_layers_without_a_dynamic_form_are_listed(build):
    model = build()
    with macs_counter() as counter:
        model(torch.randn(1, *SHAPE))
    mutator = prepared(model)
    reasons = {layer.layer: layer.reason for layer in mutator.fixed}
    words, channels = STAY[build]
    assert reasons["layer"].startswith(words), reasons
    assert build is Own or "layer" in reasons["a.0"]  # and what it reads stays because of it
    row = next(layer for layer in analyse(mutator, model, SHAPE).layers if layer.name == "layer")
    assert channels in (None, (row.inputs.max, row.outputs.max)) and not row.searchable
    assert build is Own or row.params.max == sum(parameter.numel() for parameter in model.layer.parameters())
    if build in BY_HAND:  # torch's counter does not know them
        assert row.macs.max == SHAPE[1] * SHAPE[2] * BY_HAND[build]
    else:
        assert mutator.cost_model.max()["macs"] == counter.get_total_flops() // 2


class NoGrad(Around):
    def middle(self, x):
        with torch.no_grad():
            gate = torch.sigmoid(2 * x)
        return x * gate


class NoGradInside(Around):
    def middle(self, x):
        with torch.no_grad():
            with torch.autocast("cpu", enabled=False):
                gate = torch.sigmoid(2 * x)
            gate, half = gate + 1, gate / 2
        return x * gate - half


class Blur(Around):
    """One filter, repeated as often as there are channels now."""

    def make(self):
        super().make()
        self.register_buffer("kernel", torch.ones(1, 1, 3, 3) / 9)

    def middle(self, x):
        return F.conv2d(x, self.kernel.repeat(x.shape[1], 1, 1, 1), padding=1, groups=x.shape[1])


class BlurByExpand(Blur):
    def middle(self, x):
        return F.conv2d(x, self.kernel.expand(x.shape[1], 1, 3, 3).contiguous(), padding=1, groups=x.shape[1])


@pytest.mark.parametrize("build", [NoGrad, NoGradInside, Blur, BlurByExpand])
def test_a_group_is_not_lost(build):
    model = build()
    mutator = prepared(model)
    assert list(mutator.search_space) == ["stem.0", "a.0", "b.0"]
    subnet = mutator.search_space.min()
    mutator.activate(subnet)
    images = torch.randn(2, *SHAPE)
    torch.testing.assert_close(mutator.export(subnet).eval()(images), model.eval()(images))


class BlurByANumber(Blur):
    def middle(self, x):
        return F.conv2d(x, self.kernel.repeat(C, 1, 1, 1), padding=1, groups=C)


class Averages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(C))

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(x.mean((0, 2, 3)), alpha=0.1)
        return x - self.mean[None, :, None, None]


class Changes(Around):
    def build(self):
        return Averages()


class Sums(Around):
    def middle(self, x):
        return x.cumsum(1)


CODE = {
    BlurByANumber: "the check of a small subnet failed",
    Changes: "'sub' in layer with layer.mean, which a forward pass changes (line 'return x - self.mean[None, :, None",
    Sums: "'cumsum' in the model has no rule (line '",
}


@pytest.mark.parametrize("build", CODE)
def test_code_that_keeps_a_width_is_told_with_its_line(build):
    reasons = {layer.layer: layer.reason for layer in prepared(build()).fixed}
    assert reasons["a.0"].startswith(CODE[build]), reasons["a.0"]
    assert "wrap_with" not in " ".join(reasons.values())


# networks that cannot be trained --------------------------------------------------------------------------------


class Untrainable(Around):
    """Its own backward pass fails: what relu gave is changed in place."""

    def middle(self, x):
        y = F.relu(x - 1)
        y.mul_(2)
        torch.sigmoid_(y)
        return y


def test_a_fault_of_the_backward_pass_keeps_nobody_from_searching():
    mutator = prepared(Untrainable())
    assert list(mutator.search_space) == ["stem.0", "a.0", "b.0"] and "inplace operation" in mutator.untrainable
    assert [layer.layer for layer in mutator.fixed] == ["head"]
    assert prepared(Around()).untrainable is None


def test_a_fault_of_the_backward_pass_is_told_as_one():
    from mmengine.model import BaseDataPreprocessor
    from mmpretrain.structures import DataSample

    classifier = PlainClassifier(Untrainable(), data_preprocessor=BaseDataPreprocessor())
    algorithm = AutoSlim(classifier, {"type": "OneShotChannelMutator"}, input_shape=SHAPE).train()
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    before = {key: value.clone() for key, value in algorithm.named_parameters()}
    with pytest.raises(UserError, match="Untrainable|PlainClassifier runs forward, but the backward pass") as error:
        algorithm.train_step(
            {"inputs": torch.randn(2, *SHAPE), "data_samples": samples},
            SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.1)),
        )
    assert "\n" not in str(error.value) and "Hint" not in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in algorithm.named_parameters())
