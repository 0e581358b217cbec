"""A trial of both orders of memory on the first batch of a training: which is faster, and do both compute the same.

It leaves no trace: weights, statistics, random states, gradients and the active subnet are as they were before.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from mmrazor_lite.engine.channels_last import most_macs, say, settle, untried
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.base import Algorithm, inputs_of
from mmrazor_lite.models.calibration import activated, batch_norms, local, unchanged

ROUNDS = 4  # of both orders in turn; the first one warms up and compares
GAIN = 0.95  # what a step may take, relative to the other order: less is taken, so that noise does not decide
TRIAL_MACS = 10e9  # of a batch on the CPU: an image costs there what it costs, however many there are
LOSS, HALF_LOSS = 1e-2, 0.1  # relative differences that are rounding in float32, and in 16 bits
GRADIENT = 0.25  # the same of gradients in float32: batch norms of few images blow rounding up, to 0.05


@dataclass(frozen=True)
class Trial:
    """What a trial found, the mean over all processes.

    Attributes:
        seconds: Of a step as (N, C, H, W).
        others: With the channels innermost.
        images: Of the batch tried, on each process.
        problem: Why the other order is not to be trusted; None where it is.
    """

    seconds: float
    others: float
    images: int
    problem: str | None = None

    @property
    def channels_last(self) -> bool:
        """Whether the channels are to be innermost."""
        return self.problem is None and self.others < GAIN * self.seconds

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        return f"a step of {self.images} images takes {self.others:.4g} s with it, {self.seconds:.4g} s without"


class LayoutHook(Hook):
    """Settles ``channels_last='auto'`` before the first step of a training that begins."""

    priority = "VERY_LOW"  # after those that may refuse the run

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Follow the rules, or try; then the order stays."""
        if not runner.layout_is_open:
            return
        why = untried(runner, runner.train_dataloader.batch_size or 1)
        if why:
            settle(runner, False)
            say(runner.logger, False, why)
            return
        found = tried(runner.algorithm, data_batch, runner.optim_wrapper)
        settle(runner, found.channels_last)
        say(runner.logger, found.channels_last, f"{found}; True or False settles it without a trial")


def tried(algorithm: Algorithm, data: Any, optim_wrapper: OptimWrapper | OptimWrapperDict) -> Trial:
    """Try both orders on a batch of the data loader; all processes find the same.

    Args:
        algorithm: Lies as (N, C, H, W), and does again afterwards.
        data: As ``train_step`` gets it; it is copied.
        optim_wrapper: Scales losses; nothing is updated.
    """
    active = activated(algorithm.mutator) if getattr(algorithm.mutator, "active", None) is not None else nullcontext()
    with unchanged(algorithm), active, local(batch_norms(algorithm)):
        batch = _first(algorithm.trial_batch(copy.deepcopy(data)), _images(algorithm))
        for module in algorithm.modules():
            if isinstance(module, _DropoutNd):  # a mask is drawn in the order of the memory
                module.training = False
        try:
            found = _measured(algorithm, batch, optim_wrapper)
        finally:
            algorithm.use_channels_last(False)
            _forget_gradients(algorithm)
    return found


def _measured(algorithm: Algorithm, batch: Any, optim_wrapper: Any) -> Trial:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    problem = None
    for number in range(ROUNDS):
        losses, gradients = [], []
        for order in (False, True):
            try:
                took, loss = _step(algorithm, batch, optim_wrapper, order)
            except (RuntimeError, UserError) as error:  # out of memory too
                if not order:
                    raise
                problem = " ".join(str(error).split())[:200]
                break
            seconds[order].append(took)
            losses.append(loss)
            gradients.append([parameter.grad for parameter in algorithm.parameters()] if number == 0 else [])
        if number == 0 and problem is None:
            problem = _difference(losses, gradients, _is_half(optim_wrapper)) or _operators(algorithm, batch)
        if problem:
            break
    return _agreed(seconds, problem, algorithm, _count(batch))


def _step(algorithm: Algorithm, batch: Any, optim_wrapper: Any, channels_last: bool) -> tuple[float, Tensor]:
    """Seconds and loss of one step up to its update; its gradients are there."""
    _forget_gradients(algorithm)
    algorithm.use_channels_last(channels_last)
    _wait()
    start = time.perf_counter()
    loss = algorithm.trial_step(batch, optim_wrapper)
    _wait()
    return time.perf_counter() - start, loss


def _difference(losses: list[Tensor], gradients: list[list[Tensor | None]], is_half: bool) -> str | None:
    """What tells that the two orders do not compute the same, but for rounding."""
    mine, other = (float(loss) for loss in losses)
    if not abs(other - mine) <= (HALF_LOSS if is_half else LOSS) * max(abs(mine), 1e-3):
        return f"the loss is {other:.6g} with it, {mine:.6g} without"
    if is_half:
        return None  # what rounding to 16 bits does to gradients of a network that has yet to learn is as large as they
    pairs = [(a, b) for a, b in zip(*gradients, strict=True) if a is not None and b is not None]
    square = sum(a.double().square().sum() for a, _ in pairs)
    apart = sum((a.double() - b.double()).square().sum() for a, b in pairs)
    length, distance = (float(value) ** 0.5 for value in (square, apart))
    if not distance <= GRADIENT * length:
        return f"gradients differ by {distance / length:.1%}"
    return None


def _operators(algorithm: Algorithm, batch: Any) -> str | None:
    """What keeps one of the operators to choose from from running; a step runs one of each place."""
    choices = list(algorithm.search_space.values())
    counts = [len(choice.candidates) for choice in choices if choice.kind == "operator"]
    images = inputs_of(batch)[:2]
    for number in range(max(counts, default=0) if algorithm.kind == "supernet" else 0):
        row = [
            min(number, len(choice.candidates) - 1) if choice.kind == "operator" else len(choice.candidates) - 1
            for choice in choices
        ]
        algorithm.mutator.activate(algorithm.search_space.subnet(np.array(row)))
        try:
            algorithm(images, mode="tensor").sum().backward()
        except RuntimeError as error:
            return " ".join(str(error).split())[:200]
    return None


def _agreed(seconds: Mapping[bool, list[float]], problem: str | None, algorithm: nn.Module, images: int) -> Trial:
    """The mean over the processes, of which a problem of one is one of all."""
    plain, other = (statistics.median(seconds[order][1:] or [0.0]) for order in (False, True))
    device = next(algorithm.parameters()).device
    found = torch.tensor([plain, other, float(problem is not None)], dtype=torch.float64, device=device)
    all_reduce(found, "mean")
    plain, other, refused = found.tolist()
    if refused and problem is None:
        problem = "another process found that it cannot be trusted"
    return Trial(plain, other, images, problem)


def _images(algorithm: Algorithm) -> int | None:
    """How many images are enough for a trial; None for all of a batch."""
    if next(algorithm.parameters()).device.type != "cpu":
        return None
    return max(4, round(TRIAL_MACS / most_macs(algorithm)))


def _first(batch: Any, count: int | None) -> Any:
    """The first images of a preprocessed batch and what belongs to them."""
    if count is None or not isinstance(batch, Mapping) or not isinstance(batch.get("data_samples"), list):
        return batch
    return {**batch, "inputs": batch["inputs"][:count], "data_samples": batch["data_samples"][:count]}


def _count(batch: Any) -> int:
    return len(inputs_of(batch))


def _is_half(optim_wrapper: Any) -> bool:
    parts = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    return any(part.is_half for part in parts)


def _forget_gradients(algorithm: nn.Module) -> None:
    for parameter in algorithm.parameters():
        parameter.grad = None


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
