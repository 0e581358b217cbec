"""The GPU benchmark's mixed precision: losses fall, gradients are right, and the scaler of float16 does its work."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.gpu_figures import Figures
from benchmarks.gpu_speed import config
from benchmarks.gpu_steps import DEVICE, Pass, Setting, batch_of, built, samples

STEPS = 20
CLOSE = {"float16": 0.05, "bfloat16": 0.2}  # of the norm of all gradients: what rounding to 11 and 8 bits may do


def amp(figures: Figures, tiny: bool, folder: Path) -> None:
    """Sandwich steps of the digits network in both kinds of mixed precision; float16 is for CUDA alone."""
    reference = _gradients(None)
    for dtype in ("float16", "bfloat16") if DEVICE == "cuda" else ("bfloat16",):
        found = _gradients(dtype)
        error = float((found - reference).norm() / reference.norm())
        figures.check(f"{dtype}: gradients of a sandwich beside fp32", error <= CLOSE[dtype], error=error)
        algorithm, step, optim = _training(dtype)
        losses = [float(step()["loss"]) for _ in range(4 if tiny else STEPS)]
        figures.check(f"{dtype}: the loss falls", losses[-1] < losses[0], first=losses[0], last=losses[-1])
        del algorithm, optim
    if DEVICE == "cuda":
        _scaler(figures)
    else:
        figures.write({"what": "the scaler of float16 is not checked: there is no CUDA"})


def _scaler(figures: Figures) -> None:
    """An update with infinite gradients is left out and the scale halved; a checkpoint brings scale and result back."""
    algorithm, step, optim = _training("float16", loss_scale={"init_scale": 2.0**40})
    before = [parameter.detach().clone() for parameter in algorithm.architecture.parameters()]
    step()
    same = all(torch.equal(*pair) for pair in zip(before, algorithm.architecture.parameters(), strict=True))
    scale = optim.loss_scaler.get_scale()
    figures.check("float16: an update with infinite gradients is left out", same)
    figures.check("float16: the scale is halved then", scale == 2.0**39, scale=scale)
    for _ in range(STEPS):
        step()
    saved = copy.deepcopy((algorithm.state_dict(), optim.state_dict()))
    step()
    expected = algorithm.state_dict()
    again, repeated, other = _training("float16")
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    figures.check("float16: a checkpoint brings the scale back",
                  other.loss_scaler.get_scale() == saved[1]["loss_scaler"]["scale"])  # fmt: skip
    repeated()
    same = all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())
    figures.check("float16: a step after a resume has the same bits", same)


def _gradients(dtype: str | None) -> torch.Tensor:
    """All gradients of one sandwich step, unscaled, as one vector; fp32 without a dtype."""
    options = {"loss_scale": {"init_scale": 1024.0}} if dtype == "float16" else {}  # none is infinite then
    algorithm, step, optim = _training(dtype, **options)
    found: list[torch.Tensor] = []

    def keep(*_: Any) -> None:
        parameters = algorithm.architecture.parameters()
        scale = optim.loss_scaler.get_scale() if dtype == "float16" else 1.0
        found.append(torch.cat([p.grad.float().flatten() / scale for p in parameters if p.grad is not None]))

    optim.step = keep
    step()
    return found[0]


def _training(dtype: str | None, **options: Any) -> tuple[nn.Module, Any, Any]:
    """A supernet, its step, and its optimizer wrapper; the same weights and images every time."""
    from mmrazor_lite.engine.optim import SubnetAmpOptimWrapper, SubnetOptimWrapper

    torch.backends.cudnn.deterministic = True
    algorithm = built(config("autoslim", True))
    algorithm.data_preprocessor = Pass()
    optimizer = torch.optim.SGD(algorithm.parameters(), 0.02, momentum=0.9)
    optim = SubnetAmpOptimWrapper(optimizer, dtype=dtype, **options) if dtype else SubnetOptimWrapper(optimizer)
    data = samples(*batch_of(algorithm, Setting(16, False, False)))
    passes = algorithm.passes(0)
    algorithm.passes = lambda number: passes
    return algorithm, lambda: algorithm.train_step(data, optim), optim
