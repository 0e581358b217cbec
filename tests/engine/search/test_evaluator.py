from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.calibration import batch_norms, recalibrate, recalibrated


def _subnets(algorithm, n=3):
    rng = np.random.default_rng(1)
    return [algorithm.search_space.min(), *(algorithm.search_space.sample(rng) for _ in range(n - 1))]


def _randomise_statistics(algorithm, seed):
    generator = torch.Generator().manual_seed(seed)
    for norm in batch_norms(algorithm):
        norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator))
        norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)


def test_evaluating_changes_nothing(algorithm, make_evaluator):
    evaluator = make_evaluator(algorithm)
    algorithm.train()
    algorithm.architecture.backbone.conv1.eval()  # a mode that train() and eval() would not bring back
    active = algorithm.search_space.sample(np.random.default_rng(5))
    algorithm.mutator.activate(active)
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    modes = {name: module.training for name, module in algorithm.named_modules()}
    momenta = [norm.momentum for norm in batch_norms(algorithm)]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    for subnet in _subnets(algorithm):
        evaluator.evaluate(subnet)
    after = algorithm.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert {name: module.training for name, module in algorithm.named_modules()} == modes
    assert [norm.momentum for norm in batch_norms(algorithm)] == momenta
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert algorithm.mutator.active == active
    assert not any(parameter.grad is not None for parameter in algorithm.parameters())


def test_everything_is_put_back_after_an_error(algorithm, make_evaluator):
    algorithm.train()
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    with pytest.raises(UserError, match=r"'mean/treu'.*did you mean 'mean/true'.*mean/images"):
        make_evaluator(algorithm, score_key="mean/treu")
    assert all(torch.equal(before[key], value) for key, value in algorithm.state_dict().items())
    assert algorithm.training


def test_a_metric_that_is_no_number_is_told(algorithm, make_evaluator, tiny):
    @tiny.METRICS.register_module(force=True)
    class NoNumber(tiny.MeanTrueScore):
        def compute_metrics(self, results):
            return {**super().compute_metrics(results), "other": float("inf")}

    evaluator = make_evaluator(algorithm, evaluator={"type": "NoNumber"})
    with pytest.raises(UserError, match="mean/other of .* is inf; the supernet's weights or its input are broken"):
        evaluator.evaluate(algorithm.search_space.min())


def test_scores_do_not_depend_on_what_was_scored_before(algorithm, make_evaluator):
    first, second = make_evaluator(algorithm), make_evaluator(algorithm, cache_gb=0)
    subnets = _subnets(algorithm)
    forwards = [first.evaluate(subnet) for subnet in subnets]
    backwards = [second.evaluate(subnet) for subnet in subnets[::-1]][::-1]
    assert forwards == backwards
    assert len({metrics["score"] for metrics in forwards}) == len(subnets)
    assert forwards[0]["score"] == forwards[0]["mean/true"]
    assert forwards[0]["mean/images"] == 100


def test_recalibration_makes_running_statistics_irrelevant(algorithm, make_evaluator):
    subnet = _subnets(algorithm)[1]
    scores = {}
    for images in (64, 0):
        evaluator = make_evaluator(algorithm, calibrate_sample_num=images)
        for seed in (1, 2):
            _randomise_statistics(algorithm, seed)
            scores[images, seed] = evaluator.evaluate(subnet)["score"]
    assert scores[64, 1] == scores[64, 2]
    assert scores[0, 1] != scores[0, 2]


def test_calibration_images_matter_and_are_seeded(algorithm, make_evaluator):
    subnet = _subnets(algorithm)[1]
    same = [make_evaluator(algorithm, seed=3).evaluate(subnet)["score"] for _ in range(2)]
    other = make_evaluator(algorithm, seed=4).evaluate(subnet)["score"]
    assert same[0] == same[1] != other


def test_recalibrated_statistics_are_plain_averages(algorithm, make_evaluator):
    """Against a count of our own on the input of the last norm."""
    batches = make_evaluator(algorithm, calibrate_sample_num=150).calibration
    norm = algorithm.architecture.backbone.conv2.bn
    algorithm.mutator.activate(algorithm.search_space.max())
    inputs = []
    with recalibrated(algorithm, batches):
        algorithm.eval()
        found = norm.running_mean.clone(), norm.running_var.clone()
    handle = norm.register_forward_pre_hook(lambda module, args: inputs.append((module.training, args[0])))
    with recalibrated(algorithm, batches):
        pass
    handle.remove()
    assert len(inputs) == 3 and all(training for training, _ in inputs)
    means = torch.stack([x.mean((0, 2, 3)) for _, x in inputs]).mean(0)
    variances = torch.stack([x.var((0, 2, 3)) for _, x in inputs]).mean(0)
    torch.testing.assert_close(found[0], means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], variances, rtol=1e-5, atol=1e-6)


def test_only_batch_norm_trains_while_recalibrating(algorithm, make_evaluator):
    batches = make_evaluator(algorithm).calibration
    training = {}
    handles = [
        module.register_forward_pre_hook(lambda module, _, name=name: training.update({name: module.training}))
        for name, module in algorithm.architecture.named_modules()
    ]
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    recalibrate(algorithm, batches)
    for handle in handles:
        handle.remove()
    norms = {name for name, module in algorithm.architecture.named_modules() if module in set(batch_norms(algorithm))}
    assert {name for name, mode in training.items() if mode} == norms
    assert not any(module.training for module in algorithm.modules())
    algorithm.load_state_dict(before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibrate_dataloader": None}, "calibrate_dataloader is missing"),
        ({"calibrate_sample_num": 1}, "calibrate_sample_num is 1"),
        ({"dataloader": {"batch_size": 3}}, "dataloader: the key 'dataset' is missing"),
    ],
)
def test_refusals(algorithm, make_evaluator, changes, message):
    with pytest.raises(UserError, match=message):
        make_evaluator(algorithm, **changes)


def test_images_of_another_size_than_costs_are_counted_at_are_refused(algorithm, make_evaluator, monkeypatch):
    evaluator = make_evaluator(algorithm)
    evaluator.evaluate(algorithm.search_space.max())
    monkeypatch.setattr(algorithm, "input_shape", (3, 16, 16))
    active = algorithm.mutator.active
    with pytest.raises(
        UserError, match="dataloader: images of 8 x 8 arrive, costs are counted for input_shape 16 x 16"
    ):
        evaluator.evaluate(algorithm.search_space.min())
    assert algorithm.mutator.active == active


class Centred(torch.nn.Module):
    """Subtracts a mean that it keeps while it trains: in place, or as a new tensor."""

    def __init__(self, plain: torch.nn.Module, in_place: bool) -> None:
        super().__init__()
        self.plain, self.in_place = plain, in_place
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, *args):
        (features,) = self.plain(*args)
        if self.training:
            moved = 0.9 * self.mean + 0.1 * features.mean().detach()
            if self.in_place:
                self.mean.copy_(moved)
            else:
                self.mean = moved
        return (self.scale * (features - self.mean),)


@pytest.mark.parametrize("in_place", [True, False])
def test_statistics_of_a_module_of_the_users_own_are_named(tiny, make_evaluator, monkeypatch, in_place):
    said = []
    monkeypatch.setattr("mmrazor_lite.engine.evaluator.say", said.append)
    algorithm = tiny.build_algorithm()
    make_evaluator(algorithm)
    assert not said
    algorithm.architecture.neck = Centred(algorithm.architecture.neck, in_place)
    kept = algorithm.architecture.neck.mean
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    make_evaluator(algorithm)
    (line,) = said
    assert line.startswith("search: training changes architecture.neck.mean, which are of no batch norm")
    assert algorithm.architecture.neck.mean is kept
    assert all(torch.equal(value, before[key]) for key, value in algorithm.state_dict().items())
