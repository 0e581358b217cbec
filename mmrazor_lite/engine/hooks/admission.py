"""Hooks of mmengine, mmpretrain and of the user's own in our runs: which work, which are refused, and what they raise.

A hook is looked at when it is registered, before data are read and anything is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS as ALL_HOOKS
from mmengine.runner import Runner

from mmrazor_lite.engine.ddp import unwrapped
from mmrazor_lite.engine.our_types import our_type
from mmrazor_lite.errors import UserError, building, failing
from mmrazor_lite.models.algorithms.tfnas import TFNAS
from mmrazor_lite.registry import SCOPE

_OF_ONE_MODEL = {  # hooks of mmpretrain that set something in one class of models
    "DenseCLHook": "DenseCL",
    "SimSiamHook": "SimSiam",
    "SwAVHook": "SwAV",
    "PrepareProtoBeforeValLoopHook": "ImageToImageRetriever",
}
_NEVER = {
    "PrepareTTAHook": "test-time augmentation is not carried: a test reports the network itself",
    "NaiveVisualizationHook": "it draws batches of another form; use VisualizationHook",
}


def admitted(hook: Hook | Mapping[str, Any], runner: Runner) -> Hook:
    """Return the hook, built if need be; ours where the config names the one of mmengine or mmpretrain in its place.

    Raises:
        UserError: It cannot be built, or not do here what it is for.
    """
    if not isinstance(hook, Mapping):
        _check(type(hook), vars(hook), runner)
        return hook
    config = dict(hook)
    priority, kind = config.pop("priority", None), our_type(config.get("type"))
    config["type"] = kind
    built = ALL_HOOKS.get(kind) if isinstance(kind, str) else kind
    if isinstance(built, type):
        _check(built, config, runner)
    with building(f"the hook {kind}"):
        try:
            made = ALL_HOOKS.build(config)
        except ImportError as error:
            raise UserError(f"the hook {kind} cannot be built: {error}") from error
    if priority is not None:
        made.priority = priority
    return made


def call(hook: Hook, stage: str, runner: Runner, arguments: Mapping[str, Any]) -> None:
    """Call one stage of a hook, if it has it; what a hook that is not ours raises is told in one line.

    Raises:
        UserError: From ours as it is; else with the name of the hook and the stage.
    """
    method: Callable | None = getattr(hook, stage, None)
    if method is None:
        return
    ours = type(hook).__module__.startswith(f"{SCOPE}.")
    with nullcontext() if ours else failing(f"the hook {type(hook).__name__} failed in {stage}"):
        method(runner, **arguments)


def _check(kind: type[Hook], options: Mapping[str, Any], runner: Runner) -> None:
    reason = _refusal(kind, options, runner)
    if reason:
        raise UserError(f"the hook {kind.__name__}: {reason}; remove it from the config")


def _refusal(kind: type[Hook], options: Mapping[str, Any], runner: Runner) -> str | None:
    """Say why a hook with these options would not do what it is for in this run."""
    name, model = kind.__name__, unwrapped(runner.model)
    if not kind.__module__.startswith(("mmengine.", "mmpretrain.", "mmcv.")):
        return None
    if name in _NEVER:
        return _NEVER[name]
    if name == "ParamSchedulerHook" and any(type(other) is kind for other in runner._hooks):
        return "it is among the default hooks already, and twice it steps every schedule twice"
    if name in _OF_ONE_MODEL and type(model).__name__ != _OF_ONE_MODEL[name]:
        return f"it is for the model {_OF_ONE_MODEL[name]}, this is {type(model).__name__}"
    holds = getattr(model, "kind", None)
    if holds is None:
        return None  # a plain model of mmpretrain's
    if name in ("RFSearchHook", "SetAdaptiveMarginsHook"):
        return f"it changes layers of a model of mmpretrain's, here they are held by {type(model).__name__}"
    if holds == "subnet":
        return None
    if name == "PreciseBNHook":
        return (
            "statistics of a supernet fit no subnet; they are recalibrated for each one before it is scored "
            "(val_cfg.calibrate_sample_num), and by a search"
        )
    if name == "EMAHook" and isinstance(model, TFNAS):
        return "widths change after every epoch, and averaged weights would be of other channels"
    if name == "EMAHook" and options.get("evaluate_on_origin") and options.get("evaluate_on_ema", True):
        return "evaluate_on_origin=True evaluates without choosing a subnet; validate one of both (evaluate_on_ema)"
    return None
