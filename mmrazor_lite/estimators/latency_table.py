"""Latency of subnets from a table of what each candidate takes.

The file is JSON::

    {"format": "mmrazor_lite.latency/1", "space": "sha256:...",
     "base": 1.25, "choices": {"backbone.layers.0.0": {"shuffle_3x3": 0.31, ...}, ...}}

Times are in milliseconds; ``base`` is what every subnet takes, and the times of the chosen candidates are added to it.
Shapes: S subnets, D choices.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.subnet import Choice, SearchSpace
from mmrazor_lite.subnet.choice import short

FORMAT = "mmrazor_lite.latency/1"


class LatencyTable:
    """Milliseconds of each candidate of each choice; those of a subnet are added up.

    Args:
        space: The search space.
        base: Milliseconds of what is in every subnet.
        choices: Choice -> candidate (as text) -> milliseconds; all of both.
        where: The beginning of errors, such as the file's name.

    Raises:
        UserError: A choice or candidate is missing or unknown, or a time is no number of 0 or more.
    """

    def __init__(
        self, space: SearchSpace, base: float, choices: Mapping[str, Mapping[str, float]], where: str = "latency table"
    ) -> None:
        self.space, self.base = space, _time(base, f"{where}: base")
        _same_keys(choices, space, f"{where}: choices")
        self._times = np.zeros((len(space), max(len(choice.candidates) for choice in space.values())))
        for line, (name, choice) in zip(self._times, space.items(), strict=True):
            times = choices[name]
            names = [str(candidate) for candidate in choice.candidates]
            _same_keys(times, names, f"{where}: choice '{name}'")
            line[: len(names)] = [_time(times[candidate], f"{where}: '{name}' {candidate}") for candidate in names]
        self.digest = hashlib.sha256(self._times.tobytes() + np.float64(self.base).tobytes()).hexdigest()[:16]

    @classmethod
    def read(cls, path: str | os.PathLike, space: SearchSpace) -> LatencyTable:
        """Read a file.

        Raises:
            UserError: It is missing, no table, of another search space, or does not fit it; names the file.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot read the latency table ({error.strerror})") from None
        except ValueError:
            data = None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UserError(f"{path}: not a latency table; it must be JSON with 'format': '{FORMAT}'")
        if data.get("space") != space.fingerprint:
            raise UserError(
                f"{path}: the latency table is of the search space {short(data.get('space'))}, the model's is "
                f"'{space.fingerprint}'; measure it for this model"
            )
        return cls(space, data.get("base"), data.get("choices"), where=str(path))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Milliseconds of (S, D) rows: (S,) float64. Choices that do not matter take nothing."""
        times = self._times[np.arange(len(self.space)), rows]
        return self.base + np.where(self.space.active(rows), times, 0.0).sum(1)

    def extreme(self, largest: bool) -> float:
        """The most, or least, milliseconds that a subnet of the space takes."""
        pick: Callable = max if largest else min
        children: dict[str | None, list[str]] = {}
        for name, choice in self.space.items():
            children.setdefault(choice.active_if and choice.active_if[0], []).append(name)

        def best(name: str) -> float:  # the conditions are a forest
            times = self._times[list(self.space).index(name)]
            return pick(
                time + sum(best(child) for child in children.get(name, []) if value in _values(self.space[child]))
                for time, value in zip(times.tolist(), self.space[name].candidates, strict=False)
            )

        return self.base + sum(best(name) for name in children.get(None, []))


class CostWithLatency:
    """A cost model that also knows ``latency``, in milliseconds.

    Args:
        cost: The cost model of the other resources.
        table: The latencies.
    """

    def __init__(self, cost: Any, table: LatencyTable) -> None:
        self.cost, self.table = cost, table

    def __call__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """As the cost model: (S, D) rows to arrays (S,) by resource."""
        return {**self.cost(rows), "latency": self.table(rows)}

    def of(self, subnet: Mapping[str, Any]) -> dict[str, int | float]:
        """Costs of one subnet as plain numbers."""
        row = self.table.space.index(subnet)
        return {**self.cost.of(subnet), "latency": float(self.table(row[None])[0])}

    def extreme(self, resource: str, largest: bool) -> float:
        """The largest, or smallest, cost of any subnet in one resource."""
        return self.table.extreme(largest) if resource == "latency" else self.cost.extreme(resource, largest)

    def max(self) -> dict[str, int | float]:
        """The largest cost of any subnet, in each resource."""
        return {**self.cost.max(), "latency": self.table.extreme(True)}

    def min(self) -> dict[str, int | float]:
        """The smallest cost of any subnet, in each resource."""
        return {**self.cost.min(), "latency": self.table.extreme(False)}


def _values(choice: Choice) -> tuple:
    return choice.active_if[1]


def _same_keys(found: Any, wanted: Any, where: str) -> None:
    if not isinstance(found, Mapping):
        raise UserError(f"{where} must be a mapping, got {short(found)}")
    wanted = list(wanted)
    for key in found:
        if key not in wanted:
            raise UserError(f"{where}: unknown '{key}'{nearest(key, wanted)}")
    missing = next((key for key in wanted if key not in found), None)
    if missing is not None:
        raise UserError(f"{where}: '{missing}' is missing; every candidate needs its milliseconds")


def _time(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UserError(f"{where} must be milliseconds, 0 or more, got {short(value)}")
    return float(value)
