"""SPOS: train one path of a supernet at a time, then search it by evolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from mmengine.logging import print_log
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.base import Algorithm, Pass
from mmrazor_lite.registry import MODELS
from mmrazor_lite.subnet import Subnet, parse_budget


@MODELS.register_module()
class SPOS(Algorithm):
    """Trains one uniformly drawn path per step, so that all subnets learn to share weights.

    Source: arXiv:1904.00420, section 3.2; with ``path_bins``, the sampling of its authors' code.

    Args:
        architecture: As for :class:`Algorithm`; a backbone that declares choices.
        mutator: Config of the ``NasMutator``.
        path_bins: Draw a bin of a resource uniformly, then a path inside it: ``dict(resource='macs', edges=[290, 300,
            ...], tries=500)``. Edges are budgets (bare numbers in millions), ascending; after ``tries`` paths outside
            of the bin, the last one is taken. ``None``: every choice uniformly and independently.
        norm_training: MMRazor's switch for scoring with the statistics of the batch. Subnets are scored after
            recalibration instead, so it changes nothing and ``True`` is logged.
        data_preprocessor: As for :class:`Algorithm`.
        input_shape: As for :class:`Algorithm`.
        init_cfg: As for :class:`Algorithm`.

    Raises:
        UserError: The architecture declares no choice, or a bin that no path can be in.
    """

    def __init__(
        self,
        architecture: Mapping | nn.Module,
        mutator: Any = None,
        path_bins: Mapping[str, Any] | None = None,
        norm_training: bool = False,
        data_preprocessor: Mapping | nn.Module | None = None,
        input_shape: Sequence[int] = (3, 224, 224),
        init_cfg: Any = None,
    ) -> None:
        super().__init__(architecture, mutator or {"type": "NasMutator"}, data_preprocessor, input_shape, init_cfg)
        self.mutator.prepare(self.architecture, self.input_shape)
        self.search_space = self.mutator.search_space
        self.cost_model = self.mutator.cost_model
        self._bins = None if path_bins is None else _Bins(path_bins, self.cost_model)
        if norm_training:
            print_log("SPOS: norm_training is not needed, subnets are scored after recalibration", logger="current")

    def passes(self, step: int) -> list[Pass]:
        """One path, learning from the labels."""
        rng = self.rng(step, 0)
        subnet = self.search_space.sample(rng) if self._bins is None else self._bins.sample(self.search_space, rng)
        return [Pass(subnet)]

    def named_subnets(self) -> dict[str, Subnet]:
        """The subnets of most and of fewest macs, and one drawn with the seed of the run."""
        return self._named

    @cached_property
    def _named(self) -> dict[str, Subnet]:
        ends = {f"{end}_subnet": self.cost_model.extreme_row("macs", end == "max") for end in ("max", "min")}
        named = {name: self.search_space.subnet(row) for name, row in ends.items()}
        return {**named, "random0_subnet": self.search_space.sample(np.random.default_rng(self.seed))}


class _Bins:
    """Uniform over bins of a resource, as ``src/Supernet/train.py`` of SinglePathOneShot does it."""

    KEYS = ("resource", "edges", "tries")

    def __init__(self, config: Mapping[str, Any], cost_model: Any) -> None:
        unknown = next((key for key in config if key not in self.KEYS), None)
        if unknown or "edges" not in config:
            what = f"unknown key '{unknown}'" if unknown else "the key 'edges' is missing"
            raise UserError(f"algorithm.path_bins: {what} (allowed: {', '.join(self.KEYS)})")
        self.cost_model = cost_model
        self.resource, self.tries = config.get("resource", "macs"), config.get("tries", 500)
        if type(self.tries) is not int or self.tries < 1:
            raise UserError(f"algorithm.path_bins.tries={self.tries!r} must be a whole number of 1 or more")
        low, high = (cost_model.min().get(self.resource), cost_model.max().get(self.resource))
        self.edges = [parse_budget(edge, self.resource, high) for edge in config["edges"]]
        if len(self.edges) < 2 or any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise UserError(f"algorithm.path_bins.edges={list(config['edges'])}: give two or more, ascending")
        for a, b in zip(self.edges, self.edges[1:], strict=False):
            if b < low or a > high:
                raise UserError(
                    f"algorithm.path_bins: no path has {a:,.0f} to {b:,.0f} {self.resource}; "
                    f"the search space reaches from {low:,} to {high:,}"
                )

    def sample(self, space: Any, rng: np.random.Generator) -> Subnet:
        index = int(rng.integers(len(self.edges) - 1))
        rows = space.sample_indices(rng, self.tries)
        costs = self.cost_model(rows)[self.resource]
        inside = np.flatnonzero((costs >= self.edges[index]) & (costs <= self.edges[index + 1]))
        return space.subnet(rows[inside[0] if len(inside) else -1])
