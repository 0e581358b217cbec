"""Optimizer, learning rate and length of a training of MMRazor 0.x, on mmcv's runner, in our own form.

Sources: mmcv 1.x, ``runner`` and ``runner.hooks``; MMRazor 0.x, ``apis/mmcls/train.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmrazor_lite.errors import nearest, short

from .section import Section

_RUNNERS = {"EpochBasedRunner": True, "IterBasedRunner": False}
# mmcv's name of a policy -> ours, and its options.
_POLICIES = {
    "Fixed": ("fixed", ()),
    "Step": ("step", ("step", "gamma", "min_lr")),
    "Exp": ("exp", ("gamma",)),
    "Inv": ("inv", ("gamma", "power")),
    "Poly": ("poly", ("power", "min_lr")),
    "CosineAnnealing": ("cosine", ("min_lr", "min_lr_ratio")),
    "FlatCosineAnnealing": ("flat_cosine", ("min_lr", "min_lr_ratio", "start_percent")),
    "LinearAnnealing": ("linear", ("min_lr", "min_lr_ratio")),
}
_WARMUP = ("warmup_iters", "warmup_ratio", "warmup_by_epoch")
_CONSTRUCTOR = "DefaultOptimizerConstructor"
_HALF = ("Fp16OptimizerHook", "GradientCumulativeFp16OptimizerHook")
_OPTIMIZER_HOOKS = ("OptimizerHook", "DistOptimizerHook", "GradientCumulativeOptimizerHook", *_HALF)
_LOSS_SCALE = 512.0  # mmcv's default


@dataclass(frozen=True)
class Length:
    """How long a training is: ``end`` epochs or iterations; None where the config does not say it."""

    by_epoch: bool
    end: Any


def length(top: Section) -> Length:
    """Take ``runner``, or what stood in its place in older configs, ``total_epochs``."""
    runner = top.section("runner")
    if runner.is_empty:
        return Length(True, top.take("total_epochs", to="train_cfg.max_epochs"))
    top.drop("runner says it", "total_epochs")
    kind = runner.kind()
    if kind is not None and kind not in _RUNNERS:
        known = f"{', '.join(_RUNNERS)}{nearest(str(kind), _RUNNERS)}"
        top.told.problem(f"runner.type={short(kind)}: known are {known}")
    by_epoch = _RUNNERS.get(kind, "max_iters" not in runner)
    if kind is not None:
        top.told.change("runner.type", f"train_cfg.by_epoch={by_epoch}")
    key, other = ("max_epochs", "max_iters") if by_epoch else ("max_iters", "max_epochs")
    end = runner.take(key, to=f"train_cfg.{key}")
    if end is None:
        top.told.problem(f"runner.{key}: is missing: say how long to train")
    runner.refuse(other, f"this runner is done after runner.{key}: give that alone")
    runner.finish()
    return Length(by_epoch, end)


def optim_wrapper(top: Section) -> dict[str, Any] | None:
    """Take ``optimizer``, ``optimizer_config`` and ``fp16``; None where there is no optimizer."""
    optimizer, hook = top.section("optimizer"), top.section("optimizer_config")
    found: dict[str, Any] = {"type": "SubnetOptimWrapper"}
    scale = _take_hook(hook, found)
    if top.holds("fp16"):
        half = top.section("fp16")
        scale = half.take("loss_scale", _LOSS_SCALE)
        half.finish()
    if scale is not None:
        if isinstance(scale, Mapping):
            scale = {key: value for key, value in scale.items() if key != "mode"}  # of torch before 1.6
        top.told.change("fp16", f"optim_wrapper.type='SubnetAmpOptimWrapper', its loss_scale={short(scale)}")
        found |= {"type": "SubnetAmpOptimWrapper", "loss_scale": scale}
    if optimizer.is_empty:
        return None
    paramwise = optimizer.take("paramwise_cfg", to="optim_wrapper.paramwise_cfg")
    if paramwise is not None:
        found["paramwise_cfg"] = paramwise
    optimizer.refuse("constructor", "only mmcv's own is known: say it with optimizer.paramwise_cfg", _CONSTRUCTOR)
    settings = optimizer.rest()
    if "type" not in settings:
        several = settings and all(isinstance(value, Mapping) for value in settings.values())
        why = f"is one for each of {', '.join(settings)}: a training has one" if several else "has no type"
        top.told.problem(f"optimizer: {why}; give optimizer=dict(type='SGD', lr=...)")
    top.told.change("optimizer", "optim_wrapper.optimizer")
    return {**found, "optimizer": settings}


def _take_hook(hook: Section, found: dict[str, Any]) -> Any:
    """Take ``optimizer_config`` apart, a hook of mmcv's; return the scale of losses in half precision, or None."""
    kind = hook.kind()
    if kind is not None and kind not in _OPTIMIZER_HOOKS:
        hook.told.problem(f"optimizer_config.type={short(kind)}: known are {', '.join(_OPTIMIZER_HOOKS)}")
    for key, ours in (("grad_clip", "clip_grad"), ("cumulative_iters", "accumulative_counts")):
        value = hook.take(key)
        if value is not None:
            hook.told.change(hook.place(key), f"optim_wrapper.{ours}")
            found[ours] = value
    scale = hook.take("loss_scale", _LOSS_SCALE if kind in _HALF else None)
    hook.drop(
        "left out: no result depends on it", "detect_anomalous_params", "coalesce", "bucket_size_mb", "distributed"
    )
    hook.finish()
    return scale


def param_scheduler(top: Section, training: Length) -> dict[str, Any] | None:
    """Take ``lr_config``; None where the rate stays as it is."""
    top.refuse("momentum_config", "momentum stays as it is here: remove it")
    rate = top.section("lr_config")
    if rate.is_empty:
        return None
    policy = rate.take("policy")
    name = policy.title() if isinstance(policy, str) and policy.islower() else policy
    if not isinstance(name, str) or name not in _POLICIES:
        known = f"{', '.join(_POLICIES)}{nearest(str(name), _POLICIES)}"
        top.told.problem(f"lr_config.policy={short(policy)}: known are {known}")
        return None
    ours, options = _POLICIES[name]
    in_epochs = rate.take("by_epoch", training.by_epoch)
    if in_epochs and not training.by_epoch:
        top.told.problem("lr_config.by_epoch=True: mmcv's IterBasedRunner never changes such a rate: set it to False")
    found = {"type": "PolicyLR", "policy": ours, **{key: rate.take(key) for key in options if key in rate}}
    warmup, settings = rate.take("warmup"), {key: rate.take(key) for key in _WARMUP if key in rate}
    if warmup is not None:
        found |= {"warmup": warmup, **settings}
        if settings.get("warmup_by_epoch") and not training.by_epoch:
            top.told.problem("lr_config.warmup_by_epoch=True: this runner counts iterations: give warmup_iters in them")
    rate.finish()
    found |= {"progress": "epoch" if in_epochs else "iter", "by_epoch": training.by_epoch}
    if training.end is not None:
        found["end"] = training.end
    if training.by_epoch:
        found["convert_to_iter_based"] = True
    top.told.change("lr_config", "param_scheduler (PolicyLR: the same rate in every step)")
    return found
