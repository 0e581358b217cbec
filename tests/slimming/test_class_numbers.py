"""Targets are class numbers, or it is said why they are none."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmrazor_lite
from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming.class_numbers import class_numbers, cross_entropy_where, why_unused
from mmrazor_lite.slimming.judging import Judge

slim = partial(mmrazor_lite.slim, budget="60%", latency=False, importance="l1")
IMAGES = torch.randn(30, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(30) % 4
SCORES = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))


def network(head: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, head or nn.Identity())


def test_a_column_of_numbers_is_read_as_one_number_for_each_image():
    results = [slim(network(), (IMAGES, labels)) for labels in (LABELS, LABELS[:, None], LABELS[:, None].int())]
    accuracies = [[stage.accuracy for stage in result.report.stages] for result in results]
    assert accuracies[0] == accuracies[1] == accuracies[2] and None not in accuracies[0]
    assert not any("not taken" in note for result in results for note in result.report.notes)
    loss, column = (cross_entropy_where([(IMAGES, y)], [SCORES]) for y in (LABELS, LABELS[:, None]))
    assert torch.equal(loss(SCORES, LABELS), column(SCORES, LABELS[:, None]))


@pytest.mark.parametrize(
    ("targets", "why"),
    [
        (nn.functional.one_hot(LABELS), r"their shape is \(\d+, 4\), and class numbers would be \(N,\)"),
        (LABELS.float(), "they are float32, and class numbers are whole numbers"),
        (LABELS > 1, "they are bool, and class numbers are whole numbers"),
        ([f"c{label}" for label in LABELS.tolist()], "they are such as 'c0', and class numbers are whole numbers"),
    ],
)
def test_why_targets_are_not_taken(targets, why):
    def data() -> Any:
        return [(IMAGES, targets)]

    (note,) = (note for note in slim(network(), data()).report.notes if "targets" in note)
    assert note.startswith("the targets are not taken as class numbers: ")
    with pytest.raises(UserError, match=f"the data has targets, and {why}") as caught:
        slim(network(), data(), budget=None, min_accuracy="90%")
    assert "\n" not in str(caught.value) and str(caught.value).split("and ", 1)[1][:12] in note


@pytest.mark.parametrize("importance", ["l1", "taylor", "fisher"])
@pytest.mark.parametrize(("labels", "number"), [(LABELS + 10, r"1\d"), (LABELS - 1, "-1")])
def test_labels_that_are_no_class_are_refused(importance, labels, number):
    with pytest.raises(UserError, match=f"data: label {number} is none of the 4 classes of the network, 0 to 3"):
        slim(network(), (IMAGES, labels), importance=importance)


def test_with_a_loss_of_ones_own_labels_may_mean_something_else():
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.sum(1) - targets).square().mean()

    result = slim(network(), (IMAGES, LABELS + 1), importance="taylor", loss=loss)
    assert any("label 4 is none of the 4 classes" in note for note in result.report.notes)
    assert result.report.stages[0].accuracy is None


def test_what_is_to_be_ignored_counts_for_nothing():
    best = SCORES.argmax(1)
    some = torch.where(torch.arange(30) < 10, -100, best)
    judge = Judge(nn.Identity(), [(SCORES, some)])
    assert judge(nn.Identity()).accuracy == 100 and judge(_Reversed()).accuracy < 100
    loss = cross_entropy_where([(SCORES, some)], [SCORES])
    assert torch.allclose(loss(SCORES, some), nn.functional.cross_entropy(SCORES[10:], best[10:]))
    assert loss(SCORES, torch.full((30,), -100)) == 0
    maps = SCORES.reshape(5, 4, 3, 2)
    places = maps.argmax(1)
    places[0, 0] = 255
    judge = Judge(nn.Identity(), [(maps, places)])
    assert judge(nn.Identity()).accuracy == 100
    assert why_unused(SCORES, [(SCORES, torch.full((30,), 255))], strict=False).startswith("label 255")


class _Reversed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x


def test_targets_go_with_their_outputs():
    boxes = torch.randn(30, 3)
    found = class_numbers([boxes, SCORES], [boxes, LABELS])
    assert len(found.heads) == 1 and found.heads[0] is SCORES
    assert class_numbers({"classes": SCORES, "box": boxes}, LABELS).heads[0] is SCORES
    assert "no scores of several classes" in class_numbers(SCORES[:, :1], LABELS).why


class Best(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square().mean()


def test_a_network_must_give_floats():
    with pytest.raises(UserError, match=r"the network gives no floats \(int64\), which slimming compares"):
        slim(network(Best()), IMAGES)
    result = slim(network(Mean()), IMAGES)
    assert 0 < result.report.stages[-1].distance < 10


@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        (lambda o, t: o.sum() * float("nan"), "loss: the function gave nan: give one finite number"),
        (lambda o, t: o.sum(1), r"loss: the function gave a tensor \(\d+,\)"),
        (lambda o, t: torch.tensor(1.0), "loss: the function gave what does not depend on the outputs"),
        (lambda o, t: 1.5, "loss: the function gave a float, 1.5"),
        (lambda o, t: {}["boxes"], "loss: the function cannot be called with .outputs, targets.: KeyError"),
        (lambda o: o.sum(), "loss: the function cannot be called with .outputs, targets.: TypeError"),
    ],
)
@pytest.mark.parametrize("importance", ["taylor", "fisher"])
def test_what_is_no_loss(loss, problem, importance):
    with pytest.raises(UserError, match=problem) as caught:
        slim(network(), (IMAGES, LABELS), importance=importance, loss=loss)
    assert "\n" not in str(caught.value)
