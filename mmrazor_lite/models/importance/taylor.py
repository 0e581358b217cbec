"""taylor: the first-order change of the loss where a unit is taken away."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .definition import Batches, Scores, Widths, measure
from .observation import saliency


@measure("images")
def taylor(network: Widths, batches: Batches, loss: Callable[..., Tensor] | None = None) -> Scores:
    """Mean over the images of |activation x gradient| (arXiv:1611.06440, section 2.2, equation 6)."""
    return saliency(network, batches, loss, lambda derivatives: derivatives.abs().sum(0))
