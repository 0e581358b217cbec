"""A latency table for a network, from a file of any kind that is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.note import note

from .latency_ofa import load, official_table, read_official
from .latency_parts import HasParts
from .latency_table import NETWORK, LatencyTable
from .latency_tfnas import SUFFIXES, read_tfnas_table, tfnas_table

_NOT_OF_WIDTHS = "a published table is of operators, this network has widths; measure one (mmrazor-lite latency)"


def read_table(path: str | os.PathLike, mutator: Any) -> LatencyTable:
    """Read a latency table of our format, or a published one, for the space of a prepared mutator.

    Raises:
        UserError: It cannot be read or does not fit the space; or it is a published one, the space of widths.
    """
    traced = not isinstance(mutator, HasParts)
    if traced and Path(path).suffix in SUFFIXES:
        raise UserError(f"{path}: {_NOT_OF_WIDTHS}")
    if Path(path).suffix in SUFFIXES:
        source = read_tfnas_table(path)
        note(source.facts())
        return tfnas_table(source, mutator)
    data = load(path)
    if isinstance(data, Mapping) and "format" in data:
        table = LatencyTable.read(path, mutator.search_space)
        network, images = mutator.cost_model.fingerprint, list(mutator.input_shape)
        if traced and table.device.get("input_shape", images) != images:
            raise UserError(
                f"{path}: the latency table is of images {short(table.device['input_shape'])}, the network's are "
                f"{images}; measure it for this size"
            )
        if table.device.get(NETWORK, network) != network:
            raise UserError(
                f"{path}: the latency table is of a network of other widths or image sizes, with the same choices; "
                "measure it for this model"
            )
        return table
    if traced:
        raise UserError(f"{path}: {_NOT_OF_WIDTHS}")
    return official_table(read_official([path]), mutator, str(path))
