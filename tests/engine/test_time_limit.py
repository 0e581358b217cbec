"""A training that ends at a time, with learning rates that are at their end by then."""

from __future__ import annotations

import itertools
import math
import time

import pytest

from mmrazor_lite.engine import TimeLimitHook
from mmrazor_lite.errors import UserError

ENDLESS = {"by_epoch": False, "max_iters": 1 << 40}


def limited(run_config, hook: TimeLimitHook, **options) -> dict:
    checkpoints = {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": -1, "save_last": False}}
    without = dict.fromkeys(("val_dataloader", "val_evaluator", "val_cfg", "param_scheduler"))
    config = run_config(train_cfg=ENDLESS, default_hooks=checkpoints, custom_hooks=[hook], **options)
    return {**config, **without}


def rates_of(run, wait=lambda step: 0.0) -> list[float]:
    """The learning rate of every step; each waits so many seconds in the place of training."""
    rates = []

    def train_step(data, optim_wrapper) -> dict:
        rates.append(optim_wrapper.optimizer.param_groups[0]["lr"])
        time.sleep(wait(len(rates)))
        return {}

    run.model.train_step = train_step
    run.train()
    return rates


def test_rates_rise_and_fall_to_the_last_step(runner, run_config):
    rates = rates_of(runner(limited(run_config, TimeLimitHook(steps=60, title=""))))
    assert len(rates) == 60
    expected = [0.05 * min(1, (k + 1) / 20) * (1 + math.cos(math.pi * max(0, k - 4) / 56)) / 2 for k in range(60)]
    assert rates == pytest.approx(expected)


def test_a_time_is_kept_and_used_where_steps_become_slower(runner, run_config):
    """A hundred of the first steps would fit, and half of them come; the cosine still ends."""
    run = runner(limited(run_config, TimeLimitHook(seconds=2.5, title="")))
    began = time.monotonic()
    rates = rates_of(run, lambda step: 0.02 if step < 40 else 0.06)
    took = time.monotonic() - began
    assert 2.0 < took < 3.5
    assert max(rates) > 0.03 and rates[-1] < 0.002
    assert all(a >= b for a, b in itertools.pairwise(rates[20:]))


def test_as_many_planned_steps_have_the_rates_of_as_many_given(runner, run_config):
    planned = rates_of(runner(limited(run_config, TimeLimitHook(seconds=1.5, title=""))), lambda step: 0.05)
    given = rates_of(runner(limited(run_config, TimeLimitHook(steps=len(planned), title=""))))
    assert planned[:4] == given[:4]
    assert planned == pytest.approx(given, abs=0.005)


def test_what_it_cannot_do_is_refused(runner, run_config):
    with pytest.raises(UserError, match="give seconds, or steps"):
        TimeLimitHook()
    with pytest.raises(UserError, match="seconds=0: give a number above 0"):
        TimeLimitHook(seconds=0)
    config = limited(run_config, TimeLimitHook(steps=3, title=""))
    with pytest.raises(UserError, match="remove param_scheduler"):
        runner({**config, "param_scheduler": run_config()["param_scheduler"]}).train()
    with pytest.raises(UserError, match="counts steps"):
        hooks = {"checkpoint": {"type": "CheckpointHook", "interval": 1}}
        runner({**config, "train_cfg": {"by_epoch": True, "max_epochs": 1}, "default_hooks": hooks}).train()
