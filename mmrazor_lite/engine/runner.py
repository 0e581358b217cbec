"""mmengine's Runner with our checkpoints, our optimizer and DDP wrappers, and data that a resumed run reads on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS as ALL_WRAPPERS
from mmengine.runner import BaseLoop, LogProcessor, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmrazor_lite import mm_packages
from mmrazor_lite.datasets.reading import GuardedCollate
from mmrazor_lite.engine import run_checkpoint
from mmrazor_lite.engine.batches import without_worker_options
from mmrazor_lite.engine.channels_last import AUTO, check_channels_last, option
from mmrazor_lite.engine.compiling import check_compile, compile_network
from mmrazor_lite.engine.data_match import settle_data
from mmrazor_lite.engine.ddp import SubnetDDP, unwrapped
from mmrazor_lite.engine.first_use import first_step
from mmrazor_lite.engine.hooks.admission import admitted, call
from mmrazor_lite.engine.hooks.learning_rate import MEAN_PATTERN
from mmrazor_lite.engine.layout_trial import LayoutHook
from mmrazor_lite.engine.logs import calm, survive_full_disk
from mmrazor_lite.engine.optim import say_precision
from mmrazor_lite.engine.our_types import with_our_types, with_type
from mmrazor_lite.engine.resume import check_repeats, named_dataloader, seeded_dataloader
from mmrazor_lite.engine.val_loop import SubnetValLoop
from mmrazor_lite.errors import UserError, building
from mmrazor_lite.models.algorithms.pretrained import has_pretrained
from mmrazor_lite.registry import RUNNERS, SCOPE

_STARTED: set[str] = set()  # when the runs of this process began


@RUNNERS.register_module()
class RazorRunner(Runner):
    """Runs training, validation and test of an algorithm.

    Differs from mmengine's Runner in this: checkpoints are read and written by :mod:`mmrazor_lite.checkpoints`
    (nothing in them is executed, loading is strict) and say what they hold; the optimizer wrapper, the checkpoint
    hook, the DDP wrapper and the sampler of the training images are ours where the config names mmengine's; and
    random weights are never tested. A run that was killed and resumed ends as the uninterrupted one.
    """

    first_iter: int = 0  # training steps before this run began
    reset_head: bool = False  # load_from without its classifier
    layout_is_open: bool = False  # channels_last='auto', which nothing has settled yet
    _trains = False
    _unvalidated = False  # resumed where a validation may have been due

    @property
    def algorithm(self) -> nn.Module:
        """The model without its wrapper."""
        return unwrapped(self.model)

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
        mm_packages.load_formatter()
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
        """Build the model and tell it the seed and, where the config says one, the order of memory."""
        with building("model"):
            built = super().build_model(model)
        built.seed = self.seed
        check_compile(self.cfg.get("compile"), built)
        wanted = option(self.cfg)
        self.layout_is_open = wanted == AUTO
        if wanted is True:
            check_channels_last(built)
            built.use_channels_last()
        return built

    def _maybe_compile(self, target: str) -> None:
        """Compile the network where the config says so."""
        compile_network(self.cfg.get("compile"), self.algorithm, self.logger)

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
            optim_wrapper = with_our_types(optim_wrapper)
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
            hooks["checkpoint"] = {"type": "CheckpointHook", **checkpoint}
        with building("default_hooks"):
            super().register_default_hooks(hooks)
        if self.layout_is_open:
            self.register_hook(LayoutHook())

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
        check_repeats(loader, "train_dataloader")
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
            return super().build_val_loop(with_type(loop, "SubnetValLoop"))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test loop; by default the one that knows subnets."""
        self._test_dataloader = self._built(self._test_dataloader, "test_dataloader")
        with building("test_cfg"):
            return super().build_test_loop(with_type(loop, "SubnetTestLoop"))

    # Checkpoints

    def train(self) -> nn.Module:
        """Train; what fails before the end of the first step is told in one line."""
        self._trains = True
        if not self._has_loaded and self._load_from is None:
            run_checkpoint.judge_preprocessing(self)  # of what init_cfg has loaded
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
        say_precision(self.optim_wrapper, self.logger)
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
            latest = run_checkpoint.latest_checkpoint(self.work_dir)
            if latest is None:
                self.logger.warning(f"nothing to resume in {self.work_dir}: starting from the beginning")
            else:
                self.resume(latest)

    def load_checkpoint(self, filename: str, map_location: str = "cpu") -> dict[str, Any]:
        """Load the weights of a file, strictly, and return its content: see :mod:`.run_checkpoint`."""
        return run_checkpoint.load(self, filename, map_location)

    def resume(self, filename: str, map_location: str = "cpu") -> None:
        """Continue the run that wrote ``filename``."""
        run_checkpoint.resume(self, filename, map_location)

    def validate_resumed(self) -> None:
        """Validate where a run was killed before it could, if anything follows from the metrics."""
        run_checkpoint.validate_resumed(self)

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, by_epoch: bool = True, validated: bool = False) -> None:
        """Write everything that :meth:`resume` needs."""
        run_checkpoint.save(self, out_dir, filename, by_epoch, validated)

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
        run_checkpoint.judge_preprocessing(self)
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
