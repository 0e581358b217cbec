"""The distance between outputs of any structure: a divergence of class scores, a relative error of everything else."""

from __future__ import annotations

import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.distillers import KLDivergence, OutputDistance
from mmrazor_lite.slimming.distance import distance


def outputs(seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {"scores": draw(6, 4), "map": [draw(6, 2, 3, 3), draw(6, 1)], "count": torch.tensor(3)}


def test_it_is_the_distance_that_networks_are_judged_by():
    own, theirs = outputs(0), outputs(1)
    assert OutputDistance()(own, theirs).item() == pytest.approx(distance(own, theirs), rel=1e-12)
    assert OutputDistance()(own, own).item() == pytest.approx(0.0, abs=1e-12)


def test_of_class_scores_it_is_the_divergence_at_a_temperature():
    own, theirs = outputs(0)["scores"], outputs(1)["scores"]
    expected = KLDivergence(tau=2.0, loss_weight=3.0)(own, theirs)
    torch.testing.assert_close(OutputDistance(tau=2.0, loss_weight=3.0)(own, theirs), expected)


def test_the_unit_of_an_output_does_not_matter():
    own, theirs = outputs(0)["map"], outputs(1)["map"]
    scaled = OutputDistance()([1e3 * x for x in own], [1e3 * x for x in theirs])
    torch.testing.assert_close(scaled, OutputDistance()(own, theirs))


def test_gradients_reach_the_student_alone():
    own, theirs = outputs(0)["scores"].requires_grad_(), outputs(1)["scores"].requires_grad_()
    OutputDistance()(own, theirs).backward()
    assert own.grad.abs().sum() > 0 and theirs.grad is None


@pytest.mark.parametrize(
    ("own", "theirs", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), r"\(2, 3\), of the teacher \(2, 4\)"),
        ([torch.zeros(2, 3)], torch.zeros(2, 3), "of the teacher"),
        (torch.tensor(3), torch.tensor(3), "nothing to compare"),
    ],
)
def test_other_outputs_are_refused(own, theirs, words):
    with pytest.raises(UserError, match=words):
        OutputDistance()(own, theirs)
