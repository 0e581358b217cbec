"""Checkpoints that a kill cannot damage."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmrazor_lite.checkpoints import checkpoint_hash
from mmrazor_lite.engine.ddp import unwrapped
from mmrazor_lite.engine.hooks.best import WHERE, BestSoFar, file_name
from mmrazor_lite.errors import DivergedError, UserError, check_flag, check_number, nearest
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.models.algorithms.base import Algorithm
from mmrazor_lite.registry import HOOKS

LAST = "last_checkpoint"
_OPTIONS = (
    "interval", "by_epoch", "max_keep_ckpts", "save_last", "save_best", "rule", "greater_keys", "less_keys"
)  # fmt: skip


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Writes ``epoch_N.pth`` or ``iter_N.pth`` and names the newest in ``last_checkpoint``.

    Each file appears whole or not at all, ``last_checkpoint`` changes after it, and old files go last; mmengine's
    hook does it the other way round. Weights that are not finite are never written.

    Args:
        interval: Epochs or iterations between checkpoints; -1 for none but the last.
        by_epoch: Count epochs, or iterations.
        max_keep_ckpts: Older files beyond this number are removed; -1 keeps all.
        save_last: Write one at the end of the training whatever the interval, also where it is stopped early.
        save_best: Keep the best checkpoint too, by these metrics of the validations: see :class:`BestSoFar`. It is
            ``best_<metric>_epoch_<N>.pth``, a checkpoint as any other; it is replaced when a better one is whole.
        rule: See :class:`BestSoFar`.
        greater_keys: Likewise.
        less_keys: Likewise.

    Raises:
        UserError: An unknown option, or one of the best alone (on construction); weights that are not finite.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | Sequence[str] | None = None,
        rule: str | Sequence[str] | None = None,
        greater_keys: str | Sequence[str] | None = None,
        less_keys: str | Sequence[str] | None = None,
        **unknown: Any,
    ) -> None:
        for key in unknown:
            raise UserError(
                f"default_hooks.checkpoint: unknown key {key!r}{nearest(key, _OPTIONS)}; known: {', '.join(_OPTIONS)}"
            )
        for key, value in (("interval", interval), ("max_keep_ckpts", max_keep_ckpts)):
            check_number(f"default_hooks.checkpoint.{key}", value, -1, whole=True)
            if value == 0:
                raise UserError(f"default_hooks.checkpoint.{key} is 0: give a number above 0, or -1")
        for key, value in (("by_epoch", by_epoch), ("save_last", save_last)):
            check_flag(f"default_hooks.checkpoint.{key}", value)
        for key, value in (("rule", rule), ("greater_keys", greater_keys), ("less_keys", less_keys)):
            if save_best is None and value not in (None, [], ()):
                raise UserError(f"{WHERE}.{key} says what is best: give save_best too, or leave it out")
        self.interval = interval
        self.by_epoch = by_epoch
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self.best = None if save_best is None else BestSoFar(save_best, rule, greater_keys, less_keys)
        self._training, self._saved = False, -1  # number of the last file

    def state(self) -> dict[str, Any]:
        """What a checkpoint carries: the best so far."""
        return self.best.state() if self.best else {}

    def load_state(self, state: Mapping[str, Any], where: str) -> None:
        """Take over what :meth:`state` returned."""
        if self.best:
            self.best.load(state, where)

    def before_train(self, runner: Runner) -> None:
        """Say where the files go.

        Raises:
            UserError: Epochs are to be counted in a loop that has none.
        """
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise UserError("default_hooks.checkpoint.by_epoch: set it to False, train_cfg counts iterations")
        runner.logger.info(f"Checkpoints will be saved to {runner.work_dir}.")
        last = Path(runner.work_dir) / LAST
        if runner._resume and last.is_file():  # the run before may have been killed just before its old files went
            self._remove_old(last.parent, Path(last.read_text(encoding="utf-8").strip()).name)
        done = self._done(runner)
        self._training, self._saved = True, done if (last.parent / f"{self._kind}_{done}.pth").is_file() else -1
        if self.best:
            if runner.val_loop is None:
                raise UserError(f"{WHERE}.save_best needs validation: give val_dataloader, val_cfg and val_evaluator")
            model = unwrapped(runner.model)
            self.best.check_names(list(model.named_subnets()) if isinstance(model, Algorithm) else [])
            for name in self.best.forget_missing(last.parent):
                runner.logger.warning(f"{last.parent / name}, the best so far, is gone: the next one is the best")
        runner.validate_resumed()

    def after_train_epoch(self, runner: Runner) -> None:
        """Save when the interval or the last epoch is reached."""
        if self.by_epoch and (
            self.every_n_epochs(runner, self.interval) or (self.save_last and self.is_last_train_epoch(runner))
        ):
            self._save(runner, f"epoch_{runner.epoch + 1}.pth")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save when the interval or the last iteration is reached."""
        if not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval) or (self.save_last and self.is_last_train_iter(runner))
        ):
            self._save(runner, f"iter_{runner.iter + 1}.pth")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Save a best checkpoint when the validation says so; the one before goes with the next regular file."""
        if not (self._training and self.best and metrics):
            return
        for key, score in self.best.improved(metrics).items():
            name = file_name(key, self._kind, self._done(runner))
            self.best.found[key] = score, name
        new = {name for _, name in self.best.found.values() if _number_in(name) == self._done(runner)}
        for name in sorted(new):
            self._write(runner, name, validated=True)

    def after_train(self, runner: Runner) -> None:
        """Save where the training was stopped early; remove what is not the best."""
        done = self._done(runner)
        if self.save_last and getattr(runner.train_loop, "stop_training", False) and self._saved != done > 0:
            self._save(runner, f"{self._kind}_{done}.pth", validated=True)
        self._remove_not_best(runner, done)
        self._training = False

    @property
    def _kind(self) -> str:
        return "epoch" if self.by_epoch else "iter"

    def _done(self, runner: Runner) -> int:
        """Epochs or iterations that have ended, after a validation."""
        return runner.epoch if self.by_epoch else runner.iter

    @master_only
    def _write(self, runner: Runner, name: str, validated: bool = False, last: bool = False) -> None:
        """Write a file; the ``last`` one is what a resumed run goes on from, before anything is told of it."""
        folder = Path(runner.work_dir)
        _check_finite(runner, folder / name)
        runner.save_checkpoint(str(folder), name, by_epoch=self.by_epoch, validated=validated)
        if last:
            write_text_atomic(folder / LAST, str((folder / name).resolve()))
        runner.logger.info(f"wrote {folder / name} (sha256 {checkpoint_hash(folder / name)})")
        if last:
            self._remove_old(folder, name)

    def _save(self, runner: Runner, name: str, validated: bool = False) -> None:
        self._saved = _number(Path(name))
        self._write(runner, name, validated, last=True)
        self._remove_not_best(runner, self._saved)

    @master_only
    def _remove_not_best(self, runner: Runner, number: int) -> None:
        if self.best:
            self.best.remove_others(Path(runner.work_dir), number)

    @master_only
    def _remove_old(self, folder: Path, name: str) -> None:
        """Remove what is older than the newest files up to ``name`` that are kept."""
        if self.max_keep_ckpts > 0:
            kind = name.partition("_")[0]
            files = sorted(folder.glob(f"{kind}_*.pth"), key=_number)
            newest = [path for path in files if _number(path) <= _number(Path(name))]
            for path in newest[: -self.max_keep_ckpts]:
                path.unlink()


def _number(path: Path) -> int:
    digits = path.stem.partition("_")[2]
    return int(digits) if digits.isdecimal() else 1 << 62  # a file of someone else's: never old


def _number_in(name: str) -> int:
    return int(re.sub(r".*_(\d+)\.pth", r"\1", name))


def _check_finite(runner: Runner, path: Path) -> None:
    model = unwrapped(runner.model)
    state = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    finite = torch.stack([torch.isfinite(value).all() for value in state.values()])
    if not finite.all():
        name = list(state)[int((~finite).to(torch.int64).argmax())]
        raise DivergedError(
            f"step {runner.iter + 1}: {name} is not finite, so {path.name} was not written and the checkpoints before "
            "it are kept; lower optim_wrapper.optimizer.lr or set optim_wrapper.clip_grad, then --resume"
        )
