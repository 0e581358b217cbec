"""What the original gives at the places that refits look at, asked once for several of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmrazor_lite.graph import evaluating

from .layer_flow import layer_flows
from .layer_rows import Images, RowPlan
from .waiting_runs import Stop, WaitingRuns

MOST_BYTES = 256 * 2**20  # of what is kept; where it is more, the original runs for each refit anew


class Runs(Protocol):
    """Runs of a network in whose order the layers are gone through, see :class:`WaitingRuns`."""

    def layers(self) -> Iterator[str]:
        """Layer after layer."""

    def stops(self, name: str, batches: int | None = None) -> Iterator[tuple[int, Stop]]:
        """(number of the batch, where its run stops) for every call of the layer that is at hand."""

    def close(self) -> None:
        """Give up all runs."""


class Original:
    """The network that subnets are refitted to, on the same images, at places that do not depend on the subnet.

    Args:
        network: All widths active.
        batches: (images (N, C, H, W), targets, which are not looked at).
        rows: Places of a fit for each number that makes an output of the original.
        held_bytes: As of a refit.
    """

    def __init__(self, network: nn.Module, batches: Iterable[tuple[Tensor, Any]], rows: int, held_bytes: int) -> None:
        self._network, self._held_bytes = network, held_bytes
        self.images = Images(batches, next(network.parameters()))
        first = self.images[0][:2]
        with torch.no_grad(), evaluating(network):
            self._flows = layer_flows(network, first)
            self.plans = RowPlan.all_of(self._flows, self.images, rows)
            numbers = sum(self.plans[name].rows * flow.outputs * 2 for name, flow in self._flows.items())
            is_small = numbers * first.element_size() <= MOST_BYTES
            self._kept = _Kept(self._runs()) if is_small else None

    def runs(self) -> Runs:
        """Those of one refit."""
        return self._runs() if self._kept is None else self._kept

    def _runs(self) -> WaitingRuns:
        return WaitingRuns(self._network, self._flows, self.plans, self.images, self._held_bytes, is_fitted=False)


class _Kept:
    """What runs told on their way through the network."""

    def __init__(self, runs: WaitingRuns) -> None:
        with closing(runs):
            self._stops = {name: list(runs.stops(name)) for name in runs.layers()}

    def layers(self) -> Iterator[str]:
        yield from self._stops

    def stops(self, name: str, batches: int | None = None) -> Iterator[tuple[int, Stop]]:
        return ((batch, stop) for batch, stop in self._stops[name] if batches is None or batch < batches)

    def close(self) -> None:
        """There is none left."""
