"""Batch-norm statistics of one subnet, measured anew, and everything put back afterwards.

A supernet's running statistics are an average over all the subnets that were trained; a subnet is scored with its own.
As in the official AutoSlim code (``train.py``, ``bn_calibration``): the statistics are reset and become the plain
average over a fixed set of training batches, while the rest of the model (dropout, drop path) stays in eval mode.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmrazor_lite.graph import modes_kept


def batch_norms(model: nn.Module) -> list[_NormBase]:
    """List the batch norms of ``model``, and the instance norms, that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _NormBase) and module.running_mean is not None]


@torch.no_grad()
def moving_buffers(model: nn.Module, batch: Mapping[str, Any]) -> list[str]:
    """Names of the buffers of ``model`` that training changes and :func:`recalibrate` does not know.

    Those are running statistics of modules that are no batch norm of torch's. The model is left as it was.

    Args:
        model: Called as ``model(**batch, mode='tensor')`` in train mode, once.
        batch: A preprocessed batch.
    """
    known = {id(buffer) for norm in batch_norms(model) for buffer in norm.buffers(recurse=False)}
    own = {n: b for n, b in model.named_buffers() if id(b) not in known and b.is_floating_point()}
    if not own:
        return []
    before = {name: buffer.clone() for name, buffer in own.items()}
    with unchanged(model):
        model.train()
        with local(batch_norms(model)), suppress(Exception):  # told where the model is run in earnest
            model(**batch, mode="tensor")
        now = dict(model.named_buffers())  # one may have been replaced, not written to
        moved = [name for name, value in before.items() if not _equal(now.get(name), value)]
    for name, value in before.items():
        holder, _, last = name.rpartition(".")
        if now.get(name) is not own[name]:
            model.get_submodule(holder)._buffers[last] = own[name].copy_(value)
    return moved


def _equal(a: torch.Tensor | None, b: torch.Tensor) -> bool:
    return a is not None and a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


Batch = Mapping[str, Any] | tuple[torch.Tensor, Any]  # preprocessed, or images and their targets


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Set the running statistics of ``model`` to the average over ``batches``; leaves it in eval mode.

    Args:
        model: Called as ``model(**batch, mode='tensor')``, or with the images of a batch; the batch norms of the active
            subnet are measured.
        batches: Preprocessed batches (``inputs`` and ``data_samples``), or (images, targets), all of one size; their
            order does not matter.
    """
    model.eval()
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    with local(norms):
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
        for index, batch in enumerate(batches):
            for norm in norms:
                norm.momentum = 1 / (index + 1)  # the average so far; momentum=None costs a host sync per layer
            _run(model, batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _run(model: nn.Module, batch: Batch) -> Any:
    return model(**batch, mode="tensor") if isinstance(batch, Mapping) else model(batch[0])


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put back buffers, train or eval modes, momenta and the random states when the block ends.

    Parameters are not copied: the block must not write to them.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    momenta = [(norm, norm.momentum) for norm in batch_norms(model)]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    device_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        with modes_kept(model):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for norm, momentum in momenta:
            norm.momentum = momentum
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if device_states is not None:
            torch.cuda.set_rng_state_all(device_states)


@contextmanager
def activated(mutator: Any, subnet: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Have ``subnet`` active inside the block, or what is activated there; after it, the one before is active again."""
    before = mutator.active
    try:
        if subnet is not None:
            mutator.activate(subnet)
        yield
    finally:
        mutator.activate(before)


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[Mapping[str, Any]] | None) -> Iterator[None]:
    """Give ``model`` recalibrated statistics and eval mode inside the block; everything is put back after it.

    Args:
        model: An algorithm whose active subnet is to be evaluated.
        batches: As :func:`recalibrate`; ``None`` keeps the statistics.
    """
    with unchanged(model):
        if batches is None:
            model.eval()
        else:
            recalibrate(model, batches)
        yield


@contextmanager
def local(norms: Iterable[_NormBase]) -> Iterator[None]:
    """Keep synchronised batch norms from waiting for other processes, which run something else, if anything."""
    distributed = dist.is_available() and dist.is_initialized()
    synchronised = [norm for norm in norms if isinstance(norm, nn.SyncBatchNorm)] if distributed else []
    groups = [norm.process_group for norm in synchronised]
    for norm in synchronised:
        norm.process_group = _solo_group(dist.group.WORLD)
    try:
        yield
    finally:
        for norm, group in zip(synchronised, groups, strict=True):
            norm.process_group = group


@lru_cache(maxsize=1)
def _solo_group(world: dist.ProcessGroup) -> dist.ProcessGroup:
    # Made by this process alone: the others may never recalibrate, or at another time.
    return dist.new_group([dist.get_rank(world)], use_local_synchronization=True)
