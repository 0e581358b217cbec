"""Optimizer, rates and length of a training of MMRazor 0.x, against mmcv's hooks played step by step."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from migration.v0_layout import autoslim, ours, translated
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

import mmrazor_lite.engine  # noqa: F401  registers the schedule

EPOCHS, LENGTH, BASE = 4, 5, 0.1


def regular(policy: str, t: int, end: int) -> float:
    """mmcv's rate without warmup, of the options below."""
    if policy == "poly":
        return (BASE - 0.01) * (1 - t / end) ** 0.9 + 0.01
    if policy == "CosineAnnealing":
        target = BASE * 0.05
        return target + 0.5 * (BASE - target) * (math.cos(math.pi * t / end) + 1)
    if policy == "step":
        return BASE * 0.5 ** sum(t >= at for at in (1, 3))
    return BASE * 0.9**t


OPTIONS = {
    "poly": dict(power=0.9, min_lr=0.01),
    "CosineAnnealing": dict(min_lr_ratio=0.05),
    "step": dict(step=[1, 3], gamma=0.5),
    "exp": dict(gamma=0.9),
}
WARMUPS = {
    "none": {},
    "linear": dict(warmup="linear", warmup_iters=7, warmup_ratio=0.25),
    "constant": dict(warmup="constant", warmup_iters=3, warmup_ratio=0.5),
    "exp": dict(warmup="exp", warmup_iters=6, warmup_ratio=0.01),
    "epochs": dict(warmup="linear", warmup_iters=2, warmup_ratio=0.1, warmup_by_epoch=True),
}


def played(policy: str, warmup: dict, by_epoch: bool) -> list[float]:
    """The rate of every iteration as mmcv's hook sets it, before each epoch and before each iteration."""
    ratio, steps = warmup.get("warmup_ratio"), warmup.get("warmup_iters", 0)
    steps *= LENGTH if warmup.get("warmup_by_epoch") else 1
    group, used, plain = SimpleNamespace(lr=BASE), [], BASE

    def warm(i: int) -> float:
        if warmup["warmup"] == "constant":
            return plain * ratio
        if warmup["warmup"] == "linear":
            return plain * (1 - (1 - i / steps) * (1 - ratio))
        return plain * ratio ** (1 - i / steps)

    for epoch in range(EPOCHS):
        if by_epoch:
            group.lr = plain = regular(policy, epoch, EPOCHS)
        for i in range(epoch * LENGTH, (epoch + 1) * LENGTH):
            if not by_epoch:
                plain = regular(policy, i, EPOCHS * LENGTH)
                group.lr = warm(i) if i < steps else plain
            elif warmup and i <= steps:
                group.lr = plain if i == steps else warm(i)
            used.append(group.lr)
    return used


def rates(schedule: dict, length: int = LENGTH) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=BASE)
    wrapper = OptimWrapper(optimizer)
    config = {**schedule, "type": f"mmrazor_lite.{schedule['type']}"}
    scheduler = PARAM_SCHEDULERS.build(config, default_args={"optimizer": wrapper, "epoch_length": length})
    used = []
    for _ in range(EPOCHS * LENGTH):
        used.append(optimizer.param_groups[0]["lr"])
        wrapper.update_params(optimizer.param_groups[0]["params"][0].sum())
        scheduler.step()
    return used


@pytest.mark.parametrize("warmup", WARMUPS)
@pytest.mark.parametrize("policy", OPTIONS)
@pytest.mark.parametrize("by_epoch", [True, False])
def test_rates_are_mmcvs_in_every_iteration(policy, warmup, by_epoch):
    config = autoslim()
    config["lr_config"] = dict(policy=policy, by_epoch=by_epoch, **OPTIONS[policy], **WARMUPS[warmup])
    config["runner"] = dict(type="EpochBasedRunner", max_epochs=EPOCHS)
    assert rates(ours(config)["param_scheduler"]) == pytest.approx(played(policy, WARMUPS[warmup], by_epoch), rel=1e-12)


def test_a_runner_of_iterations_counts_everything_in_them():
    config = autoslim()
    config["lr_config"] = dict(policy="poly", **OPTIONS["poly"])  # by_epoch follows the runner
    config["runner"] = dict(type="IterBasedRunner", max_iters=EPOCHS * LENGTH)
    found = ours(config)
    assert rates(found["param_scheduler"], length=999) == pytest.approx(played("poly", {}, by_epoch=False))
    assert found["train_cfg"] == {"by_epoch": False, "max_iters": EPOCHS * LENGTH, "val_interval": 1}
    checkpoint = found["default_hooks"]["checkpoint"]
    assert (checkpoint["by_epoch"], checkpoint["interval"]) == (False, 1) and not found["log_processor"]["by_epoch"]


def test_the_optimizer_keeps_all_that_it_says():
    config = autoslim()
    paramwise = dict(bias_decay_mult=0.0, custom_keys={"head": dict(lr_mult=2.0)})
    config["optimizer"] = dict(type="AdamW", lr=1e-3, betas=(0.8, 0.95), eps=1e-7, paramwise_cfg=paramwise)
    config["optimizer_config"] = dict(
        type="GradientCumulativeOptimizerHook", cumulative_iters=3, grad_clip=dict(max_norm=5.0, norm_type=2)
    )
    assert ours(config)["optim_wrapper"] == {
        "type": "SubnetOptimWrapper",
        "optimizer": dict(type="AdamW", lr=1e-3, betas=(0.8, 0.95), eps=1e-7),
        "paramwise_cfg": paramwise,
        "accumulative_counts": 3,
        "clip_grad": dict(max_norm=5.0, norm_type=2),
    }


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        (dict(fp16=dict(loss_scale="dynamic")), "dynamic"),
        (dict(fp16=dict(loss_scale=dict(init_scale=64.0, mode="dynamic"))), dict(init_scale=64.0)),
        (dict(optimizer_config=dict(type="Fp16OptimizerHook", loss_scale=128.0)), 128.0),
        (dict(fp16={}), 512.0),
    ],
)
def test_half_precision_in_both_of_its_spellings(changes, scale):
    found = ours({**autoslim(), **changes})["optim_wrapper"]
    assert (found["type"], found["loss_scale"]) == ("SubnetAmpOptimWrapper", scale)


def test_older_configs_say_total_epochs():
    config = autoslim()
    del config["runner"]
    assert ours({**config, "total_epochs": 7})["train_cfg"]["max_epochs"] == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(lr_config=dict(policy="polly")), "lr_config.policy='polly': known are Fixed, Step"),
        (dict(lr_config=dict(policy="poly", gama=1)), "lr_config.gama: unknown key"),
        (dict(lr_config=dict(policy="poly", by_epoch=True)), "lr_config.by_epoch=True: mmcv's IterBasedRunner never"),
        (dict(runner=dict(type="IterBasedRunner")), "runner.max_iters: is missing"),
        (dict(runner=dict(type="IterBasedRunner", max_iters=2, max_epochs=2)), "runner.max_epochs=2"),
        (dict(runner=dict(type="MultiLoaderIterBasedRunner", max_iters=2)), "runner.type='MultiLoaderIterBasedRunner'"),
        (dict(optimizer=dict(a=dict(type="SGD"), b=dict(type="SGD"))), "optimizer: is one for each of a, b"),
        (dict(optimizer_config=dict(type="DartsHook")), "optimizer_config.type='DartsHook'"),
        (dict(momentum_config=dict(policy="cyclic")), "momentum_config="),
        (dict(lr_config=[1]), "lr_config=[1]: give a dict"),
    ],
)
def test_what_has_no_counterpart_is_told_by_its_key(changes, said):
    config = {**autoslim(), "runner": dict(type="IterBasedRunner", max_iters=9), **changes}
    (problem,) = translated(config).problems
    assert problem.startswith(said)
