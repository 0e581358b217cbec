"""One training step is the sandwich rule of the official AutoSlim code, to the last digit of float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms import Pass

LR = 0.1


def plain_sgd(model: torch.nn.Module, **options) -> SubnetOptimWrapper:
    return SubnetOptimWrapper(torch.optim.SGD(model.parameters(), lr=LR), **options)


def gradients_by_hand(algorithm, data: dict, step: int) -> tuple[dict, float]:
    """max with labels; min and random against its detached logits; gradients summed, no 1/4 (traps 1 to 5)."""
    space, mutator, network = algorithm.search_space, algorithm.mutator, algorithm.architecture
    labels = torch.cat([sample.gt_label for sample in data["data_samples"]])
    randoms = [space.sample(np.random.default_rng([algorithm.seed, step, k])) for k in range(2)]
    algorithm.zero_grad()
    mutator.activate(space.max())
    logits = network(data["inputs"])
    teacher = F.softmax(logits.detach(), dim=1)
    total = F.cross_entropy(logits, labels)
    total.backward()
    for subnet in (space.min(), *randoms):
        mutator.activate(subnet)
        student = F.log_softmax(network(data["inputs"]), dim=1)
        soft = (teacher * (teacher.log() - student)).sum(dim=1).mean()  # batchmean, tau 1
        soft.backward()
        total = total + soft
    return {name: parameter.grad for name, parameter in algorithm.named_parameters()}, float(total.detach())


def test_sandwich_step_equals_the_sum_computed_by_hand(make, batch):
    algorithm, data = make(), batch()
    expected, total = gradients_by_hand(make(), data, step=0)
    before = {name: parameter.detach().clone() for name, parameter in algorithm.named_parameters()}
    log = algorithm.train_step(data, plain_sgd(algorithm))
    for name, parameter in algorithm.named_parameters():
        torch.testing.assert_close(before[name] - parameter, LR * expected[name], rtol=1e-9, atol=1e-13)
        assert parameter.grad is None  # zero_grad(set_to_none=True)
    assert log["loss"].item() == pytest.approx(total, rel=1e-12)


def test_logged_losses_are_what_was_backpropagated(make, batch):
    algorithm = make()
    log = algorithm.train_step(batch(), plain_sgd(algorithm))
    names = ["max_subnet", "min_subnet", "random0_subnet", "random1_subnet"]
    assert set(log) == {"loss", *(f"{name}.loss" for name in names)}
    assert log["loss"].item() == pytest.approx(sum(log[f"{name}.loss"].item() for name in names), rel=1e-12)
    assert not any(value.requires_grad for value in log.values())


def test_one_update_per_batch_and_accumulation_counts_batches(make, batch):
    steps = []
    algorithm = make()
    optim_wrapper = plain_sgd(algorithm, accumulative_counts=2)
    optim_wrapper.initialize_count_status(algorithm, 0, 3)
    optim_wrapper.optimizer.register_step_post_hook(lambda *_: steps.append(optim_wrapper.batch_index))
    for seed in range(3):
        algorithm.train_step(batch(seed=seed), optim_wrapper)
    assert steps == [2, 3]  # after the second batch, and after the last, which stands alone


def test_accumulated_batches_average(make, batch):
    """Two batches at accumulative_counts=2 move the weights by the mean of their gradients."""
    algorithm = make()
    expected = [gradients_by_hand(make(), batch(seed=seed), step=seed)[0] for seed in range(2)]
    before = {name: parameter.detach().clone() for name, parameter in algorithm.named_parameters()}
    optim_wrapper = plain_sgd(algorithm, accumulative_counts=2)
    for seed in range(2):
        algorithm.train_step(batch(seed=seed), optim_wrapper)
    for name, parameter in algorithm.named_parameters():
        mean = (expected[0][name] + expected[1][name]) / 2
        torch.testing.assert_close(before[name] - parameter, LR * mean, rtol=1e-9, atol=1e-13)


def test_random_subnets_depend_on_seed_and_step_alone(make):
    algorithm = make()
    first = [item.subnet for item in algorithm.passes(7)]
    np.random.seed(1)
    torch.manual_seed(1)
    assert [item.subnet for item in algorithm.passes(7)] == first
    assert [item.subnet for item in algorithm.passes(8)][2:] != first[2:]
    algorithm.seed = 1
    assert [item.subnet for item in algorithm.passes(7)][2:] != first[2:]


def test_same_seed_same_weights_whatever_was_drawn_before(make, batch):
    """Dropout in the step is seeded by (seed, step, rank)."""

    def train(noise: int) -> dict:
        algorithm = make()
        algorithm.architecture.neck.register_forward_hook(lambda m, a, out: tuple(F.dropout(x, 0.5) for x in out))
        optim_wrapper = plain_sgd(algorithm)
        for seed in range(2):
            torch.rand(noise)
            algorithm.train_step(batch(seed=seed), optim_wrapper)
        return algorithm.state_dict()

    first, second = train(0), train(3)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_that_no_pass_uses_do_not_move(make, batch):
    """Momentum and decay must skip them, or unsampled paths drift (official SPOS sets their grad to None)."""
    algorithm = make(num_random_samples=0)
    smallest = algorithm.search_space.min()
    algorithm.passes = lambda step: [Pass(smallest, name="only")]
    algorithm.train_step(batch(), plain_sgd(algorithm, accumulative_counts=10))
    gradients = {name: parameter.grad for name, parameter in algorithm.named_parameters()}
    exported = dict(algorithm.mutator.export(smallest).named_parameters())
    for name, gradient in gradients.items():
        kept = exported[name.removeprefix("architecture.")].numel()
        assert gradient is not None and int((gradient != 0).sum()) <= kept


def test_a_parameter_used_nowhere_is_left_alone_by_momentum_and_decay(make, batch):
    algorithm = make()
    algorithm.unused = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = torch.optim.SGD(algorithm.parameters(), lr=LR, momentum=0.9, weight_decay=0.1)
    optimizer.state[algorithm.unused]["momentum_buffer"] = torch.ones(3, dtype=torch.float64)
    algorithm.train_step(batch(), SubnetOptimWrapper(optimizer))
    assert torch.equal(algorithm.unused.detach(), torch.ones(3, dtype=torch.float64))


def test_data_is_preprocessed_once(make, batch):
    algorithm, calls = make(), []
    algorithm.data_preprocessor.register_forward_hook(lambda *_: calls.append(1))
    algorithm.train_step(batch(), plain_sgd(algorithm))
    assert calls == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_update(make, batch, value):
    algorithm, data = make(), batch()
    optim_wrapper = plain_sgd(algorithm)
    algorithm.train_step(data, optim_wrapper)
    before = copy.deepcopy(algorithm.state_dict())
    algorithm.distiller.loss_weight = value
    with pytest.raises(UserError, match=r"step 1: the loss of min_subnet is (nan|inf)"):
        algorithm.train_step(data, optim_wrapper)
    parameters = dict(algorithm.named_parameters())
    assert all(torch.equal(before[name], parameter) for name, parameter in parameters.items())


def test_mixed_precision_on_the_cpu_trains_and_counts_batches(make, batch):
    from mmrazor_lite.engine.optim import SubnetAmpOptimWrapper

    algorithm = make(torch.float32)
    data = batch(dtype=torch.float32)
    seen = set()
    algorithm.logits_module.fc.register_forward_hook(lambda m, a, output: seen.add(output.dtype))
    optim_wrapper = SubnetAmpOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=LR), dtype="bfloat16")
    before = copy.deepcopy(algorithm.state_dict())
    log = algorithm.train_step(data, optim_wrapper)
    exact = make(torch.float32)
    reference = exact.train_step(data, plain_sgd(exact))
    assert seen == {torch.bfloat16} and optim_wrapper.batch_index == 1
    assert log["loss"].item() == pytest.approx(reference["loss"].item(), rel=0.1)
    assert any(not torch.equal(before[name], value) for name, value in algorithm.state_dict().items())


def test_channels_last_changes_the_memory_format_only(make, batch):
    ordinary, other = make(), make()
    other.use_channels_last()
    weight = dict(other.named_parameters())["architecture.backbone.conv2.conv.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    first = ordinary.train_step(batch(), plain_sgd(ordinary))
    second = other.train_step(batch(), plain_sgd(other))
    assert first["loss"].item() == pytest.approx(second["loss"].item(), rel=1e-10)


def test_the_teacher_is_the_max_subnet_wherever_it_stands(make, batch, monkeypatch):
    gradients = {}
    for order in (1, -1):
        algorithm, data = make(), batch()
        own = algorithm.passes
        monkeypatch.setattr(algorithm, "passes", lambda step, own=own, order=order: own(step)[::order])
        before = {name: parameter.detach().clone() for name, parameter in algorithm.named_parameters()}
        algorithm.train_step(data, plain_sgd(algorithm))
        gradients[order] = [before[name] - parameter for name, parameter in algorithm.named_parameters()]
    for first, last in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(first, last, rtol=1e-9, atol=1e-13)


def test_a_teacher_that_is_not_trained_is_refused(make, batch, monkeypatch):
    algorithm, space = make(), make().search_space
    small = Pass(space.min(), label=0.0, soft=1.0, teacher="max")
    for passes in ([Pass(space.min()), small], [small], [Pass(algorithm.largest, soft=1.0, teacher="max")]):
        monkeypatch.setattr(algorithm, "passes", lambda step, passes=passes: passes)
        with pytest.raises(UserError, match=r"AutoSlim.passes\(\): teacher='max' needs a pass of the max subnet"):
            algorithm.train_step(batch(), plain_sgd(algorithm))
    for wrong in ({"soft": 1.0}, {"soft": 1.0, "teacher": "largest"}):
        with pytest.raises(UserError, match="soft labels are of 'max' or 'frozen'"):
            Pass(space.min(), **wrong)


def test_soft_labels_of_two_teachers(make, batch, monkeypatch):
    """A frozen teacher of one pass takes nothing from the pass that learns from the max subnet."""
    algorithm, space = make(), make().search_space
    frozen = torch.full((len(batch()["inputs"]), 5), 0.5)
    monkeypatch.setattr(algorithm, "teacher_outputs", lambda batch, subnet: frozen)
    heard = []
    algorithm.distiller.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[1]))
    soft = [Pass(space.min(), label=0.0, soft=1.0, teacher=teacher) for teacher in ("frozen", "max")]
    monkeypatch.setattr(algorithm, "passes", lambda step: [*soft, Pass(algorithm.largest)])
    algorithm.train_step(batch(), plain_sgd(algorithm))
    assert heard[0] is frozen and heard[1] is not frozen and heard[1].std() > 0
