"""Closed-form costs of subnets: polynomials in the numbers of units kept, summed once from the layer table.

Shape letters: S subnets, D choices, G width groups, T moments of the forward pass.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from numbers import Integral

import numpy as np

from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.estimators.cells import Cell, CellTable
from mmrazor_lite.graph.channels import Side, WidthGroup
from mmrazor_lite.graph.layer_table import LayerTable
from mmrazor_lite.graph.layers.rows import LayerRow
from mmrazor_lite.search.extremes import settled
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

    def used(self) -> np.ndarray:
        """Groups (G,) that the value depends on, as a mask."""
        return (self.linear != 0) | self.quadratic.any(0) | self.quadratic.any(1)

    def restricted(self, groups: np.ndarray) -> _Polynomial:
        """The same over the given groups alone."""
        part = _Polynomial(0)
        part.constant, part.linear = self.constant, self.linear[groups]
        part.quadratic = self.quadratic[np.ix_(groups, groups)]
        return part

    def __call__(self, units: np.ndarray) -> np.ndarray:
        value = ((units @ self.quadratic) * units).sum(1) + units @ self.linear + self.constant
        return value.astype(np.int64)


class PartCosts:
    """Costs of one part of a network as a function of the units that its width groups keep.

    Args:
        table: The layers of the part.
        size: Number of width groups G that the sides in the table speak of.
    """

    def __init__(self, table: LayerTable, size: int) -> None:
        macs, extra, params = _Polynomial(size), _Polynomial(size), _Polynomial(size)
        for row in table.rows:
            if row.macs:
                macs.add(row.positions * row.kernel, row.inputs, row.outputs)
            _add_extra(extra, row)
        for row in table.weights:
            params.add(row.kernel, row.inputs, row.outputs)
        alive = _peak_candidates(table.alive, size)
        used = macs.used() | extra.used() | params.used() | alive[:, :-1].any(0)
        self.groups = np.flatnonzero(used)
        self._macs, self._extra, self._params = (p.restricted(self.groups) for p in (macs, extra, params))
        self._alive = np.concatenate([alive[:, self.groups], alive[:, -1:]], axis=1)
        fixed = (macs.constant, extra.constant, params.constant, self._alive[:, -1].max())
        self._same = None if len(self.groups) else np.array([fixed], np.int64)  # what it is without any choice

    def __call__(self, units: np.ndarray) -> np.ndarray:
        """(S, G) units to (S, 4): macs, flops beside them, params, bytes of tensors alive at the peak."""
        if self._same is not None:
            return np.repeat(self._same, len(units), axis=0)
        units = units[:, self.groups]
        peak = (units @ self._alive[:, :-1].T + self._alive[:, -1]).max(1).astype(np.int64)
        return np.stack([self._macs(units), self._extra(units), self._params(units), peak], axis=1)


class CostModel:
    """Costs of any number of subnets at once, without a forward pass.

    - ``macs``: multiply-adds of convs, linears and products of activations; no bias.
    - ``flops``: what MMRazor prints: macs + conv bias adds + 2 per element of an affine norm (1 without affine)
      + 1 per element of ReLU, ReLU6 and their kin + pooling inputs.
    - ``params``: elements of all parameters.
    - ``memory``: bytes of the parameters + the largest sum of tensors alive during one image's forward pass (outputs
      live until their last reader; views and in-place results take nothing of their own; no workspace of a kernel).

    Args:
        space: The search space.
        table: The layers that are in every subnet, at the largest resolution.
        groups: Width groups that the sides in ``table`` speak of.
        cells: The parts of the network that depend on choices, with costs (..., 4) as :class:`PartCosts` gives them.
            A part takes and gives tensors of one shape, whatever is chosen, so what parts cost adds up, and the peak
            of the memory is the largest of theirs.
        in_cells: Whether ``cells`` hold the costs of ``table`` as well, as they must where its resolution is a choice.
    """

    def __init__(
        self,
        space: SearchSpace,
        table: LayerTable,
        groups: Sequence[WidthGroup] = (),
        cells: Sequence[Cell] = (),
        in_cells: bool = False,
    ) -> None:
        self.space, self.table = space, table
        self._unit = np.array([group.unit for group in groups], dtype=np.float64)
        names, self._choices = list(space), list(space.values())
        self._columns = np.array([names.index(group.name) for group in groups], dtype=np.int64)
        empty = LayerTable([], [], [], table.parameter_bytes, [])
        always = empty if in_cells else table
        self._always, self._rows = PartCosts(always, len(groups)), always.rows
        self.cells = CellTable(space, cells)

    def __call__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Costs of the subnets with candidate ``indices`` (S, D): arrays (S,) of int64 for each of RESOURCES."""
        indices = np.atleast_2d(np.asarray(indices))
        chunks = [indices[start : start + CHUNK] for start in range(0, max(len(indices), 1), CHUNK)]
        parts = [self._costs(self.space.numeric(chunk), chunk) for chunk in chunks]
        return {name: np.concatenate([part[name] for part in parts]) for name in RESOURCES}

    def _costs(self, values: np.ndarray, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Costs of subnets given by candidate values (S, D), and by indices for the parts that depend on choices."""
        total = self._always(np.asarray(values, np.float64)[:, self._columns] / self._unit)
        if len(self.cells):
            parts = self.cells(indices)  # (S, parts, 4)
            total[:, :3] += parts[:, :, :3].sum(1)
            total[:, 3] = np.maximum(total[:, 3], parts[:, :, 3].max(1))
        macs, extra, params, peak = total.T
        memory = params * self.table.parameter_bytes + peak
        return {"macs": macs, "flops": macs + extra, "params": params, "memory": memory}

    def of(self, subnet: Mapping[str, int | float | str]) -> dict[str, int]:
        """Costs of one subnet as plain integers. Choices that do not matter in it may be left out.

        Raises:
            UserError: A choice that matters is missing, or one is unknown or has a value that it cannot have.
        """
        indices, values = self._row(subnet)
        return {name: int(value[0]) for name, value in self._costs(values, indices).items()}

    def by_part(self, subnet: Mapping[str, int | float | str]) -> dict[str, int]:
        """Macs of each layer, and of each part that depends on a choice of blocks; they add up to the subnet's.

        Raises:
            UserError: As :meth:`of`.
        """
        indices, values = self._row(subnet)
        units = (values[0, self._columns] / self._unit).astype(np.int64)

        def width(side: Side) -> int:
            return side.constant + sum(count * int(units[index]) for index, count in side.counts.items())

        found: dict[str, int] = {}
        for row in self._rows:
            if row.macs:
                name = row.name.split("@")[0]
                amount = row.positions * row.kernel * width(row.inputs) * width(row.outputs)
                found[name] = found.get(name, 0) + amount
        for cell, costs in zip(self.cells.cells, self.cells(indices)[0], strict=True):
            found[cell.name] = found.get(cell.name, 0) + int(costs[0])
        return found

    def _row(self, subnet: Mapping[str, int | float | str]) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values (1, D) of a subnet, see :meth:`of`."""
        if not isinstance(subnet, Mapping):
            raise UserError(f"a subnet maps the names of choices to candidates, got {short(subnet)}")
        indices, values = np.zeros((1, len(self.space)), np.int64), np.zeros((1, len(self.space)))
        widths = dict(zip(self._columns.tolist(), self._unit.tolist(), strict=True))
        for column, choice in enumerate(self._choices):
            if choice.name not in subnet:
                continue
            value = subnet[choice.name]
            if column in widths:  # any width, also one that is no candidate
                unit, full = int(widths[column]), choice.candidates[-1]
                whole = isinstance(value, Integral) and not isinstance(value, bool)
                if not whole or not 0 < value <= full or value % unit:
                    steps = f" in steps of {unit}" if unit > 1 else ""
                    raise UserError(
                        f"choice '{choice.name}' cannot be {short(value)} (allowed: {unit} to {full}{steps})"
                    )
                values[0, column] = value
            else:
                indices[0, column] = choice.index(value)
        for choice, matters in zip(self._choices, self.space.active(indices)[0], strict=True):
            if matters and choice.name not in subnet:
                raise UserError(f"choice '{choice.name}' is missing (allowed: {choice.allowed})")
        if unknown := [name for name in subnet if name not in self.space]:
            raise UserError(f"unknown choice {short(unknown[0])}{nearest(unknown[0], self.space)}")
        return indices, values

    @cached_property
    def fingerprint(self) -> str:
        """Of the macs of what is chosen: tells networks apart that have one space, such as those of two widths."""
        chosen = [
            (cell.name, cell.values[..., 0].tolist())
            for cell in self.cells.cells
            if any(self.space[name].kind != "resolution" for name in cell.names)
        ]
        content = chosen or [self.max()["macs"], self.min()["macs"]]
        return "sha256:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def max(self) -> dict[str, int]:
        """The largest cost of any subnet, in each resource."""
        return {resource: self.extreme(resource, largest=True) for resource in RESOURCES}

    def min(self) -> dict[str, int]:
        """The smallest cost of any subnet, in each resource."""
        return {resource: self.extreme(resource, largest=False) for resource in RESOURCES}

    def extreme(self, resource: str, largest: bool) -> int:
        """The largest, or smallest, cost in one of RESOURCES that a subnet of the space can have."""
        return int(self(self.extreme_row(resource, largest)[None])[resource][0])

    def extreme_row(self, resource: str, largest: bool) -> np.ndarray:
        """The row (D,) of a subnet with that cost.

        Costs grow with every width, and parts add up, so each choice is settled on its own; of memory, which holds the
        peak of one block, it is at least one that no single choice improves.
        """
        sizes = [len(choice.candidates) for choice in self.space.values()]
        ends = np.array([size - 1 if largest else 0 for size in sizes], np.int64)
        free = set(self.cells.columns.tolist()) - self.cells.shared  # without the width of one operator
        options = [np.arange(size if column in free else 0) for column, size in enumerate(sizes)]
        row = settled(ends[None], options, lambda rows: self(rows)[resource], largest)
        return self.space.canonical(row[None])[0]


def _add_extra(extra: _Polynomial, row: LayerRow) -> None:
    if row.kind == "conv" and row.bias:
        extra.add(row.positions, row.outputs)
    elif row.kind == "norm":
        extra.add(row.positions * (2 if row.affine else 1), row.outputs)
    elif row.kind in ("activation", "pool"):
        extra.add(row.positions, row.outputs)


def _peak_candidates(alive: Iterable[list[tuple[int, Side]]], size: int) -> np.ndarray:
    """Bytes alive at each moment as rows (T, G + 1) of coefficients, constant last, without moments that never win."""
    rows = []
    for tensors in alive:
        row = np.zeros(size + 1)
        for per_channel, side in tensors:
            row[-1] += per_channel * side.constant
            for index, count in side.counts.items():
                row[index] += per_channel * count
        rows.append(row)
    moments = np.unique(np.array(rows or [np.zeros(size + 1)]), axis=0)
    kept, number = np.empty_like(moments), 0
    for row in moments[np.argsort(-moments.sum(1))]:
        if not (kept[:number] >= row).all(1).any():
            kept[number] = row
            number += 1
    return kept[:number]
