"""The rows of a report: what stayed of every width group, and its share of the macs.

Letters: U units of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from mmrazor_lite.estimators import CostModel
from mmrazor_lite.estimators.analysis import Searchable
from mmrazor_lite.graph import Side

from .report import GroupRow


class Ranked(Protocol):
    """What a measure of importance found of a group."""

    @property
    def errors(self) -> np.ndarray: ...  # (U + 1,): what is lost where the best 0, 1, ... U units stay


def group_rows(
    mutator: Searchable,
    subnet: Mapping[str, int],
    rankings: Mapping[str, Ranked],
    curves: Mapping[str, Sequence[float]] | None = None,
) -> list[GroupRow]:
    """A row for every width group, in network order.

    Args:
        mutator: A width mutator that has prepared the network.
        subnet: Group -> channels that stay.
        rankings: Of the units of groups; a group that is not in it has no importance.
        curves: What the outputs lose where 0, 1, ... U units of a group stay.
    """
    groups = [mutable.group for mutable in mutator.mutables]
    full = np.array([group.units for group in groups], np.int64)
    kept = np.array([subnet[group.name] // group.unit for group in groups], np.int64)
    before, after = (_shares(mutator.cost_model, len(groups), units) for units in (full, kept))
    rows = []
    for index, group in enumerate(groups):
        errors = np.asarray(rankings[group.name].errors, float) if group.name in rankings else np.zeros(0)
        rows.append(
            GroupRow(
                name=group.name,
                producers=group.producers,
                full=group.full,
                kept=int(subnet[group.name]),
                unit=group.unit,
                importance=tuple((errors[:-1] - errors[1:]).tolist()),
                lost=min(max(float(errors[kept[index]] / errors[0]), 0.0), 1.0)
                if len(errors) and errors[0] > 0
                else 0.0,
                sensitivity=tuple(map(float, (curves or {}).get(group.name, ()))),
                share_before=float(before[index]),
                share_after=float(after[index]),
            )
        )
    return rows


def _shares(cost_model: CostModel, size: int, units: np.ndarray) -> np.ndarray:
    """Share of the macs (groups,) in layers that make a group's channels; where several do, by their channels."""
    found, total = np.zeros(size), 0.0
    for row in cost_model.table.rows:
        if not row.macs:
            continue
        inputs, outputs = _width(row.inputs, units), _width(row.outputs, units)
        amount = row.positions * row.kernel * inputs
        total += amount * outputs
        for index, count in row.outputs.counts.items():
            found[index] += amount * count * units[index]
    return found / total if total else found


def _width(side: Side, units: np.ndarray) -> int:
    return side.constant + sum(count * int(units[index]) for index, count in side.counts.items())
