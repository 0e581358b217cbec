"""fisher: the second-order change of the loss where a unit is taken away."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .definition import Batches, Scores, Widths, measure
from .observation import saliency


@measure("images")
def fisher(network: Widths, batches: Batches, loss: Callable[..., Tensor] | None = None) -> Scores:
    """Mean square of the derivative by the unit, the layers of its group summed before (arXiv:2108.00708, 3.2)."""
    return saliency(network, batches, loss, lambda derivatives: derivatives.square().sum(0))
