"""What the parts of the GPU benchmark share: networks, training steps of both sides, and how they are compared.

Letters: N images of a batch.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from benchmarks._timing import interleaved, median_ratio
from benchmarks.gpu_figures import Figures, Goal

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CIFAR = "configs/pruning/autoslim/autoslim_resnet56_{}_1xb128_cifar10.py"
Step = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """How a step is run."""

    batch: int
    channels_last: bool
    bf16: bool

    @property
    def facts(self) -> dict[str, Any]:
        """For a figure."""
        layout, precision = "channels-last" if self.channels_last else "contiguous", "bf16" if self.bf16 else "fp32"
        return {"batch": self.batch, "layout": layout, "precision": precision}

    def precision(self) -> contextlib.AbstractContextManager:
        """Of a forward pass and its loss; fp32 is as torch has it, convolutions in TF32."""
        return torch.autocast(DEVICE, dtype=torch.bfloat16) if self.bf16 else contextlib.nullcontext()


# What people train with first: a part that is cut has these.
SETTINGS = [Setting(256, True, True), Setting(64, True, True)]
SETTINGS += [Setting(256, False, False), Setting(64, False, False), Setting(256, True, False), Setting(64, True, False)]
TINY = [Setting(2, True, True), Setting(2, False, False)]


def settings(tiny: bool) -> list[Setting]:
    """All of them, or those of a dry run."""
    return TINY if tiny else SETTINGS


def built(path: str, options: Sequence[str] = ()) -> nn.Module:
    """The model of a config on the device, in train mode; nothing is said in the log."""
    from mmengine.logging import MMLogger

    from mmrazor_lite.config import build_model, load_config

    MMLogger.get_instance("mmengine", log_level="ERROR")
    torch.manual_seed(0)
    model = build_model(load_config(ROOT / path, list(options)))
    model.init_weights()
    return model.to(DEVICE).train()


def laid_out(model: nn.Module, channels_last: bool) -> nn.Module:
    """The model with its weights in that layout; an algorithm's images too."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if hasattr(model, "use_channels_last"):
        model.channels_last = channels_last
    return model.to(memory_format=layout)


def batch_of(algorithm: nn.Module, setting: Setting) -> tuple[Tensor, Tensor]:
    """Random images (N, C, H, W) and labels (N) for an algorithm."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(setting.batch, *algorithm.input_shape, generator=generator).to(DEVICE)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    labels = torch.randint(algorithm.architecture.head.num_classes, (setting.batch,), generator=generator)
    return images.contiguous(memory_format=layout), labels.to(DEVICE)


def samples(images: Tensor, labels: Tensor) -> dict[str, Any]:
    """A batch as an algorithm's ``train_step`` gets it behind its preprocessor."""
    from mmpretrain.structures import DataSample

    return {"inputs": images, "data_samples": [DataSample(gt_label=label) for label in labels.split(1)]}


class Pass(nn.Module):
    """A preprocessor that leaves a batch as it is."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """The same."""
        return data


def wrapped(parameters: Any, setting: Setting) -> OptimWrapper:
    """The optimizer wrapper of a training."""
    from mmrazor_lite.engine.optim import SubnetAmpOptimWrapper, SubnetOptimWrapper

    optimizer = torch.optim.SGD(parameters, 1e-3, momentum=0.9, nesterov=True)
    return SubnetAmpOptimWrapper(optimizer, dtype="bfloat16") if setting.bf16 else SubnetOptimWrapper(optimizer)


def training_step(algorithm: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Step:
    """The algorithm's own step with the same batch, and the same subnets, every time."""
    optim, data = wrapped(algorithm.architecture.parameters(), setting), samples(images, labels)
    algorithm.data_preprocessor = Pass()
    return lambda: algorithm.train_step(data, optim)


def static_step(
    networks: Sequence[nn.Module], images: Tensor, labels: Tensor, setting: Setting, updated: nn.Module | None = None
) -> Step:
    """Forward and backward of plain networks one after the other, and one update, of all or of ``updated``."""
    parameters = [p for network in ([updated] if updated is not None else networks) for p in network.parameters()]
    update = torch.optim.SGD(parameters, 1e-3, momentum=0.9, nesterov=True)

    def step() -> None:
        for network in networks:
            forward_backward(network, images, labels, setting)
        update.step()
        for network in networks:
            network.zero_grad(set_to_none=True)

    return step


def forward_backward(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> None:
    """Gradients of the loss of the labels."""
    with setting.precision():
        loss = F.cross_entropy(network(images), labels)
    loss.backward()


@contextlib.contextmanager
def same_passes(algorithm: nn.Module, passes: list) -> Iterator[None]:
    """Inside, every step of the algorithm trains these."""
    algorithm.passes = lambda step: passes
    try:
        yield
    finally:
        del algorithm.passes


def compared(
    figures: Figures,
    what: str,
    steps: Mapping[str, Step],
    setting: Setting,
    seconds: float,
    goals: Mapping[str, Goal] | None = None,
    **facts: Any,
) -> dict[str, list[float]]:
    """Time steps in turn, and write how long the first one takes beside each of the others, with quartiles.

    Args:
        figures: Where to.
        what: The first step.
        steps: By name.
        setting: Goes into the figures.
        seconds: For all rounds; there are three at least.
        goals: By the names of the others.
        facts: More of them.

    Returns:
        Seconds of each step in each round; none where they do not fit the memory, which is written.
    """
    first, *others = steps
    try:
        times = interleaved(steps, rounds=40, warmup=2, seconds=seconds)
    except torch.OutOfMemoryError:
        figures.write({"what": f"{what}: does not fit the memory", **setting.facts, **facts})
        return {}
    finally:
        freed()
    for other in others:
        ratios = sorted(a / b for a, b in zip(times[first], times[other], strict=True))
        spread = statistics.quantiles(ratios, n=4)
        figures.add(
            f"{what} / {other}",
            round(median_ratio(times[first], times[other]), 4),
            "x",
            (goals or {}).get(other),
            **setting.facts,
            **facts,
            low=round(spread[0], 4),
            high=round(spread[2], 4),
            rounds=len(ratios),
            images_per_second=rate(setting.batch, times[first]),
            other_images_per_second=rate(setting.batch, times[other]),
        )
    return times


def rate(images: int, seconds: Sequence[float]) -> float:
    """Images/s by the median."""
    return round(images / statistics.median(seconds), 1)


def freed() -> None:
    """Give back what nothing holds any more: the next networks need the room."""
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
