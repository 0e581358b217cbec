"""Checkpoints, logs, seeds and processes of MMRazor 0.x in our own form. Source: mmcv 1.x, hooks and runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import short

from .section import Section
from .told import Told

_TEXT = "TextLoggerHook"
# Where else mmcv writes what it logs -> our way to, and the options that stay.
_LOGGERS = {
    "TensorboardLoggerHook": ("TensorboardVisBackend", ()),
    "WandbLoggerHook": ("WandbVisBackend", ("init_kwargs",)),
    "MlflowLoggerHook": ("MLflowVisBackend", ("exp_name",)),
    "NeptuneLoggerHook": ("NeptuneVisBackend", ("init_kwargs",)),
    "ClearMLLoggerHook": ("ClearMLVisBackend", ("init_kwargs",)),
}
_OF_LOGGERS = (
    "interval by_epoch ignore_last reset_flag interval_exp_name out_dir out_suffix keep_local file_client_args "
    "priority log_dir commit with_step".split()
)
_HOOKS = {"NumClassCheckHook": "ClassNumCheckHook"}
_NO_RESULT = "left out: no result depends on it"


def runtime(top: Section, by_epoch: bool, best: Mapping[str, Any]) -> dict[str, Any]:
    """Take what is neither data, training nor algorithm.

    Args:
        top: The whole config.
        by_epoch: Whether the training is counted in epochs.
        best: Further options of the checkpoint hook.
    """
    interval, backends = _loggers(top.section("log_config"))
    found: dict[str, Any] = {
        "default_hooks": {
            "timer": {"type": "IterTimerHook"},
            "logger": {"type": "LoggerHook", "interval": interval},
            "param_scheduler": {"type": "ParamSchedulerHook"},
            "checkpoint": {"type": "SafeCheckpointHook", **_checkpoints(top, by_epoch), **best},
            "sampler_seed": {"type": "DistSamplerSeedHook"},
        },
        "custom_hooks": [{"type": "ResourceHook"}, *_custom_hooks(top.items("custom_hooks"), top.told)],
        "env_cfg": _environment(top),
        "visualizer": {"type": "UniversalVisualizer", "vis_backends": [{"type": "LocalVisBackend"}, *backends]},
        "log_processor": {"by_epoch": by_epoch},
        "model_wrapper_cfg": {"type": "SubnetDDP"},
        **_start(top),
    }
    seed = {key: top.take(key, to=f"randomness.{key}") for key in ("seed", "deterministic") if key in top}
    if seed:
        found["randomness"] = seed
    top.drop("model_wrapper_cfg: one wrapper for all algorithms", "find_unused_parameters", "use_ddp_wrapper")
    top.drop("CUDA_VISIBLE_DEVICES", "gpu_ids", "gpus", "device")
    _check_workflow(top)
    return found


def _checkpoints(top: Section, by_epoch: bool) -> dict[str, Any]:
    """``checkpoint_config``: all are kept unless it says otherwise, and without it only the last is written."""
    section = top.section("checkpoint_config")
    if section.is_empty:
        return {"interval": -1, "by_epoch": by_epoch}
    found = {"interval": section.take("interval", -1), "by_epoch": section.take("by_epoch", by_epoch)}
    found |= {key: section.take(key) for key in ("max_keep_ckpts", "save_last") if key in section}
    section.drop("left out: a checkpoint holds all that a resumed run needs", "save_optimizer")
    section.drop(_NO_RESULT, "create_symlink", "sync_buffer", "meta", "file_client_args", "priority")
    section.refuse("out_dir", "checkpoints are in the work dir: give --work-dir")
    section.refuse("filename_tmpl", "files are epoch_N.pth and iter_N.pth: remove it")
    section.finish()
    top.told.change("checkpoint_config", "default_hooks.checkpoint")
    return found


def _loggers(section: Section) -> tuple[Any, list[dict[str, Any]]]:
    """``log_config``: the interval, and the backends beside the log."""
    interval, hooks = section.take("interval", 10, to="default_hooks.logger.interval"), section.items("hooks")
    section.finish()
    backends = []
    for index, value in enumerate(hooks):
        hook = Section(value, f"log_config.hooks.{index}", section.told)
        kind = hook.kind()
        backend, options = _LOGGERS.get(kind, ("", ()))
        hook.drop(_NO_RESULT, *_OF_LOGGERS)
        if kind == _TEXT:
            hook.finish()
            continue
        if not backend:
            known = ", ".join((_TEXT, *_LOGGERS))
            section.told.problem(f"{hook.where}.type={short(kind)}: known are {known}; remove it")
        backends.append({"type": backend, **{key: hook.take(key) for key in options if key in hook}})
        hook.finish()
        section.told.change(f"log_config.hooks.{index}", f"visualizer.vis_backends, {backend}")
    return interval, backends


def _custom_hooks(hooks: list[Any], told: Told) -> list[Any]:
    """Hooks of mmcls and of the user, by their names here."""
    found = []
    for index, hook in enumerate(hooks):
        kind = hook.get("type") if isinstance(hook, Mapping) else None
        if not isinstance(kind, str):
            told.problem(f"custom_hooks.{index}={short(hook)}: give dict(type=...)")
            continue
        if kind == "EMAHook":
            told.problem(f"custom_hooks.{index}: mmcv's EMAHook averages otherwise: remove it, or use mmengine's")
        if kind != "DistSamplerSeedHook":  # a default here
            found.append({**hook, "type": _HOOKS.get(kind, kind)})
    return found


def _environment(top: Section) -> dict[str, Any]:
    """``dist_params`` and the options of the processes."""
    dist = top.section("dist_params")
    backend = dist.take("backend", to="env_cfg.dist_cfg.backend")
    dist.drop("PORT, of the environment", "port")
    dist.finish()
    processes = {
        "mp_start_method": top.take("mp_start_method", "fork"),
        "opencv_num_threads": top.take("opencv_num_threads", 0),
    }
    found = {"cudnn_benchmark": bool(top.take("cudnn_benchmark", False)), "mp_cfg": processes}
    return found if backend is None else {**found, "dist_cfg": {"backend": backend}}


def _start(top: Section) -> dict[str, Any]:
    """Where a run starts from, and what it is called: ``resume_from`` goes before ``load_from``."""
    load, resume = top.take("load_from"), top.take("resume_from")
    again = bool(top.take("auto_resume", False))
    if resume is not None:
        top.told.change("resume_from", "load_from, and resume=True")
    found = {"load_from": resume if resume is not None else load, "resume": resume is not None or again}
    return {**found, **{key: top.take(key) for key in ("work_dir", "log_level", "custom_imports") if key in top}}


def _check_workflow(top: Section) -> None:
    """Training alone, or a validation beside it, whose losses change nothing."""
    flow = top.take("workflow")
    if flow is None:
        return
    modes = (
        [part[0] for part in flow if isinstance(part, list | tuple) and part] if isinstance(flow, list | tuple) else []
    )
    if "train" not in modes or set(modes) - {"train", "val"}:
        top.told.problem(f"workflow={short(flow)}: give [('train', 1)], or remove it")
    elif "val" in modes:
        top.told.change("workflow", "left out: evaluation gives the metrics of validations")
