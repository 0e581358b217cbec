"""Whether a run keeps the channels innermost in memory: as the config says, or as a rule and a trial find.

``channels_last='auto'`` is settled once. What goes on from a checkpoint, or searches and tests one, has the order of
that run: results differ in their last bits. A training that begins follows the rules of :func:`untried`; where they
leave it open, it tries both orders on its first batch (:mod:`.layout_trial`).
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from typing import Any

from mmengine.device import get_device
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.models.algorithms.base import Algorithm
from mmrazor_lite.models.calibration import activated

AUTO = "auto"
FEWEST = 8  # input channels, below which the weight gradient of a strided 1x1 convolution is written out of bounds
LEAST_MACS = 500e6  # of a batch in one pass; less takes some hundredths of a second, whatever the order


def option(config: Mapping[str, Any]) -> bool | str:
    """Return what a config says of the order: True, False, or ``'auto'``, which is the default.

    Raises:
        UserError: It says something else.
    """
    value = config.get("channels_last", AUTO)
    if not isinstance(value, bool) and value != AUTO:
        raise UserError(f"channels_last={short(value)}: allowed are 'auto', True or False")
    return value


def check_channels_last(model: nn.Module) -> None:
    """Refuse ``channels_last`` where training would damage memory.

    Raises:
        UserError: A subnet of ``model`` can have a layer that does; names it.
    """
    problem = damage(model)
    if problem:
        raise UserError(f"channels_last=True: {problem}: set channels_last=False, or train on a GPU")


def damage(model: nn.Module) -> str | None:
    """Return what in training ``model`` would write beyond its memory on the CPU, or None.

    Seen with torch 2.15 (oneDNN, AVX2): 1x1 convolutions of stride 2 with 3 to 7 input channels end in a crash, or go
    on with damaged memory.
    """
    if get_device() != "cpu":
        return None
    mutator = getattr(model, "mutator", None)
    if getattr(mutator, "active", None) is None:
        return _damaging_layer(model)
    with activated(mutator):
        for subnet in model.subnets or [model.search_space.min()]:  # a joint model has its own subnets only
            mutator.activate(subnet)
            problem = _damaging_layer(model)
            if problem:
                return problem
    return None


def _damaging_layer(model: nn.Module) -> str | None:
    for name, module in model.named_modules():
        strided = isinstance(module, nn.Conv2d) and module.groups == 1 and max(module.stride) > 1
        if strided and tuple(module.kernel_size) == (1, 1) and 1 < module.in_channels < FEWEST:
            return (
                f"torch's backward pass of '{name}', a strided 1x1 convolution with {module.in_channels} input "
                "channels in the smallest subnet, damages memory on the CPU in that layout"
            )
    return None


def untried(runner: Runner, batch_size: int) -> str | None:
    """Return why nothing is tried and the order of (N, C, H, W) stays; None where a trial is worth its time.

    All of it follows from the config and the device, so that equal runs do the same.
    """
    model = runner.algorithm
    if not isinstance(model, Algorithm):
        return "the model is none of this package"
    if type(model).train_step is not Algorithm.train_step and type(model).trial_step is Algorithm.trial_step:
        return f"{type(model).__name__} has a training step of its own"
    if runner.deterministic:
        return "nothing is timed with randomness.deterministic"
    if runner.cfg.get("compile"):
        return "what is compiled has the order that the compiler chooses"
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return "there is no convolution of images"
    macs = most_macs(model)
    if macs is None:
        return "what the network costs is not known"
    if macs * batch_size < LEAST_MACS:
        return "a step is too short for the order to matter"
    return damage(model)


def most_macs(model: Algorithm) -> int | None:
    """Of one image in the largest network of the training; None where nothing counts them."""
    return max((cost["macs"] for cost in model.resources().values()), default=None)


def follow(runner: Runner, said: Mapping[str, Any]) -> None:
    """Give the model the order of the run that wrote a file, unless the config says one.

    Args:
        runner: Goes on from the file, or tests or searches what is in it.
        said: What the file says of itself; files of others and of before do not say an order, and had none.
    """
    if not isinstance(runner.algorithm, Algorithm):
        return
    wanted, theirs = option(runner.cfg), said.get("channels_last") is True
    if wanted != AUTO:
        if runner._resume and "channels_last" in said and theirs != wanted:
            runner.logger.info(f"channels_last={wanted}, as the config says; the run so far had {theirs}")
        return
    problem = damage(runner.algorithm) if theirs and runner._trains else None
    if problem:
        runner.logger.warning(f"channels_last=False, the run so far had it on: {problem}")
    settle(runner, theirs and not problem)


def settle(runner: Runner, channels_last: bool) -> None:
    """Lay the weights of a run, and the batches of its gradients where there are several processes."""
    runner.layout_is_open = False
    if runner.algorithm.channels_last == channels_last:
        return
    runner.algorithm.use_channels_last(channels_last)
    if is_model_wrapper(runner.model):  # its buckets are laid as the weights were when it was made
        training = runner.model.training
        runner.model = runner.wrap_model(runner.cfg.get("model_wrapper_cfg"), runner.algorithm)
        runner.model.training = training
        gc.collect()  # the wrapper from before still listens to the gradients


def say(logger: logging.Logger, channels_last: bool, why: str) -> None:
    """Log what ``'auto'`` came to."""
    logger.info(f"channels_last='auto': {'on' if channels_last else 'off'}, {why}")
