"""random, first: orders that know nothing of the network, to compare with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .definition import Batches, Scores, Widths, measure


@measure("weights")
def random(network: Widths, batches: Batches = (), loss: Callable | None = None) -> Scores:
    """Random scores, equal in every run."""
    rng = np.random.default_rng(0)
    return {name: rng.random(units) for name, units in network.unit_counts.items()}


@measure("weights")
def first(network: Widths, batches: Batches = (), loss: Callable | None = None) -> Scores:
    """The order that the units have: the first ones are kept."""
    return {name: -np.arange(units, dtype=np.float64) for name, units in network.unit_counts.items()}
