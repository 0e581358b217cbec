"""activation: how large what a unit gives is, where it is read."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .definition import Batches, Scores, Widths, measure
from .observation import inputs_seen


@measure("images")
def activation(network: Widths, batches: Batches, loss: Callable | None = None) -> Scores:
    """Mean absolute activation in front of the layers that read it (arXiv:1611.06440, section 2.2)."""
    return inputs_seen(network, batches, Tensor.abs)
