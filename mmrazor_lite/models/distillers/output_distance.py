"""The distance between whatever two networks give for the same images. Shape letters: N batch, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from mmrazor_lite.errors import UserError, check_number
from mmrazor_lite.registry import DISTILLERS


@DISTILLERS.register_module()
class OutputDistance(nn.Module):
    """A sum over all outputs of two networks: of class scores a divergence, of anything else a squared error.

    Class scores are tensors (N, K) of more than one column: ``tau**2 * KL(softmax(teacher / tau) || softmax(student /
    tau))``, a mean over the batch. The error of any other tensor of numbers is relative to the mean square of the
    teacher's, so that no output counts more for its unit. Both are 0 where the outputs are equal.

    Source: arXiv:1503.02531.

    Args:
        tau: Temperature of class scores, above 0.
        loss_weight: Factor on the loss, above 0.
        values: Numbers, from 0, of the outputs of numbers that are no class scores, whatever their shape.
    """

    def __init__(self, tau: float = 1.0, loss_weight: float = 1.0, values: Sequence[int] = ()) -> None:
        super().__init__()
        check_number("distiller.tau", tau, 0, above=True)
        check_number("distiller.loss_weight", loss_weight, 0, above=True)
        self.tau = tau
        self.loss_weight = loss_weight
        for number in values:
            check_number("distiller.values", number, 0, whole=True)
        self.values = frozenset(values)

    def forward(self, student: Any, teacher: Any) -> Tensor:
        """Return the scalar loss of the outputs ``student``; no gradient reaches those of ``teacher``.

        Raises:
            UserError: They are of different structures or shapes, or hold no tensor of numbers.
        """
        (own, structure), (theirs, other) = tree_flatten(student), tree_flatten(teacher)
        if structure != other:
            raise UserError(f"the outputs of both networks differ: {structure} here, {other} of the teacher")
        pairs = [(a, b.detach()) for a, b in zip(own, theirs, strict=True) if _is_compared(a)]
        for a, b in pairs:
            if a.shape != b.shape:
                raise UserError(
                    f"the outputs of both networks differ: {tuple(a.shape)}, of the teacher {tuple(b.shape)}"
                )
        if not pairs:
            raise UserError("the network gives no tensor of numbers, so there is nothing to compare")
        return (
            self.loss_weight * torch.stack([self._one(*pair, n in self.values) for n, pair in enumerate(pairs)]).sum()
        )

    def _one(self, student: Tensor, teacher: Tensor, are_values: bool) -> Tensor:
        dtype = torch.promote_types(student.dtype, torch.float32)  # half precision is too coarse for a log-softmax
        student, teacher = student.to(dtype), teacher.to(dtype)
        if student.dim() == 2 and student.shape[1] > 1 and not are_values:
            own, theirs = (F.log_softmax(scores / self.tau, dim=1) for scores in (student, teacher))
            return self.tau**2 * F.kl_div(own, theirs, reduction="batchmean", log_target=True)
        scale = teacher.square().mean().clamp(min=torch.finfo(dtype).tiny)
        return (student - teacher).square().mean() / scale


def _is_compared(output: Any) -> bool:
    """A count or a mask has no distance."""
    return isinstance(output, Tensor) and output.is_floating_point()
