"""What groups cost the outputs, measured: against the network with its reader refitted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from zoo import Prepared, prepare, prepared

from mmrazor_lite.models.importance import gather, rank
from mmrazor_lite.slimming.distance import distance, mean_distance, softened
from mmrazor_lite.slimming.sensitivity import curve, first_images, images_for, sensitivity


def test_distance_of_class_scores_is_a_divergence() -> None:
    own, reference = torch.tensor([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]), torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    p, q = reference[0].softmax(0), own[0].softmax(0)
    assert distance(own, reference) == pytest.approx(float((p * (p / q).log()).sum()) / 2)
    assert distance(own + 7, own) == pytest.approx(0, abs=1e-12)
    p, q = (reference[0] / 4).softmax(0), (own[0] / 4).softmax(0)
    assert softened(own, reference) == pytest.approx(16 * float((p * (p / q).log()).sum()) / 2)


def test_distance_of_other_outputs_is_the_squared_error() -> None:
    own, reference = torch.ones(2, 3, 4), torch.full((2, 3, 4), 2.0)
    assert distance(own, reference) == pytest.approx(0.25)
    assert distance({"a": own, "b": [own, torch.ones(2)]}, {"a": reference, "b": [reference, torch.ones(2)]}) == 0.5
    assert distance(own * math.nan, reference) == math.inf
    assert distance(torch.zeros(2, 1), torch.zeros(2, 1)) == 0
    parts = mean_distance([own[:1], reference], [reference[:1], reference])
    assert parts == pytest.approx(0.25 / 3)


@pytest.fixture(scope="module")
def small() -> Prepared:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return prepare(body, (3, 6, 6)).double()


def test_a_curve_goes_through_what_is_measured(small: Prepared) -> None:
    batches = [(small.images(5, seed), None) for seed in range(3)]
    moments, rankings = gather(small.mutator, batches), rank(small.mutator, batches, "reconstruction")
    before = {key: value.clone() for key, value in small.model.state_dict().items()}
    found = sensitivity(small.mutator, rankings, moments, batches, shares=(0.5, 0.25))["0"]
    assert all(torch.equal(value, before[key]) for key, value in small.model.state_dict().items())
    body = small.plain.eval()
    for kept in (4, 2):
        keep = torch.zeros(8, dtype=torch.bool)
        keep[torch.as_tensor(rankings["0"].order[:kept].copy())] = True
        weight, constant = moments["3"].fit(keep.repeat_interleave(4))
        values = []
        with torch.no_grad():
            for images, _ in batches:
                seen = body[:3](images)
                made = nn.functional.conv2d(seen, weight.T.reshape(5, 8, 2, 2), body[3].bias + constant)
                values.append(softened(body[4:](made), body(images)))
        assert found[kept] == pytest.approx(np.mean(values), rel=1e-6)
    assert found[0] == np.inf
    assert found[8] == 0
    assert (np.diff(found) <= 0).all()


def test_of_fewer_images_than_inputs_a_curve_says_what_other_images_lose() -> None:
    """A reader behind a pooling has one row of an image: a fit would know them by heart, and the curve be nothing."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    nn.init.normal_(body[4].weight)
    pooled = prepare(body, (3, 6, 6)).double()
    seen, other = [(pooled.images(40, 0), None)], pooled.images(400, 1)
    moments, rankings = gather(pooled.mutator, seen), rank(pooled.mutator, seen, "reconstruction")
    found = sensitivity(pooled.mutator, rankings, moments, seen, shares=(0.75,))["0"]
    keep = torch.zeros(64, dtype=torch.bool)
    keep[torch.as_tensor(rankings["0"].order[:48].copy())] = True
    weight, constant = moments["4"].fit(keep)
    with torch.no_grad():
        features = pooled.plain.eval()[:4](other)
        reference = pooled.plain(other)
        refitted = softened(features @ weight + constant + pooled.plain[4].bias, reference)
        held, level = moments["4"].fit(keep, 1e9)
        kept = softened(features @ held + level + pooled.plain[4].bias, reference)
    assert refitted < 1.05 * kept, "the ridge is large enough for what other images lose"
    assert 0.5 * kept < found[48] < 2 * kept


def test_a_curve_between_points_has_the_shape_of_the_errors() -> None:
    errors = np.array([10.0, 8.0, 4.0, 2.0, 1.0, 0.0])
    assert curve(errors, {1: 0.8, 3: 0.2})[1:].tolist() == pytest.approx([0.8, 0.4, 0.2, 0.1, 0.0])
    assert curve(errors, {1: 0.8, 3: 0.4})[2] == pytest.approx(4 * (0.1 * 0.2) ** 0.5)
    assert curve(errors, {1: 0.8, 3: 0.9})[1:3].tolist() == pytest.approx([0.9, 0.9])  # never rises
    assert curve(errors, {})[1:].tolist() == errors[1:].tolist()


def test_first_images() -> None:
    batches = [(torch.zeros(0, 1), None), (torch.zeros(3, 1), None), (torch.zeros(3, 1), None)]
    assert [len(images) for images in first_images(batches, 4)] == [3, 1]
    assert [len(images) for images in first_images(batches, 3)] == [3]
    assert [len(images) for images in first_images(batches, 9)] == [3, 3]


def test_a_network_that_takes_long_is_measured_with_fewer_images(small: Prepared, monkeypatch) -> None:
    macs = small.mutator.cost_model.max()["macs"]
    for work, expected in ((1e15, 200), (2 * macs * 50, 50), (macs, 16)):
        monkeypatch.setattr("mmrazor_lite.slimming.sensitivity.WORK", work)
        assert images_for(small.mutator, 2) == expected


@pytest.mark.parametrize("name", ["mobilenet_v1", "vit"])
def test_every_group_is_measured(name: str) -> None:
    own = prepared(name)
    batches = [(own.images(8), None)]
    moments, rankings = gather(own.mutator, batches), rank(own.mutator, batches, "reconstruction")
    found = sensitivity(own.mutator, rankings, moments, batches, shares=(0.5,))
    for group, units in own.mutator.unit_counts.items():
        assert len(found[group]) == units + 1
        assert np.isfinite(found[group][1:]).all()
        assert found[group][1] > 0
