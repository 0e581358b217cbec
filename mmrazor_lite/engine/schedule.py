"""The config holds: schedule and hyperparameters of a resumed run are those of the config as it is now.

A checkpoint carries the values that its run was started with, in the states of the optimizer and of the schedulers and
as plain settings. Where the config says others, the optimizer keeps its momentum, and the schedule is put where it
would be had the run been started with the config.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler

from mmrazor_lite.engine.differences import differences
from mmrazor_lite.errors import UserError
from mmrazor_lite.plain_data import plain

SECTIONS = ("optim_wrapper", "param_scheduler", "train_cfg", "auto_scale_lr")
_MOVING = {"optimizer", "last_step", "_global_step", "_last_value", "verbose", "base_values"}  # the last: of the groups
_MOVING_ON_PLATEAU = {"best", "num_bad_epochs", "cooldown_counter"}
_OF_TORCH = {"foreach", "fused", "maximize", "capturable", "differentiable", "decoupled_weight_decay"}  # newer options
_OF_SCHEDULES = ("initial_", "max_", "min_")  # begin the options that schedulers keep in the groups
_NEED_STATE = ("amsgrad", "centered", "momentum")  # once on, they read what the steps before would have left
_SHOWN = 12


def settings_of(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config says about the course of the training, as plain data: carried by its checkpoints."""
    found = {name: plain(cfg[name], _kept) for name in SECTIONS if cfg.get(name) is not None}
    batch_size = (cfg.get("train_dataloader") or {}).get("batch_size")
    return {**found, **({"batch_size": batch_size} if isinstance(batch_size, int) else {})}


def restore(
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    schedulers: Mapping[str, Sequence] | Sequence | None,
    checkpoint: Mapping[str, Any],
    settings: Mapping[str, Any],
    place: tuple[int, int, int],
    filename: str,
) -> dict[str, tuple[Any, Any]]:
    """Load the states of the optimizer and of its schedulers, as far as the config still says the same.

    Args:
        optim_wrapper: As the config builds it; gets the momentum of the checkpoint.
        schedulers: As the config builds them, at the beginning: of one optimizer, or of several by name.
        checkpoint: Content of the file.
        settings: :func:`settings_of` the config.
        place: Epochs and iterations done, which the schedulers have counted, and the iterations of one epoch.
        filename: Names the source in errors.

    Returns:
        What differs, name -> (value of the run so far, value of the config, which holds).

    Raises:
        UserError: The state belongs to another optimizer, or a schedule that follows the metrics was changed.
    """
    meta = checkpoint.get("meta") or {}
    then, moved = meta.get("settings"), meta.get("iter", place[1]) != place[1]
    changed = differences(then, settings, inside_lists=True) if isinstance(then, Mapping) else {}
    parts = _parts(optim_wrapper, schedulers)
    states = _states(checkpoint.get("param_schedulers"), parts)
    fresh = {name: [_options(group) for group in _groups(wrapper)] for name, (wrapper, _) in parts.items()}
    _load_optimizer(optim_wrapper, checkpoint["optimizer"], changed, filename)
    for name, (wrapper, mine) in parts.items():
        where = f".{name}" if name else ""
        different = {
            **_group_differences([_options(group) for group in _groups(wrapper)], fresh[name], f"optim_wrapper{where}"),
            **_schedule_differences(mine, states[name], f"param_scheduler{where}"),
        }
        _check_state(wrapper, different, filename)
        if not different and not moved:
            for scheduler, state in zip(mine, states[name], strict=True):
                scheduler.load_state_dict(dict(state))
            continue
        if any(isinstance(scheduler, ReduceOnPlateauParamScheduler) for scheduler in mine):
            raise UserError(
                f"{filename}: {_line(different)}: where a schedule that follows the metrics would be cannot be told; "
                "resume with the same param_scheduler and optim_wrapper, or start from the weights with load_from"
            )
        for group, options in zip(_groups(wrapper), fresh[name], strict=True):
            kept = {key: value for key, value in group.items() if key == "params"}
            group.clear()
            group.update({**kept, **options})
        put_at(wrapper, mine, *place)
        changed = {**different, **changed}
    return changed


def told(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """The line for the log."""
    return f"the config holds where it differs from that of the run so far: {_line(changed)}"


def put_at(wrapper: OptimWrapper, schedulers: Sequence, epochs: int, iterations: int, length: int) -> None:
    """Step schedulers that are at the beginning as the training would have, without the training.

    Values are computed by multiplying from step to step, so nothing else gives the same bits. What is equal for
    several groups of parameters is computed once: there may be one group for each of hundreds of layers.
    """
    optimizer = wrapper.optimizer
    all_groups = optimizer.param_groups
    few, which = _different(all_groups, schedulers)
    bases = [scheduler.base_values for scheduler in schedulers]
    number = len(all_groups)

    optimizer.param_groups = [all_groups[index] for index in few]
    for scheduler, base in zip(schedulers, bases, strict=True):
        scheduler.base_values = [base[index] for index in few] + base[number:]
        last = scheduler._last_value  # of one that does not step before its first epoch ends, it stays
        scheduler._last_value = [last[index] for index in few] + last[number:]
    wrapper._global_step = 0  # mmengine warns of schedulers that step before their optimizer
    try:
        for step in _order(schedulers, epochs, iterations, length):
            step()
    finally:
        optimizer.param_groups = all_groups
        for scheduler, base in zip(schedulers, bases, strict=True):
            last = scheduler._last_value
            scheduler.base_values = base
            scheduler._last_value = [last[index] for index in which] + last[len(few) :]
    for group, index in zip(all_groups, which, strict=True):
        group.update(_options(all_groups[few[index]]))


def _order(schedulers: Sequence, epochs: int, iterations: int, length: int) -> Iterator[Callable[[], None]]:
    """The steps of all of them, in the order of the training: each multiplies what the one before has left."""
    by_epoch = [scheduler.step for scheduler in schedulers if scheduler.by_epoch]
    by_iteration = [scheduler.step for scheduler in schedulers if not scheduler.by_epoch]
    for _ in range(epochs):
        yield from by_iteration * length
        yield from by_epoch
    yield from by_iteration * (iterations - epochs * length)


def _different(groups: Sequence[Mapping], schedulers: Sequence) -> tuple[list[int], list[int]]:
    """Indices of groups that differ in their options, and for each group its place among them."""
    ours = all(type(scheduler).__module__.startswith(("mmengine.", "mmrazor_lite.")) for scheduler in schedulers)
    seen: dict[str, int] = {}
    few, which = [], []
    for index, group in enumerate(groups):
        key = repr((sorted(_options(group).items()), [scheduler.base_values[index] for scheduler in schedulers]))
        if not ours:  # a user's may hold more by group
            key = str(index)
        if key not in seen:
            seen[key] = len(few)
            few.append(index)
        which.append(seen[key])
    return few, which


def _load_optimizer(wrapper: Any, state: Mapping[str, Any], changed: Mapping[str, Any], filename: str) -> None:
    kinds = {key: pair for key, pair in changed.items() if key.endswith("optimizer.type")}
    if kinds:
        raise UserError(_another(filename, _line(kinds)))
    if any(key.rpartition(".")[2] in ("loss_scale", "dtype") or ".loss_scale." in key for key in changed):
        state = _without_scaler(state)  # the scale that the config says holds
    try:
        wrapper.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(_another(filename, " ".join(str(error).split())[:200])) from None


def _check_state(wrapper: OptimWrapper, different: Mapping[str, tuple[Any, Any]], filename: str) -> None:
    """Refuse options whose state the checkpoint does not have, and those of another kind of optimizer."""
    for key, (before, after) in different.items():
        name = key.rpartition(".optimizer.")[2]
        turned_on = name in _NEED_STATE and not before and after and type(wrapper.optimizer).__name__ != "SGD"
        if ".optimizer." in key and (turned_on or None in (before, after)):
            raise UserError(_another(filename, _line({key: (before, after)})))


def _another(filename: str, what: str) -> str:
    return (
        f"{filename} was trained with another optimizer ({what}); resume with the same, or start from its weights with "
        "load_from"
    )


def _without_scaler(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_scaler(value) if isinstance(value, Mapping) and "loss_scaler" in value else value
        for key, value in state.items()
        if key != "loss_scaler"
    }


def _parts(wrapper: Any, schedulers: Any) -> dict[str, tuple[Any, list]]:
    """Each optimizer with its schedulers, by name; one alone has none."""
    if isinstance(wrapper, OptimWrapperDict):
        by_name = schedulers if isinstance(schedulers, Mapping) else {}
        return {name: (part, list(by_name.get(name) or ())) for name, part in wrapper.items()}
    return {"": (wrapper, list(schedulers or ()))}


def _states(saved: Any, parts: Mapping[str, tuple[Any, list]]) -> dict[str, list]:
    """The saved states of each optimizer's schedulers; a list of all is cut as the config's are."""
    if isinstance(saved, Mapping):
        return {name: list(saved.get(name) or ()) for name in parts}
    left, states = list(saved or ()), {}
    for index, (name, (_, mine)) in enumerate(parts.items()):
        count = len(left) if index == len(parts) - 1 else len(mine)
        states[name], left = left[:count], left[count:]
    return states


def _groups(wrapper: OptimWrapper) -> list[dict]:
    """All groups of options, that of the base learning rate too."""
    return list(wrapper.param_groups)


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _group_differences(then: Sequence[Mapping], now: Sequence[Mapping], where: str) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for old, new in zip(then, now, strict=True):
        for key in [key for key in {**old, **new} if not key.startswith(_OF_SCHEDULES)]:
            before, after = (group.get(f"initial_{key}", group.get(key)) for group in (old, new))
            missing = key in _OF_TORCH and not (key in old and key in new)
            if not missing and not _equal(before, after):
                found.setdefault(f"{where}.optimizer.{key}", (before, after))
    return found


def _schedule_differences(schedulers: Sequence, states: Sequence[Mapping], where: str) -> dict[str, tuple[Any, Any]]:
    if len(schedulers) != len(states):
        return {where: (f"{len(states)} of them", f"{len(schedulers)}")}
    found = {}
    for index, (scheduler, state) in enumerate(zip(schedulers, states, strict=True)):
        moving = set(_MOVING)
        if isinstance(scheduler, ReduceOnPlateauParamScheduler):
            moving |= _MOVING_ON_PLATEAU
        mine = scheduler.state_dict()
        for key in {**state, **mine}:
            if key not in moving and not callable(mine.get(key)) and not _equal(state.get(key), mine.get(key)):
                found[f"{where}.{index}.{key}"] = (state.get(key), mine.get(key))
    return found


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return dict(before) == dict(after)
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        return len(before) == len(after) and all(map(_equal, before, after))
    try:
        return bool(before == after) or (
            isinstance(before, float) and isinstance(after, float) and math.isnan(before) and math.isnan(after)
        )
    except (RuntimeError, ValueError):  # a tensor of several elements
        return False


def _kept(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else f"a {type(value).__name__}"


def _line(changed: Mapping[str, tuple[Any, Any]]) -> str:
    shown = [f"{key} {_short(old)} -> {_short(new)}" for key, (old, new) in list(changed.items())[:_SHOWN]]
    return ", ".join(shown) + (f", and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")


def _short(value: Any) -> str:
    text = "not set" if value is None else " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
