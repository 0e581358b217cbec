"""The check that ends prepare(): small subnets run, train and compute what the masked full network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmrazor_lite.graph import Side

TOLERANCE = 1e-3  # of the largest output; single precision and another order of summation stay far below


@contextmanager
def untouched(model: nn.Module) -> Iterable[None]:
    """Restore modes, buffers, gradients and random state of ``model`` afterwards."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for parameter, gradient in gradients.items():
            parameter.grad = gradient


def failure(model: nn.Module, images: Tensor, compare: Callable[[], Tensor] | None) -> str | None:
    """Run the active subnet forward and backward in train mode, then in eval mode; return what went wrong.

    Args:
        images: (N, C, H, W).
        compare: gives the output the subnet must have in eval mode, or None to run only.
    """
    with untouched(model):
        try:
            model.train()
            total = sum(output.float().sum() for output in _tensors(model(images)))
            if isinstance(total, Tensor) and total.requires_grad:
                total.backward()
            model.eval()
            with torch.no_grad():
                outputs = _tensors(model(images))
                expected = compare() if compare is not None else None
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            return str(error).splitlines()[0]
    if expected is None:
        return None
    for own, other in zip(outputs, _tensors(expected), strict=True):
        if own.shape != other.shape:
            return f"output of shape {tuple(own.shape)}, expected {tuple(other.shape)}"
        scale = max(float(other.abs().max()), 1e-12)
        if float((own - other).abs().max()) > TOLERANCE * scale:
            return "its output is not that of the full network with the dropped channels masked"
    return None


@contextmanager
def masked_inputs(layers: dict[str, nn.Module], sides: dict[str, tuple[Side, Side]], kept) -> Iterable[None]:
    """Zero what a subnet drops in front of every layer of the full network: ``kept`` units of each group stay.

    Zeroing at the readers is enough: whatever a norm or an activation makes of a dropped channel, nobody sees it.
    """
    handles = []
    for name, layer in layers.items():
        mask = torch.as_tensor(sides[name][0].active(kept))
        if bool(mask.all()):
            continue
        handles.append(
            layer.register_forward_pre_hook(_masking(mask, last=isinstance(layer, (nn.Linear, nn.LayerNorm))))
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _masking(mask: Tensor, last: bool) -> Callable:
    def hook(_: nn.Module, args: tuple) -> tuple:
        x = args[0]
        shape = [1] * x.dim()
        shape[-1 if last else 1] = -1
        return (x * mask.to(x).view(shape), *args[1:])

    return hook


def _tensors(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [tensor for item in output for tensor in _tensors(item)]
    return []
