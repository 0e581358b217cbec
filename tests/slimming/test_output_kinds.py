"""Outputs that are class scores and outputs that are values: compared, judged and trained as what they are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import mmrazor_lite
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.distillers import OutputDistance
from mmrazor_lite.slimming.distance import distance
from mmrazor_lite.slimming.judging import Judge
from mmrazor_lite.slimming.output_kinds import few_classes, only_class, taken_as, value_outputs

X = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 5
BOXES = torch.rand(40, 4, generator=torch.Generator().manual_seed(1)) * 50


class Net(nn.Module):
    """Boxes (N, 4) in pixels, scores (N, 5), in some structure."""

    def __init__(self, give, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
        self.boxes, self.scores, self.give = nn.Linear(256, 4), nn.Linear(256, 5), give
        with torch.no_grad():
            self.boxes.weight.mul_(30)
            self.boxes.bias.copy_(torch.tensor([500.0, 50, 30, 20]))

    def forward(self, x):
        x = self.body(x).flatten(1)
        return self.give(self.boxes(x), self.scores(x))


def boxes_alone(boxes, scores):
    return boxes


def as_dict(boxes, scores):
    return {"boxes": boxes, "logits": scores}


def slim(net, data=X, budget="60%", **options):
    return mmrazor_lite.slim(net, data, budget, latency=False, show=False, **options)


# what they are --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "asked", "expected"),
    [
        (None, None, set()),
        (None, True, {0, 1}),
        (None, False, set()),
        (None, ["boxes"], {0}),
        (None, [1], {1}),
        ({"boxes": BOXES, "labels": Y}, None, {0}),  # its target has its shape
        ((torch.rand(40, 4).softmax(1), Y), None, set()),  # a distribution over classes
        ((-torch.rand(40, 4).softmax(1), Y), None, {0}),
        (Y, None, set()),
        ((BOXES, Y), False, set()),
    ],
)
def test_outputs_are_values_where_somebody_or_their_targets_say_so(targets, asked, expected):
    assert value_outputs({"boxes": BOXES, "logits": torch.rand(40, 5)}, targets, asked) == expected


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["box"], "has no output 'box'; its outputs of numbers are boxes, logits"),
        ([7], "no output 7"),
        ("boxes", "give True, or the outputs"),
        ([1.5], "give True, or the outputs"),
        ([True], "give True, or the outputs"),
    ],
)
def test_values_that_are_no_outputs_are_refused(values, told):
    with pytest.raises(UserError, match=told):
        slim(Net(as_dict), values=values)


def test_values_are_compared_by_their_squares_everywhere():
    """A softmax does not see what is added to all of a row, and sees nothing but the largest of large numbers."""
    ones = torch.tensor([[100.0, 50, 30, 20]] * 8)
    for found in (
        lambda own, **kind: distance(own, ones, **kind),
        lambda own, **kind: float(OutputDistance(**kind)(own, ones)),
    ):
        assert found(ones + 50) < 1e-6 and found(1.5 * ones) < 1e-6
        assert found(1.5 * ones, values=[0]) == pytest.approx(0.25)
        assert found(1.5 * ones, values=[1]) < 1e-6
    with pytest.raises(UserError, match=r"distiller.values"):
        OutputDistance(values=[-1])


def test_a_judge_of_values_tells_no_agreement():
    net, other = (Net(as_dict, seed).eval().requires_grad_(False) for seed in (0, 1))
    unsure, told = (Judge(net, [(X, None)], values=values)(other) for values in (None, [0, 1]))
    assert unsure.agreement is not None and told.agreement is None
    by_hand = sum(
        float((other(X)[key] - net(X)[key]).square().sum() / net(X)[key].square().sum()) for key in ("boxes", "logits")
    )
    assert told.distance == pytest.approx(by_hand, rel=1e-5)
    with_labels = Judge(net, [(X, Y)])(other)  # of the dict's logits, though boxes come first
    assert with_labels.accuracy == pytest.approx(100 * float((other(X)["logits"].argmax(1) == Y).double().mean()))
    same = other(X)["logits"].argmax(1) == net(X)["logits"].argmax(1)
    assert with_labels.agreement == pytest.approx(100 * float(same.double().mean()))


def test_labels_go_to_scores_and_not_to_values():
    net = Net(lambda boxes, scores: (boxes, scores)).eval()
    judge = Judge(net, [(X, Y % 4)], values=[0])
    assert judge(net).accuracy == pytest.approx(100 * float((net(X)[1].argmax(1) == Y % 4).double().mean()))
    assert "none of the 4 classes" in Judge(net, [(X, Y)]).why_unused  # by their order, where nothing says it


@pytest.mark.parametrize("count", range(1, 20))
def test_agreement_of_some_images_is_exact(count):
    scores = torch.eye(2)[torch.zeros(20, dtype=torch.long)]
    other = scores.clone()
    other[count:] = other[count:].flip(1)
    names = iter([scores, other])
    judge = Judge(lambda_module(lambda x: next(names)), [(X[:20], None)])
    assert judge(lambda_module(lambda x: other)).agreement == 100 * count / 20


def lambda_module(function):
    module = nn.Module()
    module.forward = function
    return module


# what is said of it ---------------------------------------------------------------------------------------------


def test_what_nothing_says_is_told():
    outputs = {"boxes": BOXES, "logits": torch.rand(40, 5)}
    assert "output boxes (N, 4), logits (N, 5) is taken as class scores" in taken_as(outputs, None, (), False)[0]
    assert "values=['boxes', 'logits']" in taken_as(outputs, None, (), False)[0]
    read, taken = taken_as(outputs, Y, (), False)
    assert "labels are read for output logits (N, 5)" in read and "values=['boxes']" in taken
    assert taken_as(outputs, Y, {0}, True) == [] == taken_as(torch.rand(40, 5), Y, (), False)
    assert "output 0 (N, 5)" in taken_as(torch.rand(40, 5), None, (), False)[0]


def test_a_goal_that_every_network_meets_is_refused():
    """Boxes have one largest number: all networks agree on it."""
    net = Net(boxes_alone)
    with pytest.raises(UserError, match="all 30 images the same class, agreement with it tells nothing"):
        slim(net, torch.cat([X, X + 1]), None, max_drop=1.0, images=30)
    with pytest.raises(UserError, match="no class scores"):
        slim(net, X, None, max_drop=1.0, values=True)
    notes = slim(net, torch.cat([X, X + 1])).report.notes
    assert any("the same class: how often" in note for note in notes)
    assert only_class([torch.rand(9, 3) * 0], ()) == "" == only_class([torch.rand(20, 3)], ())


def test_values_are_slimmed_by_what_they_are():
    """Without a word the widths are chosen by noise of 1e-26; the network that gives (N, 4, 1) is chosen as values."""
    net, shaped = Net(boxes_alone), Net(lambda boxes, scores: boxes[..., None])
    found, same = slim(net, values=True), slim(shaped)
    assert found.subnet == same.subnet
    assert found.report.stages[-1].distance == pytest.approx(same.report.stages[-1].distance, rel=1e-3)
    with_targets = slim(net, (X, BOXES))
    assert with_targets.report.stages[-1].agreement is None
    assert not any("class scores" in note for note in found.report.notes)


def test_step_by_step_they_are_values_too():
    net = Net(boxes_alone)
    found, same = slim(net, values=True), mmrazor_lite.Slimmer(net, (3, 8, 8), values=True)
    shaped = mmrazor_lite.Slimmer(Net(lambda boxes, scores: boxes[..., None]), (3, 8, 8))
    for one in (same, shaped):
        one.rank(X)
    assert same.search("60%") == shaped.search("60%")
    own, other = (one.export(found.subnet, data=X)(X).flatten(1) for one in (same, shaped))
    torch.testing.assert_close(own, other)


def test_images_of_few_classes_are_told():
    scores = torch.rand(40, 10)
    assert "40 images are of 1 of the network's 10 classes" in few_classes(scores, [(X, Y * 0)], ())[0]
    assert few_classes(scores, [(X, torch.arange(40) % 10)], ()) == []
    assert few_classes(scores, [(X, Y)], ()) == []  # half of them
    assert few_classes(scores, [(X, None)], ()) == [] == few_classes(scores[:5], [(X[:5], Y[:5] * 0)], ())
    assert "of 1 of" in few_classes(scores, [(X[:20], Y[:20] * 0), (X[20:], Y[:20] * 0)], ())[0]
    expected = 10 * (1 - 0.9**40)
    assert f"of about {expected:.0f} where" in few_classes(scores, [(X, Y * 0)], ())[0] and math.isclose(
        expected, 9.85, abs_tol=0.01
    )
