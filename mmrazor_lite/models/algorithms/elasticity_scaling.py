"""Elasticity-scaling: all widths of a network grow or shrink together until its latency meets a target.

Source: TF-NAS, arXiv:2008.05314, section 3.3; ``train_search.py`` of its authors. Shapes: n blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Latency = Callable[[Sequence[int]], float]  # widths (n) -> milliseconds


def scale_widths(
    widths: Sequence[int],
    limits: Sequence[tuple[int, int]],
    stages: Sequence[int],
    latency: Latency,
    target: float,
) -> list[int]:
    """Bring the latency of a network to just below ``target`` by its widths alone.

    Above the target, all blocks shrink until it is crossed; below it, all grow as long as it is not. Then the blocks
    from the second stage on grow as far as there is room, those from the third stage on, and so on: ever fewer
    channels at a time. Each block changes in proportion to its width, by one channel for the narrowest.

    Args:
        widths: Of each block, (n).
        limits: The smallest and the largest width of each block.
        stages: The stage of each block, from 0, ascending.
        latency: Milliseconds of the network with the given widths.
        target: Milliseconds.

    Returns:
        The new widths, (n). Their latency is above the target only where all blocks are at their smallest widths.
    """
    widths, now = list(widths), latency(widths)
    if now == target:
        return widths
    everything = range(len(widths))
    if now > target:
        widths = _fit(widths, limits, everything, latency, target, sign=-1)
    else:
        widths = _fit(widths, limits, everything, latency, target, sign=1)
    for first in range(1, max(stages) + 1):
        later = [block for block in everything if stages[block] >= first]
        widths = _fit(widths, limits, later, latency, target, sign=1)
    return widths


def _fit(
    widths: list[int],
    limits: Sequence[tuple[int, int]],
    blocks: Sequence[int],
    latency: Latency,
    target: float,
    sign: int,
) -> list[int]:
    """Change the widths of ``blocks`` step by step; the step that crosses the target is kept only when shrinking."""
    smallest = min(widths[block] for block in blocks)
    steps = {block: round(widths[block] / smallest) for block in blocks}
    proposed, free, now = widths, True, latency(widths)
    while free and sign * now <= sign * target:
        widths, proposed, free = proposed, list(proposed), False
        for block in blocks:
            low, high = limits[block]
            width = widths[block] + sign * steps[block]
            free |= low < width < high
            proposed[block] = min(max(width, low), high)
        now = latency(proposed)
    return proposed if sign < 0 else widths
