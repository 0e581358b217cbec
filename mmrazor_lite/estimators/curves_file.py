"""The curves of a latency table in its file, see :mod:`.latency_file`; read within limits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError, nearest, short
from mmrazor_lite.graph import ChannelSum
from mmrazor_lite.subnet import SearchSpace

from .width_curves import Curve, Priced, WidthCurves

MOST_CHANNELS = 2**22
MOST_LANES, MOST_BESIDE = 1024, 1000.0  # of a curve: channels that are fast together, and how much slower others are
MOST_WIDTHS = 512  # that one axis of a curve was measured at


def parse(data: Mapping[str, Any], space: SearchSpace, where: str) -> WidthCurves | None:
    """The curves and calls of a file; None where it has none.

    Raises:
        UserError: An entry that is none, or that does not fit the space.
    """
    if "curves" not in data and "calls" not in data:
        return None
    for key in ("curves", "calls"):
        if not isinstance(data.get(key), list):
            raise UserError(f"{where}: {key} must be a list, got {short(data.get(key))}")
    curves = [_curve(entry, f"{where}: curves[{index}]") for index, entry in enumerate(data["curves"])]
    calls = [_call(entry, f"{where}: calls[{index}]") for index, entry in enumerate(data["calls"])]
    return WidthCurves(space, curves, calls, where)


def steps(data: Mapping[str, Any], space: SearchSpace, where: str) -> dict[str, int]:
    """The steps of a file; none where it says none.

    Raises:
        UserError: They are none, or of an unknown width.
    """
    found = data.get("steps", {})
    if not isinstance(found, Mapping):
        raise UserError(f"{where}: steps must be a mapping of widths to numbers of channels, got {short(found)}")
    for name, step in found.items():
        if name not in space or space[name].kind != "width":
            raise UserError(f"{where}: steps: unknown width {short(name)}{nearest(name[:200], space)}")
        if type(step) is not int or not 0 < step <= space[name].candidates[-1]:
            raise UserError(f"{where}: steps: '{name}' must have a step of 1 to its channels, got {short(step)}")
    return dict(found)


def written(widths: WidthCurves) -> list[str]:
    """Both as entries of a JSON mapping, one line per curve and call."""
    curves = [
        {
            "what": curve.what,
            "widths": [grid.tolist() for grid in curve.widths],
            "ms": curve.ms.tolist(),
            **({} if curve.lanes == 1 else {"lanes": [curve.lanes, curve.beside]}),
        }
        for curve in widths.curves
    ]
    calls = [
        {"name": call.name, "curve": call.curve, "channels": [_sum_written(axis) for axis in call.axes]}
        for call in widths.calls
    ]
    lists = {"curves": curves, "calls": calls}
    return [f'"{key}": [\n' + ",\n".join(f"  {json.dumps(entry)}" for entry in lists[key]) + "]" for key in lists]


def _sum_written(axis: ChannelSum) -> list:
    return [axis.constant, {name: [per, unit] for name, per, unit in axis.terms}]


def _curve(data: Any, where: str) -> Curve:
    if not isinstance(data, Mapping) or not {"what", "widths", "ms"} <= set(data) or not isinstance(data["what"], str):
        raise UserError(f"{where} must be a mapping with what, widths and ms, got {short(data)}")
    grids, ms = data["widths"], data["ms"]
    if not isinstance(grids, list) or len(grids) not in (1, 2) or not all(_is_grid(grid) for grid in grids):
        raise UserError(f"{where}: widths must be one or two lists of rising numbers of channels, got {short(grids)}")
    rows = [ms] if len(grids) == 1 else ms
    fits = isinstance(rows, list) and len(rows) == (1 if len(grids) == 1 else len(grids[0]))
    if not fits or not all(isinstance(row, list) and len(row) == len(grids[-1]) for row in rows):
        raise UserError(f"{where}: ms must have an entry for each of its widths, got {short(ms)}")
    wrong = next((value for row in rows for value in row if not jsonio.is_number(value) or value < 0), None)
    if wrong is not None:
        raise UserError(f"{where}: ms must be milliseconds, 0 or more, got {short(wrong)}")
    values = np.array(ms, np.float64)
    if any((np.diff(values, axis=axis) < 0).any() for axis in range(values.ndim)):
        raise UserError(f"{where}: ms must not fall as a width grows, got {short(ms)}")
    lanes = data.get("lanes", [1, 1.0])
    good = isinstance(lanes, list) and len(lanes) == 2 and type(lanes[0]) is int and jsonio.is_number(lanes[1])
    good = good and 0 < lanes[0] <= MOST_LANES and 1 <= lanes[1] <= MOST_BESIDE
    if not good:
        raise UserError(f"{where}: lanes must be [channels, how many times longer others take], got {short(lanes)}")
    return Curve(data["what"], tuple(np.array(grid, np.int64) for grid in grids), values, lanes[0], float(lanes[1]))


def _is_grid(value: Any) -> bool:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_WIDTHS or not all(type(n) is int for n in value):
        return False
    return value[0] > 0 and value[-1] <= MOST_CHANNELS and all(a < b for a, b in itertools.pairwise(value))


def _call(data: Any, where: str) -> Priced:
    if not isinstance(data, Mapping) or not {"name", "curve", "channels"} <= set(data):
        raise UserError(f"{where} must be a mapping with name, curve and channels, got {short(data)}")
    name, curve, axes = data["name"], data["curve"], data["channels"]
    if not isinstance(name, str) or type(curve) is not int or not isinstance(axes, list):
        raise UserError(f"{where}: name must be text, curve a number and channels a list, got {short(data)}")
    return Priced(name, curve, tuple(_sum(axis, f"{where} '{name[:200]}'") for axis in axes))


def _sum(data: Any, where: str) -> ChannelSum:
    constant, terms = data if isinstance(data, list) and len(data) == 2 else (None, None)
    if type(constant) is not int or not 0 <= constant <= MOST_CHANNELS or not isinstance(terms, Mapping) or not terms:
        raise UserError(
            f"{where}: channels must be [constant, {{group: [per unit, width of a unit]}}], got {short(data)}"
        )
    for name, pair in terms.items():
        good = isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)
        if not good or not all(0 < n <= MOST_CHANNELS for n in pair):
            raise UserError(
                f"{where}: '{name[:200]}' must have [channels per unit, width of a unit], got {short(pair)}"
            )
    return ChannelSum(constant, tuple((name, *pair) for name, pair in terms.items()))
