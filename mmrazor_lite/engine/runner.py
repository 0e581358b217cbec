"""mmengine's Runner with our checkpoints, our optimizer and DDP wrappers, and data that a resumed run reads on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS as ALL_WRAPPERS
from mmengine.runner import BaseLoop, IterBasedTrainLoop, LogProcessor, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmrazor_lite.datasets.reading import GuardedCollate
from mmrazor_lite.engine.batches import without_worker_options
from mmrazor_lite.engine.data_match import settle_data
from mmrazor_lite.engine.ddp import SubnetDDP
from mmrazor_lite.engine.first_use import first_step
from mmrazor_lite.engine.hooks.admission import admitted, call
from mmrazor_lite.engine.hooks.checkpoint import LAST
from mmrazor_lite.engine.hooks.learning_rate import MEAN_PATTERN
from mmrazor_lite.engine.layout import check_channels_last
from mmrazor_lite.engine.logs import calm, survive_full_disk
from mmrazor_lite.engine.resume import (
    listed_schedulers,
    named_dataloader,
    place_of,
    position_data,
    seeded_dataloader,
    validation_is_due,
)
from mmrazor_lite.engine.schedule import restore, settings_of, told
from mmrazor_lite.engine.val_loop import SubnetValLoop
from mmrazor_lite.errors import UserError, building
from mmrazor_lite.export.checkpoint import checkpoint_hash, load_weights, read_checkpoint, save_checkpoint
from mmrazor_lite.export.integrity import check_optimizer
from mmrazor_lite.models.algorithms.pretrained import has_pretrained, load_checked
from mmrazor_lite.registry import RUNNERS, SCOPE

_OURS = {
    "OptimWrapper": "SubnetOptimWrapper",
    "AmpOptimWrapper": "SubnetAmpOptimWrapper",
    "CheckpointHook": "SafeCheckpointHook",
    "SeparateOptimWrapperConstructor": "SeparateOptimWrapperConstructor",
}

_STARTED: set[str] = set()  # when the runs of this process began


@RUNNERS.register_module()
class RazorRunner(Runner):
    """Runs training, validation and test of an algorithm.

    Differs from mmengine's Runner in this: checkpoints are read and written by :mod:`mmrazor_lite.export.checkpoint`
    (nothing in them is executed, loading is strict) and say what they hold; the optimizer wrapper, the checkpoint
    hook, the DDP wrapper and the sampler of the training images are ours where the config names mmengine's; and
    random weights are never tested. A run that was killed and resumed ends as the uninterrupted one.
    """

    first_iter: int = 0  # training steps before this run began
    reset_head: bool = False  # load_from without its classifier
    _trains = False
    _unvalidated = False  # resumed where a validation may have been due

    @property
    def algorithm(self) -> nn.Module:
        """The model without its wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    # Building: our parts where the config names mmengine's

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment; a run in the same second as another of this process has a name of its own.

        By that name mmengine keeps loggers, message hubs, visualizers and folders of logs.
        """
        super().setup_env(env_cfg)
        second, count = self._timestamp, 1
        while self._timestamp in _STARTED:
            count += 1
            self._timestamp = f"{second}_{count}"
        _STARTED.add(self._timestamp)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger: what is long goes to the file alone, and a file that cannot be written ends no run."""
        logger = super().build_logger(*args, **kwargs)
        calm(logger)
        survive_full_disk(logger)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        super()._log_env(env_cfg)
        self.logger.info(f"environment, config and hooks are in {self.log_dir}/{self.timestamp}.log")

    def set_randomness(
        self, seed: int | None = None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Seed everything; ``diff_rank_seed`` is refused."""
        if diff_rank_seed:
            raise UserError(
                "randomness.diff_rank_seed: remove it; processes draw alike what must be alike, the rest by their rank"
            )
        super().set_randomness(seed=seed, deterministic=deterministic)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model and tell it the seed and, with ``channels_last=True`` in the config, the memory format."""
        with building("model"):
            built = super().build_model(model)
        built.seed = self.seed
        self._check_compile(built)
        if self.cfg.get("channels_last"):
            check_channels_last(built)
            built.use_channels_last()
        return built

    def _check_compile(self, model: nn.Module) -> None:
        """Refuse to compile a network whose widths change from pass to pass: each would be compiled anew."""
        options = self.cfg.get("compile")
        if options is not None and not isinstance(options, bool | Mapping):
            raise UserError(f"compile={options!r}: give True, or the arguments of torch.compile as a dict")
        kind = getattr(model, "kind", "subnet")
        if options not in (None, False) and kind != "subnet":
            raise UserError(
                f"compile: this is a {'supernet' if kind == 'supernet' else 'model of several subnets'}, whose widths "
                "change in every pass; remove it, or compile the retraining of one subnet"
            )

    def _maybe_compile(self, target: str) -> None:
        """Compile the network where the config says so; the step around it seeds and checks on the host."""
        options = self.cfg.get("compile")
        if options in (None, False):
            return
        architecture = getattr(self.algorithm, "architecture", self.algorithm)
        parts = (getattr(architecture, name, None) for name in ("backbone", "net"))
        network = next((part for part in parts if isinstance(part, nn.Module)), architecture)
        network.compile(**({} if options is True else options))  # in place: names in checkpoints stay
        self.logger.info(f"{type(network).__name__} is compiled in the first steps, which are slow")

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model in ``SubnetDDP`` when there are several processes."""
        if self.cfg.get("sync_bn") is not None:
            raise UserError(
                "sync_bn: the norms are part of the search space by then; set norm_cfg=dict(type='SyncBN') in "
                "algorithm.architecture"
            )
        config = dict(model_wrapper_cfg or {})
        name = config.setdefault("type", f"{SCOPE}.SubnetDDP")
        kind = ALL_WRAPPERS.get(name) if isinstance(name, str) else name
        if not (isinstance(kind, type) and issubclass(kind, SubnetDDP)):
            raise UserError(f"model_wrapper_cfg.type={name!r}: allowed is SubnetDDP; its train_step runs all passes")
        return super().wrap_model(config if self.distributed else None, model)

    def build_optim_wrapper(self, optim_wrapper: OptimWrapper | dict) -> OptimWrapper:
        """Build an optimizer wrapper that counts batches."""
        if isinstance(optim_wrapper, Mapping):
            optim_wrapper = _with_our_types(optim_wrapper)
        level = self.logger.level
        self.logger.setLevel(max(level, logging.WARNING))  # mmengine logs a line per parameter
        try:
            with building("optim_wrapper"):
                return super().build_optim_wrapper(optim_wrapper)
        finally:
            self.logger.setLevel(level)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedules of the optimizer."""
        with building("param_scheduler"):
            return super().build_param_scheduler(scheduler)

    def build_evaluator(self, evaluator: Any) -> Any:
        """Build the metrics."""
        with building("an evaluator"):
            return super().build_evaluator(evaluator)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Build what writes scalars and images."""
        with building("visualizer"):
            return super().build_visualizer(visualizer)

    def register_custom_hooks(self, hooks: Any) -> None:
        """Register the hooks of the config's own."""
        with building("custom_hooks"):
            super().register_custom_hooks(hooks)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register the default hooks with our checkpoint hook."""
        hooks = dict(hooks or {})
        checkpoint = hooks.get("checkpoint", {"type": "CheckpointHook"})
        if isinstance(checkpoint, Mapping):
            hooks["checkpoint"] = {**checkpoint, "type": _our_type(checkpoint.get("type", "CheckpointHook"))}
        with building("default_hooks"):
            super().register_default_hooks(hooks)

    def build_log_processor(self, log_processor: LogProcessor | dict) -> LogProcessor:
        """Build what writes a line of the log: learning rates are the mean of the same steps as the losses."""
        if isinstance(log_processor, Mapping):
            with building("log_processor"):
                return super().build_log_processor({"mean_pattern": MEAN_PATTERN, **log_processor})
        return super().build_log_processor(log_processor)

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """Register a hook that works with this model; one that does not is refused."""
        super().register_hook(admitted(hook, self), priority)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call one stage of every hook; what a foreign hook raises is told in one line."""
        for hook in self._hooks:
            call(hook, fn_name, self, kwargs)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader; ``num_workers=0`` alone turns the options of worker processes off."""
        if isinstance(dataloader, Mapping):
            dataloader = without_worker_options(dataloader)
        with building("a data loader"):
            return _guarded(Runner.build_dataloader(dataloader, seed, diff_rank_seed))

    def _built(self, dataloader: DataLoader | Mapping | None, key: str) -> DataLoader | None:
        """The data loader of a section of the config; the loops would not know its name."""
        if not isinstance(dataloader, Mapping):
            return dataloader
        with building(key):
            named = named_dataloader(without_worker_options(dataloader), key, self.seed)
            return _guarded(Runner.build_dataloader(named, self.seed))

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop on data that depends on (seed, epoch, index) alone."""
        if isinstance(loop, Mapping):
            loop = dict(loop)
            by_iterations = loop.get("by_epoch") is False or str(loop.get("type", "")).endswith("IterBasedTrainLoop")
            if isinstance(self._train_dataloader, Mapping):
                self._train_dataloader = seeded_dataloader(self._train_dataloader, by_iterations, self.logger)
        self._train_dataloader = self._built(self._train_dataloader, "train_dataloader")
        with building("train_cfg"):
            built = super().build_train_loop(loop)
        loader = built.dataloader
        if len(loader) == 0 and not getattr(loader.sampler, "infinite", False):
            raise UserError(
                f"train_dataloader: {len(loader.dataset)} images make no batch of {loader.batch_size} with "
                "drop_last=True, nothing would be trained; give a smaller batch_size or more images"
            )
        return built

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation loop; by default the one that knows subnets."""
        self._val_dataloader = self._built(self._val_dataloader, "val_dataloader")
        with building("val_cfg"):
            return super().build_val_loop(_with_type(loop, "SubnetValLoop"))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test loop; by default the one that knows subnets."""
        self._test_dataloader = self._built(self._test_dataloader, "test_dataloader")
        with building("test_cfg"):
            return super().build_test_loop(_with_type(loop, "SubnetTestLoop"))

    # Checkpoints

    def train(self) -> nn.Module:
        """Train; what fails before the end of the first step is told in one line."""
        self._trains = True
        if not self._has_loaded and self._load_from is None:
            self._judge_preprocessing()  # of what init_cfg has loaded
        with first_step(self):
            return super().train()

    def load_or_resume(self) -> None:
        """Load ``load_from``, or continue the run in the work dir when ``resume`` is set; once.

        Then metrics and pipelines are tried out: they would else fail after the first epoch.
        """
        if not self._has_loaded:
            self._load_or_resume()
        self._settle_data()
        for loop in (self._val_loop, self._test_loop):
            if isinstance(loop, SubnetValLoop):
                loop.try_out()
        if isinstance(self._train_loop, BaseLoop):
            self.first_iter = self._train_loop.iter
        self.write_config()

    def _settle_data(self) -> None:
        """Look at all data together, now that they and the weights are there."""
        loops = {"train": self._train_loop, "val": self._val_loop, "test": self._test_loop}
        built = {part: loop for part, loop in loops.items() if isinstance(loop, BaseLoop)}
        settle_data(built, self.algorithm, resumed=self._resume)

    def dump_config(self) -> None:
        """Nothing yet: a run that is refused before it starts leaves the config of the run before in its place."""

    def write_config(self) -> None:
        """Write the config into the work dir."""
        super().dump_config()

    def _load_or_resume(self) -> None:
        if self._load_from is not None:
            self.resume(self._load_from) if self._resume else self.load_checkpoint(self._load_from)
        elif self._resume:
            latest = latest_checkpoint(self.work_dir)
            if latest is None:
                self.logger.warning(f"nothing to resume in {self.work_dir}: starting from the beginning")
            else:
                self.resume(latest)

    def load_checkpoint(self, filename: str, map_location: str = "cpu") -> dict[str, Any]:
        """Load the weights of a file, strictly, and return its content.

        Raises:
            UserError: The file cannot be read or holds something else than this model; the model is as it was.
        """
        checkpoint = read_checkpoint(filename, map_location=map_location)
        load = load_checked if hasattr(self.algorithm, "check_meta") else load_weights
        load(self.algorithm, checkpoint, str(filename), self.reset_head and not self._resume)
        self._judge_preprocessing()
        self._show_to_hooks(checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f"loaded {filename} (sha256 {checkpoint_hash(filename)})")
        return checkpoint

    def _judge_preprocessing(self) -> None:
        """Refuse weights that saw images prepared otherwise; a training that starts from them only says so."""
        problem = getattr(self.algorithm, "prepared_otherwise", None)
        if problem and (self._resume or not self._trains):
            raise UserError(f"{problem}; set data_preprocessor as it was trained")
        if problem:
            self.logger.warning(f"{problem}; the training starts from it")

    def _show_to_hooks(self, checkpoint: dict[str, Any], filename: str) -> None:
        """Call ``after_load_checkpoint`` with the weights under the model's names, and load what hooks exchange.

        A run with averaged weights saves these as the model's, and goes on from those that it trained.
        """
        loaded = self.algorithm.state_dict()
        seen = {**checkpoint, "state_dict": loaded.copy()}
        self.call_hook("after_load_checkpoint", checkpoint=seen)
        if any(seen["state_dict"].get(key) is not value for key, value in loaded.items()):
            load_weights(self.algorithm, {"state_dict": seen["state_dict"]}, filename)

    def resume(self, filename: str, map_location: str = "cpu") -> None:
        """Continue the run that wrote ``filename``: weights, momentum, seed, place in the data and in the schedule.

        The schedule and the hyperparameters are those of the config, see :mod:`mmrazor_lite.engine.schedule`.

        Raises:
            UserError: As :meth:`load_checkpoint`; the file is not of a training run, or of another optimizer.
        """
        checkpoint = self.load_checkpoint(filename, map_location)
        meta = checkpoint.get("meta") or {}
        if hasattr(self.algorithm, "check_resumed"):
            self.algorithm.check_resumed(meta.get(SCOPE), str(filename))
        if not {"epoch", "iter"} <= meta.keys() or "optimizer" not in checkpoint:
            raise UserError(f"{filename} cannot be resumed, it holds weights only; start from it with load_from")
        check_optimizer(checkpoint["optimizer"], str(filename))
        if meta.get("seed") not in (None, self.seed):
            self.logger.warning(f"going on with seed {meta['seed']} of {filename}, not with {self.seed} of the config")
            self.set_randomness(seed=meta["seed"], deterministic=self.deterministic)
            self.algorithm.seed = self.seed
        place = place_of(self.train_loop, meta)
        self.train_loop._epoch, self.train_loop._iter, _ = place
        position_data(self.train_loop, meta, self.seed, filename, self.logger)
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        settings = settings_of(self.cfg)
        changed = restore(self.optim_wrapper, self.param_schedulers, checkpoint, settings, place, filename)
        if changed:
            self.logger.info(told(changed))
        states = checkpoint.get("hooks") if isinstance(checkpoint.get("hooks"), Mapping) else {}
        for hook in self._hooks:
            if hasattr(hook, "load_state") and type(hook).__name__ in states:
                hook.load_state(states[type(hook).__name__], filename)
        self._unvalidated = not meta.get("validated") and not meta.get("batches_into_epoch")
        self.logger.info(f"resumed epoch: {self.epoch}, iter: {self.iter}")
        if self.epoch >= self.max_epochs or self.iter >= self.max_iters:
            self.logger.warning(f"nothing is left to train: the run of {filename} has ended; train_cfg says how long")

    def validate_resumed(self) -> None:
        """Validate where a run was killed before it could, if anything follows from the metrics.

        A checkpoint is written before the validation of its epoch, so a run that goes on from it lacks that one.
        """
        waits, self._unvalidated = self._unvalidated, False
        schedulers = listed_schedulers(self.param_schedulers)
        follows = any(hook.state() for hook in self._hooks if hasattr(hook, "load_state")) or any(
            getattr(scheduler, "need_val_args", False) for scheduler in schedulers
        )
        follows = follows or any(getattr(hook, "best", None) for hook in self._hooks)
        if waits and follows and self.val_loop is not None and validation_is_due(self.train_loop):
            self.logger.info("validating what the run before was killed before it could validate")
            self.val_loop.run()

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, by_epoch: bool = True, validated: bool = False) -> None:
        """Write everything that :meth:`resume` needs; no times and no paths, so that equal runs write equal data.

        Args:
            out_dir: Folder.
            filename: Name in it.
            by_epoch: Whether an epoch, or an iteration, has just ended.
            validated: The validation after it has ended too, and the loop has counted on.
        """
        per_epoch = len(self.train_dataloader)
        epoch, done = (self.epoch + 1, self.iter) if by_epoch else (self.epoch, self.iter + 1)
        if validated:
            epoch, done = self.epoch, self.iter
        meta: dict[str, Any] = {"epoch": epoch, "iter": done, "seed": self.seed, "batches_per_epoch": per_epoch}
        if not by_epoch and not isinstance(self.train_loop, IterBasedTrainLoop):
            meta["batches_into_epoch"] = done - epoch * per_epoch
        if validated:
            meta["validated"] = True
        meta["settings"] = settings_of(self.cfg)
        meta["dataset_meta"] = dict(getattr(self.train_dataloader.dataset, "metainfo", None) or {})
        if hasattr(self.algorithm, "checkpoint_meta"):
            meta[SCOPE] = self.algorithm.checkpoint_meta()
        checkpoint = {
            "meta": meta,
            "state_dict": self.algorithm.state_dict(),
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in listed_schedulers(self.param_schedulers)],
            "message_hub": {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}},  # mmengine asks for it
        }
        states = {type(hook).__name__: hook.state() for hook in self._hooks if hasattr(hook, "load_state")}
        if any(states.values()):
            checkpoint["hooks"] = {name: state for name, state in states.items() if state}
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        path = Path(out_dir) / filename
        save_checkpoint(checkpoint, path)
        self.logger.info(f"wrote {path} (sha256 {checkpoint_hash(path)})")

    # Never random weights

    def val(self) -> dict:
        """Validate a loaded or pretrained model."""
        self._require_weights()
        return super().val()

    def test(self) -> dict:
        """Test a loaded or pretrained model."""
        self._require_weights()
        return super().test()

    def _require_weights(self) -> None:
        self._judge_preprocessing()
        if self._has_loaded or self._load_from is not None or self._resume:
            return
        if getattr(self.algorithm, "is_init", False):
            return  # trained by this runner, or initialised by the caller
        if not has_pretrained(self.algorithm):
            raise UserError("no weights to test: give a checkpoint, or init_cfg=dict(type='Pretrained', ...)")
        self._init_model_weights()


def _guarded(loader: DataLoader) -> DataLoader:
    """The loader, whose errors name it."""
    loader.collate_fn = GuardedCollate(loader.collate_fn, getattr(loader.dataset, "where", "a data loader"))
    return loader


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """Return the file that a run in ``work_dir`` would resume from, or None."""
    pointer = Path(work_dir) / LAST
    if not pointer.is_file():
        return None
    path = Path(pointer.read_text(encoding="utf-8").strip())
    moved = pointer.parent / path.name  # the folder may have another name by now
    return str(moved if moved.is_file() else path)


def _our_type(name: Any) -> Any:
    """Our class where ``name`` is the one of mmengine's that it replaces."""
    if not isinstance(name, str):
        return name
    name = _OURS.get(name.removeprefix("mmengine."), name)
    return f"{SCOPE}.{name}" if name in _OURS.values() else name


def _with_our_types(config: Mapping) -> dict[str, Any]:
    """The config of one optimizer wrapper, or of several by name, with ours in the place of mmengine's."""
    if "optimizer" in config or "constructor" not in config:
        return {**config, "type": _our_type(config.get("type", "OptimWrapper"))}
    return {
        name: _with_our_types(part) if isinstance(part, Mapping) else _our_type(part) for name, part in config.items()
    }


def _with_type(loop: BaseLoop | Mapping, name: str) -> BaseLoop | dict:
    return {"type": f"{SCOPE}.{name}", **loop} if isinstance(loop, Mapping) else loop
