"""What a resumed run needs beyond weights, optimizer and schedule: its place in the data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.runner import BaseLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from mmrazor_lite.engine.sampler import SeededSampler
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import SCOPE

_SEEDABLE = ("DefaultSampler", "InfiniteSampler", "SeededSampler")


def seeded_dataloader(
    config: Mapping[str, Any], infinite: bool, logger: logging.Logger, where: str = "train_dataloader"
) -> dict[str, Any]:
    """Return the data loader config with ``SeededSampler`` and ``SeededDataset`` in place of mmengine's samplers.

    Args:
        config: Config of the training images.
        infinite: The loop counts iterations, so the sampler must not stop after an epoch.
        logger: Told when the config names a sampler that cannot be replaced.
        where: Key of the loader in the config, for errors.
    """
    config = dict(config)
    sampler = config.get("sampler")
    name = sampler.get("type") if isinstance(sampler, Mapping) else None
    if not isinstance(name, str) or name.rsplit(".", 1)[-1] not in _SEEDABLE or "num_batch_per_epoch" in config:
        logger.warning(f"{where}: with this sampler a resumed run reads other data than an uninterrupted one")
        return config
    config["sampler"] = {**sampler, "type": f"{SCOPE}.SeededSampler", "infinite": infinite}
    return named_dataloader(config, where)


def check_repeats(loader: DataLoader, where: str) -> None:
    """Raise :class:`UserError` where a loader that never ends has fewer images than one of its batches: it would repeat
    them inside each, however many it takes to fill it."""
    size, images = loader.batch_size or 1, len(loader.dataset)
    if getattr(loader.sampler, "infinite", False) and size > images:
        raise UserError(f"{where}: {images} images make no batch of {size} without repeats; give a smaller batch_size")


def named_dataloader(config: Mapping[str, Any], where: str, seed: int = 0) -> dict[str, Any]:
    """Return the data loader config with ``SeededDataset``, so that what cannot be read is told with its name."""
    dataset = config.get("dataset")
    if isinstance(dataset, Mapping) and str(dataset.get("type", "")).endswith("SeededDataset"):
        return {**config, "dataset": {"where": where, **dataset}}
    seeded = {"type": f"{SCOPE}.SeededDataset", "dataset": dataset, "seed": seed, "where": where}
    return {**config, "dataset": seeded}


def position_data(loop: BaseLoop, meta: Mapping[str, Any], seed: int, filename: str, logger: logging.Logger) -> None:
    """Make the training data go on where the checkpoint with ``meta`` was written.

    Loops that count iterations do it themselves, through the sampler's ``skip``.

    Raises:
        UserError: The checkpoint was written within an epoch, and that place cannot be found again.
    """
    sampler = getattr(loop.dataloader, "sampler", None)
    seeded = isinstance(sampler, SeededSampler)
    if seeded:
        sampler.seed = seed
    if seeded and sampler.infinite:
        return
    per_epoch, into = meta.get("batches_per_epoch"), meta.get("batches_into_epoch", 0)
    changed = per_epoch not in (None, len(loop.dataloader))
    if changed or (into and not seeded):
        problem = f"{filename} was written with {per_epoch} batches per epoch, now there are {len(loop.dataloader)}"
        if into:
            raise UserError(f"{problem}; resume within an epoch needs the same data, batch size and processes")
        logger.warning(f"{problem}: the result will differ from that of an uninterrupted run")
    if into:
        # Not skip(): written after the last batch, the epoch has yet to end (schedulers, validation) without data.
        sampler.start_at(meta["epoch"], min(into * loop.dataloader.batch_size, len(sampler)))


def place_of(loop: BaseLoop, meta: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return epochs and iterations that the checkpoint with ``meta`` has behind it, and the iterations of an epoch.

    Where an epoch has another number of batches now, the iterations of the epochs are as many as now.
    """
    epochs, iterations, then = meta["epoch"], meta["iter"], meta.get("batches_per_epoch")
    now = len(loop.dataloader)
    if isinstance(loop, IterBasedTrainLoop) or then in (None, now) or meta.get("batches_into_epoch"):
        return epochs, iterations, now
    return epochs, epochs * now, now


def validation_is_due(loop: BaseLoop) -> bool:
    """Whether a validation follows what ``loop`` has behind it."""
    if hasattr(loop, "_decide_current_val_interval"):
        loop._decide_current_val_interval()
    by_iterations = isinstance(loop, IterBasedTrainLoop)
    done, last = (loop.iter, loop.max_iters) if by_iterations else (loop.epoch, loop.max_epochs)
    return 0 < done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)


def listed_schedulers(schedulers: Sequence | Mapping[str, Sequence] | None) -> list:
    """The schedulers of one optimizer, or of several by name, in order."""
    if isinstance(schedulers, Mapping):
        return [scheduler for part in schedulers.values() for scheduler in part]
    return list(schedulers or ())
