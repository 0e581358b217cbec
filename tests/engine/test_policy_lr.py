"""PolicyLR gives the rates of mmcv's formulas, written down here once more, at every step of a training."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmrazor_lite.engine import PolicyLR
from mmrazor_lite.engine.schedule import put_at
from mmrazor_lite.errors import UserError

EPOCHS, LENGTH = 6, 5
BASES = (0.5, 0.05)


def regular(policy: dict, base: float, t: int, end: int) -> float:
    """The rate without a warmup after ``t`` of ``end`` epochs or iterations."""
    kind, options = policy["policy"], policy
    low = options.get("min_lr", 0.0) if "min_lr_ratio" not in options else base * options["min_lr_ratio"]
    if kind == "step":
        at = options["step"]
        drops = t // at if isinstance(at, int) else len([one for one in at if one <= t])
        return max(base * options.get("gamma", 0.1) ** drops, low)
    if kind == "exp":
        return base * math.pow(options["gamma"], t)
    if kind == "inv":
        return base / (1 + options["gamma"] * t) ** options.get("power", 1)
    if kind == "poly":
        return low + (base - low) * ((end - t) / end) ** options.get("power", 1)
    if kind == "linear":
        return base * (1 - t / end) + low * t / end
    if kind == "flat_cosine":
        flat = round(end * options.get("start_percent", 0.75))
        t, end = max(t - flat, 0), end - flat
    if kind in ("cosine", "flat_cosine"):
        return low + (base - low) * math.cos(math.pi * t / end / 2) ** 2
    return base


def warmed(policy: dict, rate: float, i: int) -> float:
    kind, ratio = policy.get("warmup"), policy.get("warmup_ratio", 0.1)
    steps = policy.get("warmup_iters", 0) * (LENGTH if policy.get("warmup_by_epoch") else 1)
    if kind is None or i >= steps:
        return rate
    factor = {"constant": ratio, "linear": ratio + (1 - ratio) * i / steps, "exp": ratio / ratio ** (i / steps)}[kind]
    return rate * factor


POLICIES = [
    {"policy": "fixed"},
    {"policy": "step", "step": 2},
    {"policy": "step", "step": [2, 5], "gamma": 0.3, "min_lr": 0.02},
    {"policy": "exp", "gamma": 0.9},
    {"policy": "inv", "gamma": 0.2, "power": 0.7},
    {"policy": "poly", "power": 1.0, "min_lr": 0.0},
    {"policy": "poly", "power": 0.9, "min_lr": 1e-3},
    {"policy": "cosine", "min_lr": 1e-3},
    {"policy": "cosine", "min_lr_ratio": 0.01},
    {"policy": "flat_cosine", "min_lr": 0.0, "start_percent": 0.5},
    {"policy": "linear", "min_lr": 0.01},
]
WARMUPS = [
    {},
    {"warmup": "constant", "warmup_iters": 7, "warmup_ratio": 0.2},
    {"warmup": "linear", "warmup_iters": 8, "warmup_ratio": 0.25},
    {"warmup": "exp", "warmup_iters": 8, "warmup_ratio": 0.01},
]


def built(options: dict, by_epoch: bool) -> tuple[OptimWrapper, PolicyLR]:
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in BASES]
    wrapper = OptimWrapper(torch.optim.SGD(groups, lr=0.5))
    ends = {"end": EPOCHS, "convert_to_iter_based": True} if by_epoch else {"end": EPOCHS * LENGTH}
    default = {"optimizer": wrapper, "epoch_length": LENGTH}
    config = {"type": "mmrazor_lite.PolicyLR", "by_epoch": by_epoch, **ends, **options}
    return wrapper, PARAM_SCHEDULERS.build(config, default_args=default)


def rates(options: dict, by_epoch: bool) -> list[list[float]]:
    """The rate of each group in each iteration."""
    wrapper, scheduler = built(options, by_epoch)
    used = []
    for _ in range(EPOCHS * LENGTH):
        used.append([group["lr"] for group in wrapper.optimizer.param_groups])
        wrapper.update_params(sum(group["params"][0].sum() for group in wrapper.optimizer.param_groups))
        scheduler.step()
    return used


@pytest.mark.parametrize("warmup", WARMUPS, ids=str)
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_rates_by_iteration_and_by_epoch_are_those_of_the_formula(policy, warmup):
    for by_epoch, progress in ((False, "iter"), (True, "iter"), (True, "epoch")):
        unit = LENGTH if progress == "epoch" else 1
        expected = [
            [warmed(warmup, regular(policy, base, i // unit, EPOCHS * LENGTH // unit), i) for base in BASES]
            for i in range(EPOCHS * LENGTH)
        ]
        found = rates({**policy, **warmup, "progress": progress}, by_epoch)
        assert found == [pytest.approx(row, rel=1e-12) for row in expected]


def test_a_warmup_may_be_counted_in_epochs():
    warmup = {"warmup": "linear", "warmup_iters": 2, "warmup_ratio": 0.1, "warmup_by_epoch": True}
    found = rates({"policy": "fixed", **warmup}, by_epoch=True)
    assert found == [pytest.approx([warmed(warmup, base, i) for base in BASES]) for i in range(EPOCHS * LENGTH)]
    assert found[2 * LENGTH - 1][0] < BASES[0] == found[2 * LENGTH][0]


def test_a_resumed_run_finds_its_place():
    options = {"policy": "cosine", "min_lr": 1e-4, **WARMUPS[2]}
    for done in (3, 17):
        wrapper, scheduler = built(options, by_epoch=True)
        put_at(wrapper, [scheduler], done // LENGTH, done, LENGTH)
        assert [group["lr"] for group in wrapper.optimizer.param_groups] == rates(options, by_epoch=True)[done]
        other = built(options, by_epoch=True)[1]
        other.load_state_dict(scheduler.state_dict())
        assert other.state_dict() == scheduler.state_dict()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policy": "polly"}, "policy='polly'"),
        ({"policy": "poly", "gamma": 0.1}, "policy 'poly' has no 'gamma' (it has min_lr, power)"),
        ({"policy": "step"}, "policy 'step' needs 'step'"),
        ({"policy": "step", "step": [0, 2]}, "step=0"),
        ({"policy": "cosine", "min_lr": 0.1, "min_lr_ratio": 0.1}, "not both"),
        ({"policy": "fixed", "warmup": "linear"}, "warmup_iters=0"),
        ({"policy": "fixed", "warmup": "linear", "warmup_iters": 2, "warmup_ratio": 0}, "warmup_ratio=0"),
        ({"policy": "fixed", "progress": "epoch"}, "counts in epochs"),
        ({"policy": "fixed", "by_epoch": True}, "convert_to_iter_based=True"),
    ],
)
def test_what_makes_no_schedule_is_one_line(options, said):
    wrapper, _ = built({"policy": "fixed"}, by_epoch=False)
    with pytest.raises(UserError) as error:
        PolicyLR(wrapper, **{"by_epoch": False, "end": 10, **options})
    assert said in str(error.value) and "\n" not in str(error.value)
