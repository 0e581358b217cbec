"""A latency table for a network, from a file of any kind that is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.note import note

from .latency_ofa import load, official_table, read_official
from .latency_table import NETWORK, LatencyTable
from .latency_tfnas import SUFFIXES, read_tfnas_table, tfnas_table


def read_table(path: str | os.PathLike, mutator: Any) -> LatencyTable:
    """Read a latency table of our format, or a published one, for the space of a prepared ``NasMutator``.

    Raises:
        UserError: It cannot be read or does not fit the space.
    """
    if Path(path).suffix in SUFFIXES:
        source = read_tfnas_table(path)
        note(source.facts())
        return tfnas_table(source, mutator)
    data = load(path)
    if isinstance(data, Mapping) and "format" in data:
        table = LatencyTable.read(path, mutator.search_space)
        network = mutator.cost_model.fingerprint
        if table.device.get(NETWORK, network) != network:
            raise UserError(
                f"{path}: the latency table is of a network of other widths or image sizes, with the same choices; "
                "measure it for this model"
            )
        return table
    return official_table(read_official([path]), mutator, str(path))
