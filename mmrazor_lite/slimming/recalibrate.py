"""Batch-norm recalibration as a candidate: kept where it brings the outputs nearer to those of the original."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmrazor_lite.models.calibration import batch_norms, recalibrate

from .distance import Distance, distance, mean_distance


@dataclass(frozen=True)
class Recalibration:
    """The distance to the original's outputs before and after; whether the new statistics were taken."""

    before: float
    after: float
    taken: bool


@torch.no_grad()
def recalibrate_if_better(
    small: nn.Module, full: nn.Module, batches: Iterable[tuple[Tensor, Any]], measure: Distance = distance
) -> Recalibration:
    """Measure the batch norms of ``small`` anew, in place, where that brings its outputs nearer to those of ``full``.

    Statistics are averages over the images (AutoSlim, arXiv:1903.11728, section 3.3). On a network to which nothing
    happened they do harm: those of its training are of more images. Both networks are left in eval mode.

    Args:
        batches: (images (N, C, H, W), targets, which are not looked at). A smaller last batch is left out of the
            statistics, as it would count as much as the others.
    """
    batches = [batch for batch in batches if len(batch[0])]
    full.eval()
    references = [full(images) for images, _ in batches]
    before = mean_distance(_outputs(small, batches), references, measure)
    norms = batch_norms(small)
    if not norms:
        return Recalibration(before, before, False)
    saved = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    recalibrate(small, [batch for batch in batches if len(batch[0]) == len(batches[0][0])])
    after = mean_distance(_outputs(small, batches), references, measure)
    if not after < before:
        for buffer, value in saved:
            buffer.copy_(value)
    return Recalibration(before, after, after < before)


def _outputs(network: nn.Module, batches: Iterable[tuple[Tensor, Any]]) -> Iterable[Any]:
    network.eval()
    return (network(images) for images, _ in batches)
