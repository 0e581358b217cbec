"""The file of a latency table, JSON::

    {"format": "mmrazor_lite.latency/2", "space": "sha256:...", "device": {"device": "cpu", ...},
     "correction": {"offset": 0.1, "factor": 1.02, "applied": false},
     "base": {"choices": ["resolution"], "ms": [1.2, 1.6]},
     "cells": [{"name": "backbone.layers.1.0", "choices": ["resolution", "backbone.layers.1.0.kernel_size"],
                "ms": [[0.21, 0.25], [0.34, 0.41]]}, ...]}

A network of traced widths has curves, what an op takes at some numbers of channels, and calls, which
curve an op follows and what its channels count: a constant, and of groups the channels per unit, and a unit's width::

    {..., "curves": [{"what": "conv2d ...", "widths": [[1, 32, 64], [1, 64, 128]], "ms": [[0.01, 0.2, 0.4], ...]},
                     {"what": "conv2d ...", "widths": [[1, 64, 128]], "ms": [0.01, 0.1, 0.2], "lanes": [16, 1.5]}, ...],
     "calls": [{"name": "layer1.0.conv1", "curve": 0, "channels": [[0, {"conv1": [1, 1]}], [0, {...}]]}, ...],
     "steps": {"conv1": 16, ...}}

``lanes`` says of which multiples the times of a curve are, and how many times longer other numbers of channels take.
``steps`` says of which multiples alone a width pays.

``ms`` nests one list per choice, in the order of its candidates; ``base`` may be one number; ``device``,
``correction``, ``curves``, ``calls`` and ``steps`` may be absent; what is written here ends with a checksum, ``"crc"``,
to be taken out of what is edited. A list of names among ``choices`` stands for choices of which one matters, such as a
width for each operator; innermost lists may then differ in length. The older form gives a time to each candidate of
each choice::

    {"format": "mmrazor_lite.latency/1", "space": "sha256:...",
     "base": 1.25, "choices": {"backbone.layers.0.0": {"shuffle_3x3": 0.31, ...}, ...}}
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.subnet import SearchSpace

from . import curves_file
from .cells import Cell
from .width_curves import WidthCurves

FORMAT = "mmrazor_lite.latency/2"
OLDER = "mmrazor_lite.latency/1"


def load(path: str | os.PathLike) -> Any:
    """The JSON of a file.

    Raises:
        UserError: It cannot be read, or is no JSON.
    """
    try:
        return jsonio.unsealed(jsonio.read_bytes(path, what="the latency table"), needed=False, numbers=False)
    except jsonio.BadJSON as error:
        raise UserError(f"{path}: {_no_table()} ({error})") from None


def parse(data: Any, space: SearchSpace, where: str) -> dict[str, Any]:
    """What a file says, as the arguments of a ``LatencyTable``; of the correction, a mapping.

    Raises:
        UserError: No table, of another space, or an entry that is no number.
    """
    form = data.get("format") if isinstance(data, dict) else None
    if form not in (FORMAT, OLDER):
        official = isinstance(data, dict) and ("tables" in data or "table" in data)
        fix = (
            "; tools/latency/build_table.py CONFIG --official FILE turns an official table into one" if official else ""
        )
        raise UserError(f"{where}: {_no_table()}{fix}")
    if data.get("space") != space.fingerprint:
        raise UserError(
            f"{where}: the latency table is of the search space {short(data.get('space'))}, the model's is "
            f"'{space.fingerprint}'; measure it for this model"
        )
    if form == OLDER:
        return _older(data, space, where)
    base, cells, device = data.get("base"), data.get("cells"), data.get("device", {})
    if not isinstance(base, Mapping):
        base = {"choices": [], "ms": base}
    if not isinstance(cells, list):
        raise UserError(f"{where}: cells must be a list, got {short(cells)}")
    if not isinstance(device, Mapping):
        raise UserError(f"{where}: device must be a mapping, got {short(device)}")
    base = _cell({**base, "name": ""}, f"{where}: base", lowest=-math.inf)
    cells = [_cell(cell, f"{where}: cells[{index}]") for index, cell in enumerate(cells)]
    # A measured base is a difference and may be below 0, but not by more than all parts can add up to.
    widths = curves_file.parse(data, space, where)
    most = base.values.max() + sum(np.nanmax(cell.values, initial=0.0) for cell in cells)
    most += 0.0 if widths is None else sum(widths.curves[call.curve].ms.max() for call in widths.calls)
    if most < 0:
        raise UserError(f"{where}: base is so far below 0 that the slowest network takes {most:g} ms; measure it again")
    return {
        "base": base,
        "cells": cells,
        "device": device,
        "correction": _correction(data.get("correction"), where),
        "widths": widths,
        "steps": curves_file.steps(data, space, where),
    }


def text(
    fingerprint: str,
    base: Cell,
    cells: Sequence[Cell],
    device: Mapping,
    correction: Mapping | None,
    widths: WidthCurves | None = None,
    steps: Mapping[str, int] | None = None,
) -> str:
    """The file of a table, one line per part, with a checksum; one that is edited by hand is read without it."""
    lines = [
        f'"format": {json.dumps(FORMAT)}',
        f'"space": {json.dumps(fingerprint)}',
        f'"device": {json.dumps(dict(device))}',
        f'"correction": {json.dumps(correction)}',
        f'"base": {_written(base)}',
    ]
    lines += [] if widths is None else curves_file.written(widths)
    lines += [f'"steps": {json.dumps(dict(steps))}'] if steps else []
    parts = ",\n".join(f"  {_written(cell)}" for cell in cells)
    return jsonio.seal("{" + ",\n ".join(lines) + ',\n "cells": [\n' + parts + "]}") + "\n"


def _written(cell: Cell) -> str:
    name = {"name": cell.name} if cell.name else {}
    choices = [axis if isinstance(axis, str) else list(axis) for axis in cell.choices]
    return json.dumps({**name, "choices": choices, "ms": _without_nan(cell.values[..., 0].tolist())})


def _without_nan(values: Any) -> Any:
    """Nested lists without what stands at the end of the innermost ones only to make them equally long."""
    if not isinstance(values, list):
        return values
    if values and isinstance(values[0], list):
        return [_without_nan(value) for value in values]
    while values and math.isnan(values[-1]):
        values = values[:-1]
    return values


def _older(data: Mapping, space: SearchSpace, where: str) -> dict[str, Any]:
    """A table of format 1: each choice is a part of its own."""
    base, choices = _time(data.get("base"), f"{where}: base"), data.get("choices")
    _same_keys(choices, space, f"{where}: choices")
    cells = []
    for name, choice in space.items():
        candidates = [str(candidate) for candidate in choice.candidates]
        _same_keys(choices[name], candidates, f"{where}: choice '{name}'")
        times = [_time(choices[name][candidate], f"{where}: '{name}' {candidate}") for candidate in candidates]
        cells.append(Cell(name, (name,), np.array(times)[:, None]))
    return {"base": Cell("", (), np.array([base])), "cells": cells, "device": {}, "correction": None}


def _cell(data: Any, where: str, lowest: float = 0.0) -> Cell:
    if not isinstance(data, Mapping) or not {"name", "choices", "ms"} <= set(data):
        raise UserError(f"{where} must be a mapping with name, choices and ms, got {short(data)}")
    name, choices = data["name"], data["choices"]
    if not isinstance(name, str) or not isinstance(choices, list) or not all(_is_axis(choice) for choice in choices):
        raise UserError(f"{where}: name must be text and choices a list of names, got {short([name, choices])}")
    place = f"{where} '{name}'" if name else where
    axes = tuple(choice if isinstance(choice, str) else tuple(choice) for choice in choices)
    ragged = bool(axes) and not isinstance(axes[-1], str)
    return Cell(name, axes, _array(data["ms"], len(choices), place, lowest, ragged)[..., None])


def _is_axis(value: Any) -> bool:
    names = value if isinstance(value, list) and value else [value]
    return all(isinstance(name, str) for name in names)


def _array(value: Any, depth: int, where: str, lowest: float, ragged: bool = False) -> np.ndarray:
    """Nested lists as an array of ``depth`` axes; null, which marks a missing entry, as NaN.

    With ``ragged``, shorter innermost lists are filled up with NaN.
    """
    if depth == 0:
        return np.array(math.nan if value is None else _time(value, where, lowest))
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: ms must nest one list per choice, got {short(value)}")
    rows = [_array(entry, depth - 1, where, lowest, ragged) for entry in value]
    if ragged and depth > 1:
        longest = max(row.shape[-1] for row in rows)
        fill = [(0, 0)] * (depth - 2)
        rows = [np.pad(row, [*fill, (0, longest - row.shape[-1])], constant_values=math.nan) for row in rows]
    if any(row.shape != rows[0].shape for row in rows):
        raise UserError(f"{where}: ms has lists of different lengths side by side")
    return np.stack(rows)


def _correction(data: Any, where: str) -> dict[str, Any] | None:
    if data is None:
        return None
    keys = ("offset", "factor", "applied")
    _same_keys(data, keys, f"{where}: correction")
    offset = _time(data["offset"], f"{where}: correction offset", lowest=-math.inf)
    factor, applied = data["factor"], data["applied"]
    if not jsonio.is_number(factor) or factor <= 0 or not isinstance(applied, bool):
        raise UserError(f"{where}: correction: factor must be above 0 and applied true or false, got {short(data)}")
    return {"offset": offset, "factor": float(factor), "applied": applied}


def _same_keys(found: Any, wanted: Any, where: str) -> None:
    if not isinstance(found, Mapping):
        raise UserError(f"{where} must be a mapping, got {short(found)}")
    wanted = list(wanted)
    for key in found:
        if key not in wanted:
            raise UserError(f"{where}: unknown {short(key)}{nearest(key[:200], wanted)}")
    missing = next((key for key in wanted if key not in found), None)
    if missing is not None:
        raise UserError(f"{where}: '{missing}' is missing; every one of {short(wanted)} needs a value")


def _time(value: Any, where: str, lowest: float = 0.0) -> float:
    if not jsonio.is_number(value) or value < lowest:
        allowed = "milliseconds, 0 or more" if lowest == 0 else "milliseconds, a finite number"
        raise UserError(f"{where} must be {allowed}, got {short(value)}")
    return float(value)


def _no_table() -> str:
    return f"not a latency table; it must be JSON with 'format': '{FORMAT}' or '{OLDER}'"
