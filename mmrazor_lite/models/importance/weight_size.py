"""l1, l2: the size of the weights that make or read a unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from mmrazor_lite.models.mutators.channel_order import Member

from .definition import Batches, Scores, Widths, measure, total


def _sums(network: Widths, size: Callable[[Tensor], Tensor]) -> Iterator[tuple[Member, Tensor]]:
    for member in network.members:
        if member.tensor.dim() > 1 and member.kind is not None and member.kind.makes_channels:
            yield member, size(member.tensor).movedim(member.dim, -1)


@measure("weights")
def l1(network: Widths, batches: Batches = (), loss: Callable | None = None) -> Scores:
    """Sum of absolute weights (Pruning Filters for Efficient ConvNets, arXiv:1608.08710, section 3.1)."""
    return total(network, _sums(network, Tensor.abs))


@measure("weights")
def l2(network: Widths, batches: Batches = (), loss: Callable | None = None) -> Scores:
    """Root of the sum of squared weights, of all layers that share the unit (arXiv:1608.08710, section 3.1)."""
    return {name: score**0.5 for name, score in total(network, _sums(network, Tensor.square)).items()}
