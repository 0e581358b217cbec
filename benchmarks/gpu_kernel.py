"""The GPU benchmark's first question: do active, exported and full networks compute the same on the device.

In float64 to its rounding, in float32 (without TF32) to that of other kernels for other shapes. In bfloat16 two right
results differ by percents, so there the active subnet must be as close to the float64 result as its export is.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu_figures import Figures
from benchmarks.gpu_speed import config
from benchmarks.gpu_steps import DEVICE, built, freed

IMAGES = 4
LIMITS = {torch.float64: 1e-9, torch.float32: 2e-4}  # of the largest value; gradients have gone both ways
NAMES = {torch.float64: "fp64", torch.float32: "fp32"}
BF16 = (2.0, 2e-3)  # times the error of the export, and beyond it


@dataclass
class Network:
    """A prepared network on the device, and its copy from before."""

    model: nn.Module
    mutator: Any
    shape: tuple[int, ...]
    plain: nn.Module | None

    def images(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
        """Random ones."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(IMAGES, *self.shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)


def kernel(figures: Figures, tiny: bool, folder: Path) -> None:
    """All networks, each by itself: what fails of one is told, and the next one is checked."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for name, make in _networks(tiny).items():
        try:
            network = make()
            _bits(figures, name, network)
            _subnets(figures, name, network, 1 if tiny else 2)
            _statistics(figures, name, network)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            figures.check(f"{name}: all checks ran", False, error=f"{type(error).__name__}: {reason}")
        finally:
            network = None
            freed()


def _networks(tiny: bool) -> dict[str, Any]:
    """What to check, made when its turn comes: traced networks, one of operators, and one traced on the device."""
    import torchvision.models as tv

    def vit() -> nn.Module:
        return tv.VisionTransformer(32, 8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10)

    def found(path: str) -> Network:
        algorithm = built(path)
        return Network(algorithm.architecture, algorithm.mutator, algorithm.input_shape, None)

    networks = {
        "digits network": lambda: found(config("autoslim", True)),
        "operators of SPOS": lambda: found(config("spos", True)),
    }
    if tiny:
        return networks
    return {
        **networks,
        "ResNet-18": lambda: _prepared(tv.resnet18(num_classes=10), (3, 64, 64)),
        "MobileNetV2": lambda: _prepared(tv.mobilenet_v2(num_classes=10), (3, 64, 64)),
        "attention": lambda: _prepared(vit(), (3, 32, 32)),
        "ResNet-18, prepared on the device": lambda: _prepared(tv.resnet18(num_classes=10).to(DEVICE), (3, 64, 64)),
    }


def _prepared(model: nn.Module, shape: tuple[int, ...]) -> Network:
    """A network of torchvision on the device, with norms that show a wrong slice."""
    from mmrazor_lite.models.mutators import OneShotChannelMutator

    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # random numbers of other shapes are other numbers
    plain = copy.deepcopy(model)
    mutator = OneShotChannelMutator(candidate_choices=[0.25, 0.5, 0.75, 1.0])
    mutator.prepare(model, shape)
    return Network(model.to(DEVICE), mutator, shape, plain.to(DEVICE))


def _bits(figures: Figures, name: str, network: Network) -> None:
    """The full network computes the same bits as before it was prepared."""
    if network.plain is None:
        return
    network.mutator.activate(network.mutator.search_space.min())
    network.mutator.activate(network.mutator.search_space.max())
    for training in (False, True):
        ours, theirs = (_run(model, network.images(), training).output for model in (network.model, network.plain))
        mode = "train" if training else "eval"
        figures.check(f"{name}: the full network has the same bits, {mode} mode", torch.equal(ours, theirs))


def _subnets(figures: Figures, name: str, network: Network, draws: int) -> None:
    """Outputs, gradients and statistics of active subnets and of their exports."""
    space, rng = network.mutator.search_space, np.random.default_rng(0)
    subnets = [space.min(), *(space.sample(rng) for _ in range(draws))]
    for dtype, limit in LIMITS.items():
        network.model.to(dtype)
        worst = dict.fromkeys(("eval output", "train output", "gradients", "statistics"), 0.0)
        left = 0.0
        for subnet in subnets:
            exported, images = network.mutator.export(subnet), network.images(dtype)
            network.mutator.activate(subnet)
            for training, what in ((False, "eval output"), (True, "train output")):
                ours, theirs = _run(network.model, images, training), _run(exported, images, training)
                worst[what] = max(worst[what], _difference(ours.output, theirs.output))
                if training:
                    gradients, inactive = _gradients(network.model, exported)
                    worst["gradients"] = max(worst["gradients"], gradients, _difference(ours.images, theirs.images))
                    worst["statistics"] = max(worst["statistics"], _buffers(network.model, exported))
                    left = max(left, inactive)
        for what, value in worst.items():
            allowed = 10 * limit if what == "gradients" else limit
            figures.check(f"{name}: {what} of active and exported, {NAMES[dtype]}", value <= allowed,
                          difference=value, limit=allowed)  # fmt: skip
        figures.check(f"{name}: inactive weights get no gradient, {NAMES[dtype]}", left == 0.0, largest=left)
    network.model.to(torch.float32)
    _bfloat16(figures, name, network, subnets)


def _bfloat16(figures: Figures, name: str, network: Network, subnets: list) -> None:
    """Errors of both sides under autocast, against float64."""
    errors = {"active": 0.0, "exported": 0.0}
    for subnet in subnets:
        exported = network.mutator.export(subnet).eval()
        network.mutator.activate(subnet)
        network.model.eval()
        with torch.no_grad():
            truth = copy.deepcopy(exported).double()(network.images(torch.float64))
            for side, model in (("active", network.model), ("exported", exported)):
                with torch.autocast(DEVICE, dtype=torch.bfloat16):
                    output = model(network.images())
                errors[side] = max(errors[side], float((output.double() - truth).norm() / truth.norm()))
    factor, beyond = BF16
    holds = errors["active"] <= factor * errors["exported"] + beyond
    figures.check(f"{name}: the active subnet in bf16 is as close to fp64 as its export", holds, **errors)


def _statistics(figures: Figures, name: str, network: Network) -> None:
    """Recalibrated batch norms of both sides, and that all is put back."""
    from mmrazor_lite.models.calibration import batch_norms, recalibrate, unchanged

    if not batch_norms(network.model):
        return
    subnet = network.mutator.search_space.sample(np.random.default_rng(1))
    batches = [(network.images(seed=seed), None) for seed in range(3)]
    exported = network.mutator.export(subnet)
    network.mutator.activate(subnet)
    before = {key: value.clone() for key, value in network.model.state_dict().items()}
    with unchanged(network.model):
        recalibrate(network.model, batches)
        recalibrate(exported, batches)
        with torch.no_grad():
            difference = _difference(network.model(batches[0][0]), exported(batches[0][0]))
    limit = LIMITS[torch.float32]
    figures.check(f"{name}: recalibrated, active and exported", difference <= limit, difference=difference, limit=limit)
    same = all(torch.equal(before[key], value) for key, value in network.model.state_dict().items())
    figures.check(f"{name}: recalibrating leaves nothing behind", same)


@dataclass
class _Result:
    output: Tensor
    images: Tensor | None


def _run(model: nn.Module, images: Tensor, training: bool) -> _Result:
    """Forward, and in train mode backward too; gradients of before are dropped."""
    model.train(training)
    model.zero_grad(set_to_none=True)
    images = images.clone().requires_grad_(training)
    with contextlib.nullcontext() if training else torch.no_grad():
        output = model(images)
    if training:
        weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype, device=output.device).view_as(output)
        (output * weights).sum().backward()
    return _Result(output.detach(), images.grad)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, in the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def _gradients(model: nn.Module, exported: nn.Module) -> tuple[float, float]:
    """Largest difference of weight gradients, in the largest of all, and the largest of an inactive weight."""
    pairs, largest, inactive = [], 1e-30, 0.0
    for full, part, place in _shared(model, exported):
        if full.grad is None or part.grad is None:
            pairs.append(float("inf") if (full.grad is None) != (part.grad is None) else 0.0)
            continue
        pairs.append(float((full.grad[place] - part.grad).abs().max()))
        largest = max(largest, float(part.grad.abs().max()))
        rest = full.grad.clone()
        rest[place] = 0
        inactive = max(inactive, float(rest.abs().max()))
    return max(pairs, default=0.0) / largest, inactive


def _shared(model: nn.Module, exported: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter, Any]]:
    """Parameters of which the export has the first units: (full one, its, where)."""
    full = dict(model.named_parameters())
    for name, part in exported.named_parameters():
        whole = full.get(name)
        if whole is None or whole.dim() != part.dim():
            continue
        place = tuple(slice(size) for size in part.shape)
        if torch.equal(whole[place], part):
            yield whole, part, place


def _buffers(model: nn.Module, exported: nn.Module) -> float:
    """Largest difference of running statistics after as many steps; exported is the part of the first units."""
    full, worst = dict(model.named_buffers()), 0.0
    for name, part in exported.named_buffers():
        whole = full.get(name)
        if part.is_floating_point() and whole is not None and part.dim() == 1:
            worst = max(worst, _difference(whole[: len(part)], part))
    return worst
