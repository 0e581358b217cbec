"""What the values of a config may be: types by the signatures of what is built, ranges by the table below.

Everything is judged before anything is built, also in sections that a step does not read. What only the built thing
can judge is left to it, and told by :func:`mmrazor_lite.errors.building`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from mmrazor_lite import walk
from mmrazor_lite.errors import UserError, check_flag, check_number, check_one_of, nearest, short

from . import annotations, schema
from .schema import LARGEST_SEED, LAUNCHERS

_DDP_FLAGS = (
    "check_reduction gradient_as_bucket_view init_sync skip_all_reduce_unused_params static_graph batched_grad_copy "
    "lazy_bucket_allocation".split()
)
_DDP_OBJECTS = (  # what only code can make
    "delay_all_reduce_named_params device_ids device_mesh dim mixed_precision module output_device "
    "param_to_hook_all_reduce process_group".split()
)
Rule = Callable[[str, Any], None]  # of the key, for messages, and its value

MOST = 1_000_000  # values of a config
_MAPPINGS = frozenset(
    "model train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg auto_scale_lr optim_wrapper "
    "default_hooks data_preprocessor env_cfg log_processor visualizer randomness model_wrapper_cfg search_cfg "
    "custom_imports".split()
)
_LISTED = frozenset("param_scheduler val_evaluator test_evaluator custom_hooks vis_backends".split())
_INFINITE = ("norm_type", "constraints_range")  # keys below which infinity means something


def _whole(low: float, high: float = math.inf, optional: bool = False) -> Rule:
    return partial(check_number, low=low, high=high, whole=True, optional=optional)


def _number(low: float = -math.inf, high: float = math.inf, above: bool = False, optional: bool = False) -> Rule:
    return partial(check_number, low=low, high=high, above=above, optional=optional)


def _count(where: str, value: Any) -> None:
    """A whole number of 1 or more, which may be written as 1e5."""
    check_number(where, int(value) if isinstance(value, float) and value.is_integer() else value, 1, whole=True)


def _one_of(*allowed: Any) -> Rule:
    return partial(check_one_of, allowed=allowed)


def _text(where: str, value: Any) -> None:
    if value is not None and (not isinstance(value, str | Path) or not str(value).strip()):
        raise UserError(f"{where}={short(value)}: give text, or leave it out")


def _section(where: str, value: Any) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise UserError(f"{where}={short(value)}: give a dict")


def _built(where: str, value: Any) -> None:
    """A dict that names a class."""
    _section(where, value)
    if value is not None and not value.get("type"):
        raise UserError(f"{where}={short(value)}: the key 'type' is missing")


def _sections(where: str, value: Any) -> None:
    parts = value if isinstance(value, list | tuple) else [value]
    if not all(part is None or isinstance(part, Mapping) for part in parts):
        raise UserError(f"{where}={short(value)}: give a dict, or a list of them")


def _some_sections(where: str, value: Any) -> None:
    _sections(where, value)
    if isinstance(value, list | tuple) and not value:
        raise UserError(f"{where}={short(value)}: give a dict, or a list of at least one")


def _counts(where: str, value: Any) -> None:
    parts = value if isinstance(value, list | tuple) else [value]
    if value is not None and not (parts and all(type(part) is int and part > 0 for part in parts)):
        raise UserError(f"{where}={short(value)}: give a whole number of 1 or more, or a list of such")


def _function(where: str, value: Any) -> None:
    if not callable(value):
        _section(where, value)


def _above_zero(where: str, value: Any) -> None:
    for part in value if isinstance(value, list | tuple) else [value]:
        check_number(where, part, 0, above=True, optional=not isinstance(value, list | tuple))


def _preprocessor(where: str, value: Any) -> None:
    """A section; mmpretrain's own normalises where it is told both a mean and a deviation, and never by one of them."""
    _section(where, value)
    if value and str(value.get("type", "ClsDataPreprocessor")).endswith("ClsDataPreprocessor"):
        given = [key for key in ("mean", "std") if value.get(key) is not None]
        if len(given) == 1:
            raise UserError(f"{where}.{given[0]} is given alone: give mean and std, or neither (None)")


def _clipping(where: str, value: Any) -> None:
    _section(where, value)
    if value:
        needed = "clip_value" if value.get("type") == "value" else "max_norm"
        if needed not in value:
            raise UserError(f"{where}={short(dict(value))}: give {needed} too, a number above 0")


def _some_images(where: str, value: Any) -> None:
    """How many of a dataset's images to take, those at the end where negative, or which."""
    if isinstance(value, bool) or not isinstance(value, int | list | tuple | None):
        raise UserError(f"{where}={short(value)}: give a whole number, a list of them or None")
    if value in (0, [], ()):
        raise UserError(f"{where}={short(value)}: takes no image; give how many, which, or None for all")


def _nothing(where: str, value: Any) -> None:
    raise UserError(f"{where}: a config does not say this; remove it")


def _level(where: str, value: Any) -> None:
    names = [name for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")]
    if isinstance(value, bool) or not (value in names or (isinstance(value, int) and 0 < value <= logging.CRITICAL)):
        raise UserError(f"{where}={short(value)}: allowed are {', '.join(names)}{nearest(str(value).upper(), names)}")


def _order_of_memory(where: str, value: Any) -> None:
    if not isinstance(value, bool) and value != "auto":
        raise UserError(f"{where}={short(value)}: allowed are 'auto', True or False")


def _milestones(where: str, value: Any) -> None:
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f"{where}={short(value)}: give a list of epochs or iterations, such as [30, 60]")
    for item in value:
        check_number(where, item, 0, whole=True)


def _intervals(where: str, value: Any) -> None:
    pairs = value if isinstance(value, list | tuple) else [None]
    if value is not None and not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise UserError(f"{where}={short(value)}: give a list of (begin, interval), such as [(10, 2)]")
    for pair in value or ():
        check_number(where, pair[0], 0, whole=True)
        check_number(where, pair[1], 1, whole=True)


# Rule -> the keys that it is for; ``*`` is any part of a key, ``**`` any number of parts. What is not listed is judged
# by the type in the signature of what is built.
_FLAGS = (
    "*_cfg.by_epoch param_scheduler**.by_epoch param_scheduler**.convert_to_iter_based **dataloader.pin_memory "
    "**dataloader.persistent_workers **dataloader.drop_last **dataloader.disable_subprocess_warning "
    "optim_wrapper**.paramwise_cfg.bypass_duplicate env_cfg.cudnn_benchmark randomness.deterministic "
    "randomness.diff_rank_seed auto_scale_lr.enable resume find_unused_parameters"
)
_RULES: tuple[tuple[Rule, str], ...] = (
    (check_flag, f"{_FLAGS} {' '.join(f'model_wrapper_cfg.{key}' for key in _DDP_FLAGS)}"),
    (_nothing, f"cfg {' '.join(f'model_wrapper_cfg.{key}' for key in _DDP_OBJECTS)}"),
    (_count, "train_cfg.max_epochs train_cfg.max_iters"),
    (_counts, "**.topk"),
    (_whole(0), "train_cfg.val_begin param_scheduler**.begin"),
    (
        _whole(1),
        "train_cfg.val_interval **dataloader.batch_size **dataloader.num_batch_per_epoch param_scheduler**.end "
        "optim_wrapper**.accumulative_counts param_scheduler**.step_size default_hooks.logger.interval "
        "default_hooks.visualization.interval log_processor.window_size auto_scale_lr.base_batch_size",
    ),
    (_whole(-1), "*_hooks.*.interval"),
    (_whole(1, optional=True), "**dataloader.prefetch_factor param_scheduler**.T_max"),
    (_whole(0, 10_000), "**dataloader.num_workers env_cfg.mp_cfg.opencv_num_threads"),
    (_whole(1, 100), "log_processor.num_digits"),
    (_whole(1, 2**31), "env_cfg.resource_limit"),
    (_whole(0, LARGEST_SEED, optional=True), "randomness.seed"),
    (
        _number(0),
        "**dataloader.timeout optim_wrapper**.optimizer.lr optim_wrapper**.optimizer.momentum param_scheduler**.power "
        "optim_wrapper**.optimizer.weight_decay optim_wrapper**.paramwise_cfg.*_mult",
    ),
    (_number(0, optional=True), "param_scheduler**.eta_min"),
    (
        _number(0, above=True),
        "optim_wrapper**.clip_grad.max_norm optim_wrapper**.clip_grad.clip_value param_scheduler**.gamma",
    ),
    (_number(0, above=True, optional=True), "env_cfg.dist_cfg.timeout model_wrapper_cfg.bucket_cap_mb"),
    (_above_zero, "**data_preprocessor.std"),
    (_some_images, "**dataset.indices"),
    (_preprocessor, "**data_preprocessor"),
    (_clipping, "optim_wrapper**.clip_grad"),
    (_milestones, "param_scheduler**.milestones"),
    (_intervals, "train_cfg.dynamic_intervals"),
    (_level, "log_level"),
    (_order_of_memory, "channels_last"),
    (_text, "load_from work_dir experiment_name default_scope data_root **dataloader.pin_memory_device"),
    (_function, "**dataloader.collate_fn **dataloader.worker_init_fn"),
    (
        _section,
        "**dataloader.dataset optim_wrapper**.optimizer optim_wrapper**.paramwise_cfg default_hooks.* env_cfg.mp_cfg "
        "env_cfg.dist_cfg",
    ),
    (_built, "**dataloader.sampler **dataloader.batch_sampler"),
    (_sections, "**.pipeline **.vis_backends **.init_cfg"),
    (
        _some_sections,
        "*evaluator **.evaluator model**.backbone model**.neck model**.head model**.loss model**.mutator "
        "model**.distiller",
    ),
    (_one_of(None, "fork", "spawn", "forkserver"), "**dataloader.multiprocessing_context"),
    (_one_of("fork", "spawn", "forkserver"), "env_cfg.mp_cfg.mp_start_method"),
    (_one_of("nccl", "gloo"), "env_cfg.dist_cfg.backend"),
    (_one_of("Runner", "RazorRunner", "mmengine.Runner", "mmrazor_lite.RazorRunner"), "runner_type"),
    (_one_of(*LAUNCHERS), "launcher"),
)
RULES: dict[str, Rule] = {pattern: rule for rule, patterns in _RULES for pattern in patterns.split()}


def check_shape(cfg: Mapping, source: str) -> None:
    """Raise :class:`UserError` unless every section of a config is a dict or a list as it must be, and no bomb.

    Nothing else reads the config before this; later checks rely on it.
    """
    for count, (path, value) in enumerate(walk.values(cfg)):
        if len(path) > schema.DEEPEST or count > MOST:
            most = f"{schema.DEEPEST} levels deep" if len(path) > schema.DEEPEST else f"{MOST:,} values"
            raise UserError(f"{source}: {'.'.join(path[:8])} is more than {most}: a config is not")
        if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not _may_be_infinite(path))):
            raise UserError(f"{source}: {'.'.join(path)} is {value}: give a number")
        if isinstance(value, float) and value == 0 and math.copysign(1, value) < 0:
            raise UserError(f"{source}: {'.'.join(path)} is {value}: give 0, or another number")
        if isinstance(value, str) and "\0" in value:
            raise UserError(f"{source}: {'.'.join(path)} holds a NUL character: give plain text")
        names_class = path[-1:] == ("type",) and not any(key in schema.FREE for key in path)
        if names_class and not (isinstance(value, str) or callable(value)):
            raise UserError(f"{source}: {'.'.join(path)}={short(value)}: give the name of a class")
    for key, value in cfg.items():
        if value is not None and key in _MAPPINGS and not isinstance(value, Mapping):
            raise UserError(f"{source}: {key}={short(value)}: give a dict")
        if key in _LISTED:
            _sections(f"{source}: {key}", value)


def _may_be_infinite(path: tuple[str, ...]) -> bool:
    return any(key in _INFINITE for key in path)


def check(value: Any, path: tuple[str, ...], parent: Mapping, source: str) -> None:
    """Raise :class:`UserError` for a value that is out of range or of a type that what it is for cannot take.

    Args:
        value: What the config says.
        path: The keys that lead to it.
        parent: The section around it, whose names and keys have been checked.
        source: The file of the config, for messages.
    """
    rule = _rule(".".join(path))
    if rule is not None:
        rule(f"{source}: {'.'.join(path)}", value)
    else:
        _check_type(value, path, parent, source)


@cache
def _rule(where: str) -> Rule | None:
    return next((rule for pattern, rule in _compiled() if pattern.fullmatch(where)), None)


@cache
def _compiled() -> list[tuple[re.Pattern, Rule]]:
    """The rules, those of the longest keys first."""
    found = []
    for pattern in sorted(RULES, key=len, reverse=True):
        text = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^.]*")
        found.append((re.compile(text), RULES[pattern]))
    return found


def _check_type(value: Any, path: tuple[str, ...], parent: Mapping, source: str) -> None:
    """Compare a value with the annotations of whatever may be built from the section around it."""
    key, where = path[-1], f"{source}: {'.'.join(path)}"
    if key == "type":
        return
    types = [parent["type"]] if parent.get("type") is not None else schema.DEFAULT_TYPES.get(path[:-1], ())
    judged = []
    for name in types:
        for _, built in schema.find(name):
            parameters = annotations.parameters_of(built)
            if key in parameters:
                annotation, default = parameters[key]
                judge = annotations.fits if _is_believed(built) else annotations.may_fit
                if judge(value, annotation, default):
                    return
                judged.append(annotation)
    if judged:
        raise UserError(f"{where}={short(value)}: give {annotations.said(judged[0])}")


def _is_believed(built: Callable) -> bool:
    """Whether the annotations of a class are right: those of our own, and of mmengine's hooks and loops."""
    module = f"{getattr(built, '__module__', '')}."
    return module.startswith(("mmrazor_lite.", "mmengine.hooks.", "mmengine.runner.", "mmengine.dataset."))
