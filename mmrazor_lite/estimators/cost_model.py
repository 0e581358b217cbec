"""Closed-form costs of subnets: polynomials in the numbers of units kept, summed once from the layer table.

Shape letters: S subnets, D width choices, T moments of the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmrazor_lite.graph.channels import Side, WidthGroup
from mmrazor_lite.graph.layer_table import LayerRow, LayerTable
from mmrazor_lite.subnet import SearchSpace

RESOURCES = ("macs", "flops", "params", "memory")
CHUNK = 8192  # subnets at a time: keeps the temporaries in cache


class _Polynomial:
    """constant + linear . u + u . quadratic . u over the units u kept by each group, exact in float64 below 2**53."""

    def __init__(self, size: int) -> None:
        self.constant = 0
        self.linear = np.zeros(size)
        self.quadratic = np.zeros((size, size))

    def add(self, scale: int, a: Side, b: Side | None = None) -> None:
        """Add ``scale * |a| * |b|``, with |side| its number of active channels (1 for None)."""
        b_counts, b_constant = ({}, 1) if b is None else (b.counts, b.constant)
        self.constant += scale * a.constant * b_constant
        for i, m in a.counts.items():
            self.linear[i] += scale * m * b_constant
            for j, n in b_counts.items():
                self.quadratic[i, j] += scale * m * n
        for j, n in b_counts.items():
            self.linear[j] += scale * a.constant * n

    def __call__(self, units: np.ndarray) -> np.ndarray:
        value = ((units @ self.quadratic) * units).sum(1) + units @ self.linear + self.constant
        return value.astype(np.int64)


class CostModel:
    """Costs of any number of subnets at once, without a forward pass.

    - ``macs``: multiply-adds of convs, linears and products of activations; no bias.
    - ``flops``: what MMRazor prints: macs + conv bias adds + 2 per element of an affine norm (1 without affine)
      + 1 per element of ReLU, ReLU6 and their kin + pooling inputs.
    - ``params``: elements of all parameters.
    - ``memory``: bytes of the parameters + the largest sum of tensors alive during one image's forward pass (outputs
      live until their last reader; views and in-place results take nothing of their own; no workspace of a kernel).
    """

    def __init__(self, space: SearchSpace, table: LayerTable, groups: Sequence[WidthGroup]) -> None:
        self.space, self.table = space, table
        self._unit = np.array([group.unit for group in groups], dtype=np.float64)
        size = len(groups)
        self._macs, self._extra, self._params = _Polynomial(size), _Polynomial(size), _Polynomial(size)
        for row in table.rows:
            if row.macs:
                self._macs.add(row.positions * row.kernel, row.inputs, row.outputs)
            _add_extra(self._extra, row)
        for row in table.weights:
            self._params.add(row.kernel, row.inputs, row.outputs)
        self._alive = _peak_candidates(table.alive, size)

    def __call__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Costs of the subnets with candidate ``indices`` (S, D): arrays (S,) of int64 for each of RESOURCES."""
        indices = np.atleast_2d(np.asarray(indices))
        parts = [self._costs(indices[start : start + CHUNK]) for start in range(0, max(len(indices), 1), CHUNK)]
        return {name: np.concatenate([part[name] for part in parts]) for name in RESOURCES}

    def _costs(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        units = np.asarray(self.space.numeric(indices), np.float64).reshape(len(indices), len(self._unit)) / self._unit
        macs, params = self._macs(units), self._params(units)
        peak = (units @ self._alive[:, :-1].T + self._alive[:, -1]).max(1).astype(np.int64)
        memory = params * self.table.parameter_bytes + peak
        return {"macs": macs, "flops": macs + self._extra(units), "params": params, "memory": memory}

    def of(self, subnet: Mapping[str, int]) -> dict[str, int]:
        """Costs of one subnet as plain integers."""
        units = np.array([[float(subnet[name]) for name in self.space]]).reshape(1, -1)
        row = units / self._unit
        macs, params = self._macs(row), self._params(row)
        peak = int((row @ self._alive[:, :-1].T + self._alive[:, -1]).max())
        return {
            "macs": int(macs[0]),
            "flops": int(macs[0] + self._extra(row)[0]),
            "params": int(params[0]),
            "memory": int(params[0]) * self.table.parameter_bytes + peak,
        }

    def max(self) -> dict[str, int]:
        return self.of(self.space.max())

    def min(self) -> dict[str, int]:
        return self.of(self.space.min())


def _add_extra(extra: _Polynomial, row: LayerRow) -> None:
    if row.kind == "conv" and row.bias:
        extra.add(row.positions, row.outputs)
    elif row.kind == "norm":
        extra.add(row.positions * (2 if row.affine else 1), row.outputs)
    elif row.kind in ("activation", "pool"):
        extra.add(row.positions, row.outputs)


def _peak_candidates(alive: Iterable[list[tuple[int, Side]]], size: int) -> np.ndarray:
    """Bytes alive at each moment as rows (T, D + 1) of coefficients, constant last, without moments that never win."""
    rows = []
    for tensors in alive:
        row = np.zeros(size + 1)
        for per_channel, side in tensors:
            row[-1] += per_channel * side.constant
            for index, count in side.counts.items():
                row[index] += per_channel * count
        rows.append(row)
    moments = np.unique(np.array(rows or [np.zeros(size + 1)]), axis=0)
    kept: list[np.ndarray] = []
    for row in moments[np.argsort(-moments.sum(1))]:
        if not any(np.all(other >= row) for other in kept):
            kept.append(row)
    return np.array(kept)
