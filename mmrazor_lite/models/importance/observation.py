"""What layers read: the inputs of every layer that sums over channels of a group, looked at or gated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmrazor_lite.errors import UserError, failing, short
from mmrazor_lite.models.calls import Call, Calls
from mmrazor_lite.models.mutators.channel_order import Member
from mmrazor_lite.models.mutators.check import tensors_of

from .definition import Batches, Scores, Widths, total

Visit = Callable[[Member, Tensor, int], Tensor]  # (reader, its input, dimension of the channels) -> the input to use


class _Inputs:
    """A watcher of calls that hands what they read to ``visit``."""

    def __init__(self, readers: Mapping[int, Member], visit: Visit) -> None:
        self._readers, self._visit = readers, visit

    def before(self, call: Call) -> None:
        call.x = self._visit(self._readers[id(call.weight)], call.x, call.dim)

    def after(self, call: Call, y: Tensor) -> None:
        pass

    def other(self, function: Callable, args: tuple, kwargs: Mapping, result: object) -> None:
        pass


@contextmanager
def reading(network: Widths, visit: Visit) -> Iterator[None]:
    """Let ``visit`` see, and change, what the layers that make channels of others read."""
    readers = [member for member in network.members if member.role == "inputs"]
    by_call = {id(member.tensor): member for member in readers if not member.kind.own_forward}
    handles = [
        network.architecture.get_submodule(member.layer).register_forward_pre_hook(
            partial(_visit_module, visit, member)
        )
        for member in readers
        if member.kind.own_forward
    ]
    try:
        with Calls({key: (member.layer, member.kind) for key, member in by_call.items()}, _Inputs(by_call, visit)):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _visit_module(visit: Visit, member: Member, _: nn.Module, args: tuple) -> tuple:
    return (visit(member, args[0], member.kind.dim % args[0].dim()), *args[1:])


def saliency(
    network: Widths, batches: Batches, loss: Callable[..., Tensor] | None, of: Callable[[Tensor], Tensor]
) -> Scores:
    """Scores from the derivatives of a loss by a gate of 1 in front of each unit that is read.

    Args:
        batches: (images (N, C, H, W), targets) of which the targets may be None.
        loss: Of (outputs as the network returns them, targets), a mean over the images. Without it, or without targets,
            it is the product of the outputs with random numbers: the mean square of its derivative is that of the
            distance of the outputs (Hutchinson's estimate of the Gauss-Newton matrix).
        of: Score (units,) of the derivatives (N, units) of one batch, all readers of the group summed.

    Raises:
        UserError: The loss fails, or gives what is no finite number that depends on the outputs; or no image.
    """
    generator = torch.Generator().manual_seed(0)
    scores = {name: np.zeros(units) for name, units in network.unit_counts.items()}
    count = 0
    for images, targets in batches:
        if not len(images):
            continue
        gates: list[tuple[Member, Tensor]] = []
        with torch.enable_grad(), reading(network, partial(_gate, gates)):
            runs = network.outputs(images)
            if loss is None or targets is None:
                value = sum(
                    (output * torch.randn(output.shape, generator=generator).to(output)).sum()
                    for output in tensors_of(runs)
                )
            else:
                value = sum(_value(loss, outputs, targets) for outputs in runs) * len(images)
        found = torch.autograd.grad(value, [tensor for _, tensor in gates], allow_unused=True)
        for index, (name, units) in enumerate(network.unit_counts.items()):
            parts = [
                member.by_unit(_by_image(grad, len(images)), index, units)
                for (member, _), grad in zip(gates, found, strict=True)
                if grad is not None and index in member.side.counts
            ]
            if parts:
                scores[name] = scores[name] + of(sum(parts)).double().cpu().numpy()
        count += len(images)
    if count == 0:
        raise UserError("importance: the data yields no image")
    return {name: score / count for name, score in scores.items()}


def _value(loss: Callable[..., Tensor], outputs: Any, targets: Any) -> Tensor:
    """A loss as one number that has derivatives."""
    with failing("loss: the function cannot be called with (outputs, targets)"):
        value = loss(outputs, targets)
    wrong = (
        f"a {type(value).__name__}, {short(value)}"
        if not isinstance(value, Tensor)
        else f"a tensor {tuple(value.shape)}"
        if value.numel() != 1
        else f"{value.item()}"
        if not bool(torch.isfinite(value).all())
        else "what does not depend on the outputs"
        if not value.requires_grad
        else ""
    )
    if wrong:
        raise UserError(f"loss: the function gave {wrong}: give one finite number as a tensor, a mean over the images")
    return value.squeeze()


def _gate(gates: list[tuple[Member, Tensor]], member: Member, x: Tensor, dim: int) -> Tensor:
    """A number of 1 for each row and channel of an input, to take the derivative by."""
    shape = [size if at in (0, dim) else 1 for at, size in enumerate(x.shape)]
    gates.append((member, torch.ones(shape, dtype=x.dtype, device=x.device, requires_grad=True)))
    return x * gates[-1][1]


def _by_image(grad: Tensor, images: int) -> Tensor:
    """Derivatives (rows, 1.., C, 1..) of the gates as (images, C); windows of one image lie beside each other."""
    rows = grad.flatten(1)
    return rows.reshape(images, -1, rows.shape[1]).sum(1) if len(rows) % images == 0 else rows


def inputs_seen(network: Widths, batches: Batches, size: Callable[[Tensor], Tensor]) -> Scores:
    """Scores from what is read: ``size`` of it, a mean over images and places, summed over the readers."""
    sums: dict[tuple[str, str], list] = {}

    def look(member: Member, x: Tensor, dim: int) -> Tensor:
        channels = size(x).movedim(dim, -1).reshape(-1, x.shape[dim])
        entry = sums.setdefault((member.layer, member.name), [member, 0.0, 0])
        entry[1], entry[2] = entry[1] + channels.sum(0).double(), entry[2] + len(channels)
        return x

    count = 0
    for images, _ in batches:
        with torch.no_grad(), reading(network, look):
            network.run(images)
        count += len(images)
    if count == 0:
        raise UserError("importance: the data yields no image")
    return total(network, ((member, value / rows) for member, value, rows in sums.values()))
