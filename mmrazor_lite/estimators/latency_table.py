"""Latency of subnets from a table of what each part of the network takes; its file is that of ``latency_file``.

Shapes: S subnets, D choices.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.fileio import write_text_atomic
from mmrazor_lite.subnet import SearchSpace
from mmrazor_lite.subnet.space import listed

from . import curves_file, latency_file
from .cell_ends import extreme_row, reachable
from .cells import Axis, Cell, CellTable, axis_size, names_of
from .width_curves import WidthCurves

NETWORK = "network"  # key of a table's facts: the fingerprint of the cost model that it was made for


@dataclass(frozen=True)
class Correction:
    """What turns a sum of parts into what whole networks took: ``offset + factor * sum``, in milliseconds.

    Attributes:
        applied: Whether the table applies it, or only states it.
    """

    offset: float
    factor: float
    applied: bool = False


class LatencyTable:
    """Milliseconds of a subnet: what is always there, each part as it is chosen, and ops by their widths, added up.

    Args:
        space: The search space.
        base: What is in every subnet, with values (candidates of its choices..., 1) in milliseconds.
        cells: The parts, with such values; a part that does not run, as its choices do not matter, takes nothing.
            NaN marks a missing entry.
        device: Facts about the measurement, kept in the file.
        correction: From measurements of whole networks.
        where: The beginning of errors, such as the file's name.
        widths: Of a network whose widths were found by tracing: what its ops take. They depend on no choice of a part.
        steps: Width -> multiples of this alone pay, see :mod:`.width_steps`; of others any width does.

    Raises:
        UserError: A part or a choice twice, an unknown choice, values that are missing or do not fit the choices.
    """

    def __init__(
        self,
        space: SearchSpace,
        base: Cell,
        cells: Sequence[Cell],
        device: Mapping[str, Any] | None = None,
        correction: Correction | None = None,
        where: str = "latency table",
        widths: WidthCurves | None = None,
        steps: Mapping[str, int] | None = None,
    ) -> None:
        self.steps = dict(steps or {})
        self.space, self.base, self.cells, self.widths = space, base, tuple(cells), widths
        self.device, self.correction = dict(device or {}), correction
        _check(space, (base, *self.cells), where)
        parts = [_where_it_runs(space, cell) for cell in (base, *self.cells)]
        covered = {name for part in parts for name in part.names}
        by_width = frozenset() if widths is None else widths.names
        if covered & by_width:
            raise UserError(f"{where}: {listed(sorted(covered & by_width))} in both a part and an op; give it in one")
        covered |= by_width
        missing = [name for name in space if name not in covered]
        if missing:
            raise UserError(f"{where}: no entry depends on {listed(missing)}; every choice of the space needs entries")
        self._parts = CellTable(space, parts)
        applied = (correction.offset, correction.factor) if correction and correction.applied else (0.0, 1.0)
        self._offset, self._factor = applied
        content = [[part.name, part.choices, part.values.tolist()] for part in parts]
        content += [] if widths is None else [curves_file.written(widths)]
        content += [self.steps] if self.steps else []
        self.digest = hashlib.sha256(json.dumps([content, applied]).encode()).hexdigest()[:16]

    @classmethod
    def read(cls, path: str | os.PathLike, space: SearchSpace) -> LatencyTable:
        """Read a file.

        Raises:
            UserError: It is missing, no table, of another search space, or does not fit it; names the file.
        """
        data = latency_file.load(path)
        content = latency_file.parse(data, space, str(path))
        if content["correction"] is not None:
            content["correction"] = Correction(**content["correction"])
        return cls(space, **content, where=str(path))

    def write(self, path: str | os.PathLike) -> None:
        """Write a file that :meth:`read` reads; it appears whole or not at all."""
        correction = None if self.correction is None else dataclasses.asdict(self.correction)
        held = (self.base, self.cells, self.device, correction, self.widths, self.steps)
        text = latency_file.text(self.space.fingerprint, *held)
        write_text_atomic(Path(path), text)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Milliseconds of (S, D) rows: (S,) float64."""
        # One after the other, as the tables' own tools add them up: numpy's sum rounds otherwise.
        rows = np.asarray(rows)
        parts = self._parts(rows)[:, :, 0].cumsum(1)[:, -1]
        return self._offset + self._factor * (parts if self.widths is None else parts + self.widths(rows))

    def of(self, subnet: Mapping[str, Any]) -> float:
        """Milliseconds of one subnet; where no part depends on a choice, its widths need not be candidates."""
        if self.widths is not None and not self._parts.columns.size:
            always = self._parts(np.zeros((1, len(self.space)), np.int64)).sum()
            return float(self._offset + self._factor * (always + self.widths.of(subnet)))
        return float(self(self.space.index(subnet)[None])[0])

    def by_part(self, subnet: Mapping[str, Any]) -> dict[str, float]:
        """Milliseconds of what is always there, ``base``, and of each part, before any correction."""
        times = self._parts(self.space.index(subnet)[None])[0, :, 0].tolist()
        return dict(zip(("base", *(cell.name for cell in self.cells)), times, strict=True))

    def extreme(self, largest: bool) -> float:
        """The most, or least, milliseconds that a subnet of the space takes.

        It is what :meth:`extreme_row` takes.
        """
        return float(self(self.extreme_row(largest)[None])[0])

    def extreme_row(self, largest: bool) -> np.ndarray:
        """The canonical row (D,) of a subnet that takes the most, or the least, milliseconds.

        Exact for the parts; for ops by their widths see :meth:`WidthCurves.extreme_row`.
        """
        row = extreme_row(self.space, self._parts.cells, largest)  # a correction's factor is above 0
        return row if self.widths is None else self.widths.extreme_row(row, largest)

    def of_largest(self) -> float:
        """Milliseconds of the largest subnet, which shares of a budget are of.

        It has all widths in full, and of other choices what takes most. Narrower ones may take longer.
        """
        row = extreme_row(self.space, self._parts.cells, True)
        for column, (name, choice) in enumerate(self.space.items()):
            if self.widths is not None and name in self.widths.names:
                row[column] = len(choice.candidates) - 1
        return float(self(row[None])[0])


class CostWithLatency:
    """A cost model that also knows ``latency``, in milliseconds.

    Args:
        cost: The cost model of the other resources.
        table: The latencies.

    Raises:
        UserError: A subnet takes no time, or less: the table was measured beside other work.
    """

    def __init__(self, cost: Any, table: LatencyTable) -> None:
        least = table.extreme(False)
        if not least > 0:
            raise UserError(
                f"latency_table: its fastest subnet takes {least:.3g} ms, which none does: measure the table again on "
                "an idle machine, with more --repeats"
            )
        self.cost, self.table = cost, table

    def __call__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """As the cost model: (S, D) rows to arrays (S,) by resource."""
        return {**self.cost(rows), "latency": self.table(rows)}

    def of(self, subnet: Mapping[str, Any]) -> dict[str, int | float]:
        """Costs of one subnet as plain numbers."""
        return {**self.cost.of(subnet), "latency": self.table.of(subnet)}

    def extreme(self, resource: str, largest: bool) -> int | float:
        """The largest, or smallest, cost of any subnet in one resource."""
        return self.table.extreme(largest) if resource == "latency" else self.cost.extreme(resource, largest)

    def extreme_row(self, resource: str, largest: bool) -> np.ndarray:
        """The row (D,) of a subnet with that cost."""
        return self.table.extreme_row(largest) if resource == "latency" else self.cost.extreme_row(resource, largest)

    @property
    def fingerprint(self) -> str:
        """Of the network, see the cost model's."""
        return self.cost.fingerprint

    def max(self) -> dict[str, int | float]:
        """What the largest subnet costs, in each resource."""
        return {**self.cost.max(), "latency": self.table.of_largest()}

    def min(self) -> dict[str, int | float]:
        """The smallest cost of any subnet, in each resource."""
        return {**self.cost.min(), "latency": self.table.extreme(False)}


def _check(space: SearchSpace, cells: Sequence[Cell], where: str) -> None:
    """Check that each part fits its choices and that nothing is missing."""
    missing, seen, axes = [], set(), {}
    for cell in cells:
        place = f"{where}: '{cell.name or 'base'}'"
        if cell.name in seen:
            raise UserError(f"{place} is given twice")
        seen.add(cell.name)
        for choice in cell.names:
            if choice not in space:
                raise UserError(f"{place} depends on the unknown choice '{choice}'{nearest(choice, space)}")
        if len(set(cell.names)) != len(cell.names):
            raise UserError(f"{place} names a choice twice")
        sizes = tuple(axis_size(space, axis) for axis in cell.choices)
        if cell.values.shape != (*sizes, 1):
            raise UserError(
                f"{place} has milliseconds of shape {cell.values.shape[:-1]}, its choices have {sizes} candidates"
            )
        _check_shared(space, cell, place)
        for axis in cell.choices:
            for name in names_of(axis):
                if axes.setdefault(name, axis) != axis:
                    raise UserError(
                        f"{place}: '{name}' shares a list here and not so in another part; let it share "
                        "the same one in all, in the same order"
                    )
        unknown = np.isnan(cell.values[..., 0]) & reachable(space, cell)
        missing += [_entry(space, cell, index) for index in np.argwhere(unknown).tolist()]
    if missing:
        raise UserError(f"{where}: {len(missing)} entries are missing: {listed(missing)}; measure the table for them")


def _check_shared(space: SearchSpace, cell: Cell, place: str) -> None:
    """Check that choices share an axis only where one operator choice of the part says which of them matters."""
    for axis in cell.choices:
        if isinstance(axis, str):
            continue
        rules = [space[name].active_if or ("", ()) for name in axis]
        parents, values = {parent for parent, _ in rules}, [value for _, allowed in rules for value in allowed]
        if len(parents) != 1 or parents.pop() not in cell.choices or len(set(values)) != len(values):
            raise UserError(
                f"{place}: {listed(list(axis))} share a list, but do not depend on different candidates of one choice "
                "of the part"
            )


def _entry(space: SearchSpace, cell: Cell, index: Sequence[int]) -> str:
    """One entry in words: the part, and what of its choices is chosen."""
    at = dict(zip(cell.choices, index, strict=True))
    chosen = []
    for axis, i in at.items():
        names = [axis] if isinstance(axis, str) else [name for name in axis if _matters(space, name, at)]
        chosen += [
            f"{name.removeprefix(cell.name).lstrip('.') or 'candidate'}={space[name].candidates[i]}" for name in names
        ]
    return " ".join([cell.name or "base", *chosen])


def _matters(space: SearchSpace, name: str, at: Mapping[Axis, int]) -> bool:
    parent, allowed = space[name].active_if
    return space[parent].candidates[at[parent]] in allowed


def _where_it_runs(space: SearchSpace, cell: Cell) -> Cell:
    """The same part, which also depends on whatever makes its choices matter, and takes nothing where they do not."""
    choices, values = list(cell.choices), cell.values
    if any(not isinstance(axis, str) for axis in choices):
        values = np.where(reachable(space, cell)[..., None], values, 0.0)
    for name in choices:  # grows meanwhile: a condition may have one of its own
        if not isinstance(name, str) or space[name].active_if is None:
            continue  # the operator choice beside it says which choice of a shared axis matters
        parent, allowed = space[name].active_if
        candidates = space[parent].candidates
        if parent not in choices:
            choices.append(parent)
            values = np.repeat(values[..., None, :], len(candidates), axis=-2)
        runs = np.array([value in allowed for value in candidates])
        values = values * runs.reshape([len(runs) if other == parent else 1 for other in choices] + [1])
    return Cell(cell.name, tuple(choices), values)
