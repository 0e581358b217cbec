"""The check that ends prepare(): small subnets run, train and compute what the masked full network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmrazor_lite.graph import LAYER_KINDS, Side, kind_of, modes_kept

Sides = Side | tuple[Side, ...]
TOLERANCE = 1e-3  # of the largest output; single precision and another order of summation stay far below


@contextmanager
def untouched(model: nn.Module) -> Iterable[None]:
    """Restore modes, buffers, gradients and random state of ``model`` afterwards."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    try:
        with modes_kept(model), torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for parameter, gradient in gradients.items():
            parameter.grad = gradient


def probe_images(model: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """Two random images for the check; small ones where the model takes them, as widths do not depend on their size."""
    channels, *space = input_shape
    parameter = next(model.parameters(), torch.zeros(()))  # a network without any has no width, which is told later
    generator = torch.Generator().manual_seed(0)
    sizes = [[min(size, 64) for size in space]] if min(space, default=0) >= 128 else []
    for size in sizes:
        images = torch.randn((2, channels, *size), generator=generator).to(parameter)
        with untouched(model):
            try:
                model.train()
                with torch.no_grad():
                    model(images)
            except Exception:  # whatever a model says to images it does not expect
                continue
            return images
    return torch.randn((2, *input_shape), generator=generator).to(parameter)


def failure(
    model: nn.Module, images: Tensor, compare: Callable[[Tensor], object] | None, train: bool = True
) -> str | None:
    """Run the active subnet forward and backward in train mode, then in eval mode; return what went wrong.

    Args:
        images: (N, C, H, W).
        compare: gives the output the subnet must have for one image in eval mode, or None to run only.
        train: run in train mode first, forward and backward.
    """
    with untouched(model):
        try:
            if train:
                model.train()
                total = sum(output.float().sum() for output in tensors_of(model(images)))
                if isinstance(total, Tensor) and total.requires_grad:
                    total.backward()
            model.eval()
            with torch.no_grad():
                outputs = tensors_of(model(images[:1]))
                expected = compare(images[:1]) if compare is not None else None
        except Exception as error:  # whatever the code of a model raises for a width it does not expect
            return (str(error) or type(error).__name__).splitlines()[0]
    if expected is None:
        return None
    for own, other in zip(outputs, tensors_of(expected), strict=True):
        if own.shape != other.shape:
            return f"output of shape {tuple(own.shape)}, expected {tuple(other.shape)}"
        scale = max(float(other.abs().max()), 1e-12)
        if float((own - other).abs().max()) > TOLERANCE * scale:
            return "its output is not that of the full network with the dropped channels masked"
    return None


def backward_error(model: nn.Module, images: Tensor) -> str | None:
    """Why a step of training of the active subnet fails although it runs forward; None where it does not."""
    error = failure(model, images, None)
    return error if error is not None and failure(model, images, None, train=False) is None else None


def number_variants(numbers: Mapping[str, Mapping[str, Sides]]) -> list[dict[str, dict[str, Sides]]]:
    """Which numbers of modules to take for widths: all; then one of those that are equal by chance, each in turn.

    In an attention of 8 heads of 8 channels, nothing but a trial tells ``num_heads`` from ``head_dim``.
    """
    if not numbers:
        return []
    variants = [{module: dict(names) for module, names in numbers.items()}]
    rivals = {module: _rivals(names) for module, names in numbers.items()}
    for turn in range(max((len(names) for sets in rivals.values() for names in sets), default=0)):
        losers = {m: {n for names in sets for i, n in enumerate(names) if i != turn} for m, sets in rivals.items()}
        variants.append({m: {n: s for n, s in names.items() if n not in losers[m]} for m, names in numbers.items()})
    return variants


def _rivals(names: Mapping[str, Sides]) -> list[list[str]]:
    """Attributes of one module that would follow the same side."""
    by_side: dict[tuple, list[str]] = {}
    for name, side in names.items():
        if isinstance(side, Side):
            by_side.setdefault(side.key(), []).append(name)
    return [rivals for rivals in by_side.values() if len(rivals) > 1]


def can_mask(layers: Mapping[str, nn.Module]) -> bool:
    """Whether every norm over channels can be told by its weight, see :func:`masked_inputs`."""
    return all(layer.weight is not None for layer in layers.values() if _mask_of(layer) == "leave out")


def _mask_of(layer: nn.Module) -> str | None:
    """How what a layer reads is masked; a norm of several groups loses whole ones, which the others do not see."""
    kind = kind_of(layer)
    return None if kind is None or (kind.mask == "leave out" and kind.is_grouped(layer)) else kind.mask


@contextmanager
def masked_inputs(
    layers: Mapping[str, nn.Module], sides: Mapping[str, tuple[Side, Side]], kept: np.ndarray
) -> Iterable[None]:
    """Mask what a subnet drops in front of every layer of the full network: ``kept`` units of each group stay.

    Masking at the readers is enough: whatever a norm or an activation makes of a dropped channel, nobody sees it.
    """
    masks = {}
    for name, layer in layers.items():
        if name in sides and _mask_of(layer) and layer.weight is not None:
            mask = torch.as_tensor(sides[name][0].active(kept))
            if not bool(mask.all()):
                masks[id(layer._parameters["weight"])] = mask
    with _Masked(masks):
        yield


@contextmanager
def on_active_channels(
    model: nn.Module, layers: Mapping[str, tuple[int, Side, Side]], parts: Mapping[str, nn.Module], kept: np.ndarray
) -> Iterable[None]:
    """Run layers of the full network on the channels that a subnet keeps, and put zeros where it drops some.

    Args:
        layers: Layer -> the dimension of its channels, and its two sides.
        parts: Layer -> what it is in the subnet.
    """
    handles = []
    for name, (dim, *sides) in layers.items():
        inputs, outputs = (torch.as_tensor(side.active(kept)).nonzero().reshape(-1) for side in sides)
        if name in parts and (len(inputs), len(outputs)) != tuple(map(len, sides)):
            hook = partial(_run_part, parts[name], dim, inputs, outputs)
            handles.append(model.get_submodule(name).register_forward_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run_part(
    part: nn.Module, dim: int, inputs: Tensor, outputs: Tensor, _: nn.Module, args: tuple, kwargs: dict, result: Tensor
) -> Tensor:
    """A forward hook: the result of ``part`` in the places of ``result`` that it has."""
    small = part(args[0].index_select(dim, inputs.to(result.device)), *args[1:], **kwargs)
    return torch.zeros_like(result).index_copy_(dim, outputs.to(result.device), small)


class _Masked(TorchFunctionMode):
    """Masks the input of each call that is given one of these weights, whoever makes the call."""

    def __init__(self, masks: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._masks = masks

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        kind = LAYER_KINDS.of_op(name)
        if kind is None or kind.mask is None:
            return func(*args, **kwargs)
        names = ("input", "shape", "weight") if kind.mask == "leave out" else ("input", "weight")
        given = dict(zip(names, args, strict=False))
        mask = self._masks.get(id({**kwargs, **given}.get("weight")))
        if mask is None:
            return func(*args, **kwargs)
        x, *args = args if args else (kwargs.pop("input"),)
        mask = mask.to(x.device)
        if kind.mask == "leave out":
            return _of_the_rest(func, x, mask, kind.dim, *args, **kwargs)
        shape = [1] * x.dim()
        shape[kind.dim] = -1
        return func(x * mask.to(x).view(shape), *args, **kwargs)


def _of_the_rest(
    func: Callable,
    x: Tensor,
    mask: Tensor,
    dim: int,
    shape: object,
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """A layer norm, or a group norm of one group, of the channels that stay."""
    index = mask.nonzero().reshape(-1)
    affine = [None if p is None else p[index] for p in (weight, bias)]
    part = func(x.index_select(dim, index), shape if isinstance(shape, int) else (len(index),), *affine, eps)
    return torch.zeros_like(x).index_copy_(dim, index, part)


def tensors_of(output: object) -> list[Tensor]:
    """All tensors of what a network gives, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [tensor for item in output for tensor in tensors_of(item)]
    return []
