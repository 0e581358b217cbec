"""Training on two sets of images at once: one for the weights, one for the architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.runner import EpochBasedTrainLoop

from mmrazor_lite.engine.ddp import unwrapped
from mmrazor_lite.engine.resume import check_repeats, seeded_dataloader
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.registry import LOOPS

WHERE = "train_cfg.arch_dataloader"
FIX = "give sampler=dict(type='DefaultSampler', shuffle=True) and no num_batch_per_epoch"


@LOOPS.register_module()
class PairedTrainLoop(EpochBasedTrainLoop):
    """Epochs over the images of ``train_dataloader``, with a batch of other images where the algorithm asks for one.

    Args:
        runner: The runner.
        dataloader: Images for the weights.
        arch_dataloader: Config of the images for the architecture; read on and on, whatever the epoch.
        **kwargs: As for mmengine's ``EpochBasedTrainLoop``.

    Raises:
        UserError: The sampler of ``arch_dataloader`` cannot go on without end, or it has no images for a batch.
    """

    def __init__(self, runner: Any, dataloader: Any, arch_dataloader: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(runner, dataloader, **kwargs)
        self.algorithm = unwrapped(runner.model)
        config = seeded_dataloader(arch_dataloader, True, runner.logger, WHERE)
        self.arch_dataloader = runner.build_dataloader(config, seed=runner.seed)
        check_repeats(self.arch_dataloader, WHERE)
        if not hasattr(self.arch_dataloader.sampler, "skip"):
            raise UserError(f"{WHERE}: {_unfit(arch_dataloader)}: it is read on and on, epochs do not end it; {FIX}")
        self._arch_batches: Iterator[Any] | None = None

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train on one batch, and on one of the other images where the algorithm asks for it."""
        index, per_epoch = self._iter - self._epoch * len(self.dataloader), len(self.dataloader)
        pair = None
        if self.algorithm.trains_arch(self._epoch, index):
            if self._arch_batches is None:  # a resumed run goes on where the interrupted one stopped
                done = self.algorithm.arch_steps(self._epoch, index, per_epoch)
                self.arch_dataloader.sampler.skip(done * self.arch_dataloader.batch_size)
                self._arch_batches = iter(self.arch_dataloader)
            pair = next(self._arch_batches)
        super().run_iter(idx, {"weights": data_batch, "arch": pair})


def _unfit(config: Mapping[str, Any]) -> str:
    """What of a data loader ends with an epoch."""
    if "num_batch_per_epoch" in config:
        return f"num_batch_per_epoch={short(config['num_batch_per_epoch'])}"
    sampler = config.get("sampler")
    return f"sampler {short(sampler.get('type') if isinstance(sampler, Mapping) else sampler)}"
