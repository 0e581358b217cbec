"""What a checkpoint of a training run holds, and how a run starts or goes on from one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.runner import IterBasedTrainLoop, Runner

from mmrazor_lite.checkpoints import checkpoint_hash, load_weights, read_checkpoint, save_checkpoint
from mmrazor_lite.checkpoints.integrity import check_optimizer
from mmrazor_lite.engine.channels_last import follow
from mmrazor_lite.engine.hooks.checkpoint import LAST
from mmrazor_lite.engine.hooks.kept_state import KeepsState
from mmrazor_lite.engine.resume import listed_schedulers, place_of, position_data, validation_is_due
from mmrazor_lite.engine.schedule import restore, settings_of, told
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.base import Algorithm
from mmrazor_lite.models.algorithms.loading import load_checked
from mmrazor_lite.models.said import said_by
from mmrazor_lite.registry import SCOPE


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """Return the file that a run in ``work_dir`` would resume from, or None."""
    pointer = Path(work_dir) / LAST
    if not pointer.is_file():
        return None
    path = Path(pointer.read_text(encoding="utf-8").strip())
    moved = pointer.parent / path.name  # the folder may have another name by now
    return str(moved if moved.is_file() else path)


def load(runner: Runner, filename: str, map_location: str = "cpu") -> dict[str, Any]:
    """Load the weights of a file, strictly, and return its content.

    Raises:
        UserError: The file cannot be read or holds something else than this model; the model is as it was.
    """
    checkpoint = read_checkpoint(filename, map_location=map_location)
    put = load_checked if isinstance(runner.algorithm, Algorithm) else load_weights
    put(runner.algorithm, checkpoint, str(filename), runner.reset_head and not runner._resume)
    judge_preprocessing(runner)
    if runner._resume or not runner._trains:
        follow(runner, said_by(checkpoint))
    _show_to_hooks(runner, checkpoint, filename)
    runner._has_loaded = True
    runner.logger.info(f"loaded {filename} (sha256 {checkpoint_hash(filename)})")
    return checkpoint


def judge_preprocessing(runner: Runner) -> None:
    """Refuse weights that saw images prepared otherwise; a training that starts from them only says so."""
    problem = getattr(runner.algorithm, "prepared_otherwise", None)
    if problem and (runner._resume or not runner._trains):
        raise UserError(f"{problem}; set data_preprocessor as it was trained")
    if problem:
        runner.logger.warning(f"{problem}; the training starts from it")


def _show_to_hooks(runner: Runner, checkpoint: dict[str, Any], filename: str) -> None:
    """Call ``after_load_checkpoint`` with the weights under the model's names, and load what hooks exchange.

    A run with averaged weights saves these as the model's, and goes on from those that it trained.
    """
    loaded = runner.algorithm.state_dict()
    seen = {**checkpoint, "state_dict": loaded.copy()}
    runner.call_hook("after_load_checkpoint", checkpoint=seen)
    if any(seen["state_dict"].get(key) is not value for key, value in loaded.items()):
        load_weights(runner.algorithm, {"state_dict": seen["state_dict"]}, filename)


def resume(runner: Runner, filename: str, map_location: str = "cpu") -> None:
    """Continue the run that wrote ``filename``: weights, momentum, seed, place in the data and in the schedule.

    The schedule and the hyperparameters are those of the config, see :mod:`mmrazor_lite.engine.schedule`.

    Raises:
        UserError: As :func:`load`; the file is not of a training run, or of another optimizer.
    """
    checkpoint = runner.load_checkpoint(filename, map_location)
    meta = checkpoint.get("meta") or {}
    if isinstance(runner.algorithm, Algorithm):
        runner.algorithm.check_resumed(said_by(checkpoint), str(filename))
    if not {"epoch", "iter"} <= meta.keys() or "optimizer" not in checkpoint:
        raise UserError(f"{filename} cannot be resumed, it holds weights only; start from it with load_from")
    if isinstance(runner.algorithm, Algorithm) and not said_by(checkpoint):
        raise UserError(
            f"{filename} cannot be resumed: another program wrote it, whose optimizer has other weights in another "
            "order; start from its weights with load_from"
        )
    check_optimizer(checkpoint["optimizer"], str(filename))
    if meta.get("seed") not in (None, runner.seed):
        runner.logger.warning(f"going on with seed {meta['seed']} of {filename}, not with {runner.seed} of the config")
        runner.set_randomness(seed=meta["seed"], deterministic=runner.deterministic)
        runner.algorithm.seed = runner.seed
    place = place_of(runner.train_loop, meta)
    runner.train_loop._epoch, runner.train_loop._iter, _ = place
    position_data(runner.train_loop, meta, runner.seed, filename, runner.logger)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    settings = settings_of(runner.cfg)
    changed = restore(runner.optim_wrapper, runner.param_schedulers, checkpoint, settings, place, filename)
    if changed:
        runner.logger.info(told(changed))
    states = checkpoint.get("hooks") if isinstance(checkpoint.get("hooks"), Mapping) else {}
    for hook in runner._hooks:
        if isinstance(hook, KeepsState) and type(hook).__name__ in states:
            hook.load_state(states[type(hook).__name__], filename)
    runner._unvalidated = not meta.get("validated") and not meta.get("batches_into_epoch")
    runner.logger.info(f"resumed epoch: {runner.epoch}, iter: {runner.iter}")
    if runner.epoch >= runner.max_epochs or runner.iter >= runner.max_iters:
        runner.logger.warning(f"nothing is left to train: the run of {filename} has ended; train_cfg says how long")


def validate_resumed(runner: Runner) -> None:
    """Validate where a run was killed before it could, if anything follows from the metrics.

    A checkpoint is written before the validation of its epoch, so a run that goes on from it lacks that one.
    """
    waits, runner._unvalidated = runner._unvalidated, False
    schedulers = listed_schedulers(runner.param_schedulers)
    follows = any(hook.state() for hook in runner._hooks if isinstance(hook, KeepsState)) or any(
        getattr(scheduler, "need_val_args", False) for scheduler in schedulers
    )
    follows = follows or any(getattr(hook, "best", None) for hook in runner._hooks)
    if waits and follows and runner.val_loop is not None and validation_is_due(runner.train_loop):
        runner.logger.info("validating what the run before was killed before it could validate")
        runner.val_loop.run()


def save(runner: Runner, out_dir: str, filename: str, by_epoch: bool = True, validated: bool = False) -> None:
    """Write everything that :func:`resume` needs; no times and no paths, so that equal runs write equal data.

    Args:
        out_dir: Folder.
        filename: Name in it.
        by_epoch: Whether an epoch, or an iteration, has just ended.
        validated: The validation after it has ended too, and the loop has counted on.
    """
    per_epoch = len(runner.train_dataloader)
    epoch, done = (runner.epoch + 1, runner.iter) if by_epoch else (runner.epoch, runner.iter + 1)
    if validated:
        epoch, done = runner.epoch, runner.iter
    meta: dict[str, Any] = {"epoch": epoch, "iter": done, "seed": runner.seed, "batches_per_epoch": per_epoch}
    if not by_epoch and not isinstance(runner.train_loop, IterBasedTrainLoop):
        meta["batches_into_epoch"] = done - epoch * per_epoch
    if validated:
        meta["validated"] = True
    meta["settings"] = settings_of(runner.cfg)
    meta["dataset_meta"] = dict(getattr(runner.train_dataloader.dataset, "metainfo", None) or {})
    if isinstance(runner.algorithm, Algorithm):
        meta[SCOPE] = runner.algorithm.checkpoint_meta()
    checkpoint = {
        "meta": meta,
        "state_dict": runner.algorithm.state_dict(),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": [scheduler.state_dict() for scheduler in listed_schedulers(runner.param_schedulers)],
        "message_hub": {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}},  # mmengine asks for it
    }
    states = {type(hook).__name__: hook.state() for hook in runner._hooks if isinstance(hook, KeepsState)}
    if any(states.values()):
        checkpoint["hooks"] = {name: state for name, state in states.items() if state}
    runner.call_hook("before_save_checkpoint", checkpoint=checkpoint)
    save_checkpoint(checkpoint, Path(out_dir) / filename)
