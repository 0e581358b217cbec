"""Every measure against values computed by hand, and over the registry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from zoo import Prepared, prepare, prepared

from mmrazor_lite.errors import UserError
from mmrazor_lite.graph import LAYER_KINDS
from mmrazor_lite.models.importance import IMPORTANCES, build


def batches(network: Prepared, count: int = 2, size: int = 3) -> list:
    generator = torch.Generator().manual_seed(7)
    return [(network.images(size, seed), torch.randint(2, (size,), generator=generator)) for seed in range(count)]


@pytest.fixture
def small() -> Prepared:
    """conv (4) -> norm -> relu -> conv -> mean: one group, '0'."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return prepare(body, (3, 6, 6)).double()


def test_of_weights(small: Prepared) -> None:
    conv, norm, reader = small.plain[0].weight, small.plain[1].weight, small.plain[3].weight
    made, read = conv.flatten(1), reader.flatten(2).transpose(0, 1).flatten(1)
    expected = {
        "l1": made.abs().sum(1) + read.abs().sum(1),
        "l2": (made.square().sum(1) + read.square().sum(1)).sqrt(),
        "bn": norm.abs(),
        "first": -torch.arange(4.0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(build(name)(small.mutator)["0"], value.detach().numpy(), rtol=1e-12)
    assert sorted(build("random")(small.mutator)["0"]) != list(build("random")(small.mutator)["0"])


def test_of_images(small: Prepared) -> None:
    """By taking the gates' derivatives one image at a time, with the plain network."""
    data, body = batches(small), small.plain.eval()
    derivatives, seen = [], []
    for image, target in ((i, t) for images, targets in data for i, t in zip(images, targets, strict=True)):
        gate = torch.ones(4, 1, 1, dtype=torch.float64, requires_grad=True)
        features = body[:3](image[None])
        seen.append(features.abs().mean((0, 2, 3)))
        derivatives.append(
            torch.autograd.grad(cross_entropy(body[3:](features * gate), target[None]), gate)[0].flatten()
        )
    found, seen = torch.stack(derivatives), torch.stack(seen)
    expected = {"taylor": found.abs().mean(0), "fisher": found.square().mean(0), "activation": seen.mean(0)}
    for name, value in expected.items():
        scores = build(name)(small.mutator, data, cross_entropy)["0"]
        np.testing.assert_allclose(scores, value.detach().numpy(), rtol=1e-10)


def test_several_layers_of_a_group_sum_before_the_square() -> None:
    """Two readers of one group: derivatives add up as one gate for both would have them."""
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make, self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor, gate: torch.Tensor | float = 1.0) -> torch.Tensor:
            x = self.make(x) * gate
            return (self.a(x) + self.b(x.relu())).mean((2, 3))

    network = prepare(Two(), (3, 4, 4)).double()
    data = batches(network, 1)
    gate = torch.ones(3, 4, 1, 1, dtype=torch.float64, requires_grad=True)
    value = cross_entropy(network.plain(data[0][0], gate), data[0][1], reduction="sum")
    found = torch.autograd.grad(value, gate)[0].flatten(1)
    scores = build("fisher")(network.mutator, data, cross_entropy)
    np.testing.assert_allclose(scores["make"], found.square().mean(0).numpy(), rtol=1e-10)


def test_without_labels_fisher_is_the_distance_of_the_outputs(small: Prepared) -> None:
    """Mean over many draws: the squared Jacobian of the outputs by the gate."""
    image = small.images(1)
    features = small.plain.eval()[:3](image)
    jacobian = torch.autograd.functional.jacobian(lambda g: small.plain[3:](features * g), torch.ones(4, 1, 1).double())
    expected = jacobian.reshape(-1, 4).square().sum(0)
    scores = build("fisher")(small.mutator, [(image.repeat(500, 1, 1, 1), None)] * 6)["0"]
    np.testing.assert_allclose(scores, expected.detach().numpy(), rtol=0.1)


@pytest.mark.parametrize("network", ["densenet"])
@pytest.mark.parametrize("name", sorted(IMPORTANCES))
def test_every_measure_scores_every_unit(name: str, network: str) -> None:
    """A finite score for each unit, the same twice, and the network left as it was; groups of one order are told."""
    own = prepared(network)
    before = {key: value.clone() for key, value in own.model.state_dict().items()}
    data = [(own.images(), None)]
    scores, again = (build(name)(own.mutator, data) for _ in range(2))
    assert {group: len(score) for group, score in scores.items()} == own.mutator.unit_counts
    assert all(np.isfinite(score).all() for score in scores.values())
    assert all(np.array_equal(scores[group], again[group]) for group in scores)
    if name not in ("first", "bn"):
        assert all(len(set(score.tolist())) > 1 for score in scores.values())
    assert all(torch.equal(value, before[key]) for key, value in own.model.state_dict().items())
    assert all(parameter.grad is None for parameter in own.model.parameters())


class Switched(nn.Module):
    """Its second branch runs in training only: no image reaches it in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
        self.side, self.side_head = nn.Conv2d(4, 6, 1), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        x = self.stem(x).relu()
        result = self.head(x.mean((2, 3)))
        return [result, self.side_head(self.side(x).relu().mean((2, 3)))] if self.training else result


def test_a_group_that_no_image_reaches_has_equal_scores() -> None:
    network = prepare(Switched(), (3, 4, 4))
    data = [(network.images(2), None), (network.images(2)[:0], None)]
    for name in ("taylor", "fisher", "activation"):
        scores = build(name)(network.mutator, data)
        assert len(set(scores["side"])) == 1 < len(set(scores["stem"]))
        assert network.mutator.sort_channels(scores) == []


class LastDimension(nn.Module):
    """A linear layer with a forward of its own: its channels come last, of tokens as many."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.width = outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight * 2)


LAYER_KINDS.register(
    replace(LAYER_KINDS.of(nn.Linear(1, 1)), name="last dimension", types=(LastDimension,), mask=None, own_forward=True,
            tensors={"weight": ("outputs", "inputs")}, numbers={"width": lambda full, inputs, outputs: outputs})
)  # fmt: skip


def test_channels_are_where_the_kind_says() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(2), Transposed(), nn.Linear(4, 4), LastDimension(4, 2))
    network = prepare(body, (3, 8, 8))
    seen = []
    body[4].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    scores = build("activation")(network.mutator, [(network.images(), None)])
    np.testing.assert_allclose(scores["3"], seen[0].detach().abs().mean((0, 1)).numpy(), rtol=1e-5)


class Transposed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


def test_unknown_name_and_no_data(small: Prepared) -> None:
    with pytest.raises(UserError, match="importance='tailor': allowed are activation, bn.*'taylor'"):
        build("tailor")
    for name in ("taylor", "activation"):
        with pytest.raises(UserError, match="no image"):
            build(name)(small.mutator, [])
