"""The optimizer wrappers count batches, whatever the number of passes."""

from __future__ import annotations

import traceback

import pytest
import torch
from mmengine.config import ConfigDict

from mmrazor_lite.engine.optim import SubnetAmpOptimWrapper, SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.randomness import seed_all, seed_from


@pytest.fixture
def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(2))


def wrap(weight, kind=SubnetOptimWrapper, **options):
    return kind(optimizer=torch.optim.SGD([weight], lr=1.0), **options)


def test_backward_does_not_count_and_end_batch_steps_once(weight):
    optim_wrapper = wrap(weight)
    for _ in range(4):
        optim_wrapper.backward(optim_wrapper.scale_loss(weight.sum()))
    assert optim_wrapper.batch_index == 0 and torch.equal(weight.detach(), torch.ones(2))
    optim_wrapper.end_batch()
    assert optim_wrapper.batch_index == 1 and torch.equal(weight.detach(), torch.full((2,), -3.0))
    assert weight.grad is None


def test_clipping_sees_the_sum_of_all_passes(weight):
    optim_wrapper = wrap(weight, clip_grad={"max_norm": 1.0})
    for factor in (30.0, 40.0):
        optim_wrapper.backward((weight * torch.tensor([factor, 0.0])).sum())
    optim_wrapper.end_batch()
    torch.testing.assert_close(weight.detach(), torch.tensor([0.0, 1.0]))


def test_a_single_pass_model_of_mmengine_runs_too(weight):
    optim_wrapper = wrap(weight, accumulative_counts=2)
    optim_wrapper.update_params(weight.sum())
    assert torch.equal(weight.detach(), torch.ones(2))
    optim_wrapper.update_params(weight.sum())
    assert torch.equal(weight.detach(), torch.zeros(2)) and optim_wrapper.batch_index == 2


@pytest.mark.parametrize(
    ("batches_done", "last", "synchronises"), [(0, True, False), (1, False, False), (1, True, True)]
)
def test_gradients_are_reduced_in_the_last_pass_before_an_update_only(weight, batches_done, last, synchronises):
    class Model(torch.nn.Module):
        silent = 0

        def no_sync(self):
            self.silent += 1
            return torch.no_grad()

    model, optim_wrapper = Model(), wrap(weight, accumulative_counts=2)
    for _ in range(batches_done):
        optim_wrapper.end_batch()
    with optim_wrapper.pass_context(model, last=last):
        pass
    assert model.silent == (0 if synchronises else 1)


def stepped(kind, **options):
    """A wrapper whose momentum is that of two steps."""
    weight = torch.nn.Parameter(torch.ones(2, device="cuda" if torch.cuda.is_available() else "cpu"))
    optim_wrapper = kind(optimizer=torch.optim.SGD([weight], lr=1.0, momentum=0.5), **options)
    for _ in range(2):
        optim_wrapper.update_params((weight * 3).sum())
    return optim_wrapper


@pytest.mark.parametrize("before", [SubnetAmpOptimWrapper, SubnetOptimWrapper])
def test_a_run_goes_on_with_mixed_precision(weight, before):
    state = stepped(before).state_dict()
    resumed = SubnetAmpOptimWrapper(optimizer=torch.optim.SGD([weight], lr=1.0, momentum=0.5))
    resumed.load_state_dict(state)
    (momentum,) = [entry["momentum_buffer"] for entry in resumed.optimizer.state.values()]
    torch.testing.assert_close(momentum.cpu(), torch.full((2,), 4.5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the loss scaler works on CUDA only")
def test_the_loss_scale_survives(weight):
    first = stepped(SubnetAmpOptimWrapper, loss_scale={"init_scale": 8.0, "growth_interval": 2})
    second = wrap(weight, SubnetAmpOptimWrapper)
    second.load_state_dict(first.state_dict())
    assert second.loss_scaler.get_scale() == first.loss_scaler.get_scale() == 16.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 is allowed on CUDA")
def test_float16_on_the_cpu_is_refused(weight):
    with pytest.raises(UserError, match="dtype='float16': allowed on cpu is bfloat16"):
        wrap(weight, SubnetAmpOptimWrapper, dtype="float16")


def test_an_unknown_loss_scale_is_refused(weight):
    with pytest.raises(UserError, match="loss_scale='static'"):
        wrap(weight, SubnetAmpOptimWrapper, loss_scale="static")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the loss scaler works on CUDA only")
def test_float16_scales_unscales_once_and_skips_infinite_gradients():
    weight = torch.nn.Parameter(torch.ones(2, device="cuda"))
    optim_wrapper = wrap(weight, SubnetAmpOptimWrapper, loss_scale=1024.0, clip_grad={"max_norm": 100.0})
    for _ in range(2):
        optim_wrapper.backward(weight.sum())
    optim_wrapper.end_batch()
    torch.testing.assert_close(weight.detach().cpu(), torch.full((2,), -1.0))
    optim_wrapper.backward((weight * float("inf")).sum())
    optim_wrapper.end_batch()
    torch.testing.assert_close(weight.detach().cpu(), torch.full((2,), -1.0))


def test_groups_are_plain_whoever_made_them(weight):
    """A ``ConfigDict`` looks an item up in Python, twenty times for each group of each step."""
    optimizer = torch.optim.SGD([ConfigDict(params=[weight], lr=0.5)], lr=1.0)
    optim_wrapper = SubnetOptimWrapper(optimizer=optimizer)
    assert [type(group) for group in optimizer.param_groups] == [dict]
    optim_wrapper.update_params(weight.sum())
    assert torch.equal(weight.detach(), torch.full((2,), 0.5))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="its generators are seeded by torch")
def test_to_seed_a_step_formats_no_traceback(monkeypatch):
    torch.manual_seed(seed_from(3, 4))
    drawn = torch.rand(3)
    monkeypatch.setattr(traceback, "format_stack", lambda *args: pytest.fail("as torch does for CUDA, unused"))
    seed_all(3, 4)
    assert torch.equal(torch.rand(3), drawn)
