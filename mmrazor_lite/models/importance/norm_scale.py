"""bn: the scale of the norms that a unit goes through."""

from __future__ import annotations

from collections.abc import Callable

from .definition import Batches, Scores, Widths, measure, total


@measure("weights")
def bn(network: Widths, batches: Batches = (), loss: Callable | None = None) -> Scores:
    """Sum of the absolute scales of the norms (Network Slimming, arXiv:1708.06519, section 3).

    A group without a norm gets equal scores and stays as it is.
    """
    scales = (
        (member, member.tensor.abs())
        for member in network.members
        if member.name == "weight" and member.kind is not None and not member.kind.makes_channels
    )
    return total(network, scales)
