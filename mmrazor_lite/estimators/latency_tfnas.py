"""The latency tables published with TF-NAS, as tables of a search space of ours.

A table maps ``MBInvertedResBlock_SIZE_IN_SE_OUT_kK_sS_ACT`` (size of the map and channels that come in, channels inside
the squeeze-and-excitation or 0, channels that go out, kernel, stride, activation) to milliseconds by inner channels;
``base`` is what is always there. The authors' files are pickles; ``.npz`` files hold an array for each key, whose entry
i is of i + 1 inner channels.

Source: TF-NAS, arXiv:2008.05314, section 4.1; ``latency_pkl`` of its authors.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.subnet.space import listed

from .cells import Cell
from .latency_parts import sizes_of
from .latency_table import LatencyTable

BASE = "base"
MOST_CHANNELS = 100_000  # of a block; more is a damaged file
MOST_ENTRIES = 100_000
SUFFIXES = (".pkl", ".pickle", ".npz")
_ACTIVATIONS = {"ReLU": "relu", "ReLU6": "relu6", "SiLU": "swish", "Swish": "swish", "HSwish": "h-swish"}


@runtime_checkable
class Block(Protocol):
    """What a key says of an operator."""

    in_channels: int
    out_channels: int
    se_channels: int
    kernel_size: int
    stride: int
    act: str


@dataclass(frozen=True)
class TFNASTable:
    """A published table.

    Attributes:
        base: Milliseconds of what is always there.
        entries: Key -> milliseconds (most inner channels,), NaN where a width is missing.
        path: The file.
    """

    base: float
    entries: Mapping[str, np.ndarray]
    path: str

    def negative(self) -> dict[str, int]:
        """The keys with entries below 0, and the largest number of inner channels of each at which it is so."""
        below = {key: np.flatnonzero(values < 0) for key, values in self.entries.items()}
        return {key: int(found[-1]) + 1 for key, found in below.items() if len(found)}

    def facts(self) -> str:
        """What a reader should know, in a line: how many entries, and which of them no network can have."""
        count = sum(int(np.sum(~np.isnan(values))) for values in self.entries.values())
        below = self.negative()
        if not below:
            return f"{self.path}: base {self.base:.4f} ms, {len(self.entries)} operators, {count:,} entries"
        number = sum(int((values < 0).sum()) for values in self.entries.values())
        return (
            f"{self.path}: base {self.base:.4f} ms, {len(self.entries)} operators, {count:,} entries, {number} of them "
            f"negative (interpolated; {len(below)} operators, up to {max(below.values())} inner channels)"
        )


def read_tfnas_table(path: str | os.PathLike) -> TFNASTable:
    """Read a pickle of the authors or an ``.npz`` file.

    Of a pickle, nothing is executed: it may hold ``OrderedDict``, text and numbers only.

    Raises:
        UserError: It cannot be read, holds anything else, or is no such table.
    """
    where = str(path)
    data = jsonio.read_bytes(path, what="the latency table")
    raw = _npz(data, where) if Path(path).suffix == ".npz" else _pickled(data, where)
    if not isinstance(raw, Mapping) or BASE not in raw:
        raise UserError(f"{where}: not a latency table of TF-NAS: it has no entry '{BASE}'")
    base = raw[BASE]
    if not jsonio.is_number(base) or base < 0:
        raise UserError(f"{where}: '{BASE}' must be milliseconds, a finite number of 0 or more, got {short(base)}")
    return TFNASTable(
        float(base),
        {str(key): _by_width(value, f"{where}: {short(str(key))}") for key, value in raw.items() if key != BASE},
        where,
    )


def tfnas_table(source: TFNASTable, mutator: Any) -> LatencyTable:
    """The table for the space of a prepared ``NasMutator`` of TF-NAS blocks.

    Raises:
        UserError: Entries are missing or negative that a network of the space can have; names them.
    """
    space, (sizes,), cells = mutator.search_space, sizes_of(mutator), []
    missing: list[str] = []
    for part in mutator.cost_model.cells.cells:
        name, widths = part.name, part.choices[-1] if part.choices else ""
        blocks = [module for module in mutator.architecture.get_submodule(name).modules() if isinstance(module, Block)]
        if isinstance(widths, str) or len(widths) != len(blocks):
            raise UserError(f"{source.path}: '{name}' is no choice of TF-NAS blocks; such a table fits TFNASNet only")
        values = np.full((len(blocks), max(len(space[width].candidates) for width in widths)), np.nan)
        for row, (block, width) in enumerate(zip(blocks, widths, strict=True)):
            key, offered = key_of(block, sizes[name][-1]), np.array(space[width].candidates)
            entries = source.entries.get(key)
            if entries is None:
                missing.append(key)
                continue
            known = np.full(offered[-1], np.nan)
            known[: len(entries)] = entries[: len(known)]
            values[row, : len(offered)] = known[offered - 1]
            missing += [f"{key} at {w}" for w in offered[np.isnan(values[row, : len(offered)])].tolist()]
            below = offered[values[row, : len(offered)] < 0]
            if len(below):
                raise UserError(
                    f"{source.path}: '{key}' is negative at {below[0]} to {below[-1]} inner channels, which networks "
                    "of this space have; measure a table (tools/latency/build_table.py)"
                )
        cells.append(Cell(name, (name, widths), values[..., None]))
    missing = list(dict.fromkeys(missing))  # operators may share a key
    if missing:
        raise UserError(
            f"{source.path}: {len(missing)} entries are missing: {listed(missing)}; the table is of another space"
        )
    device = {"source": "TF-NAS, arXiv:2008.05314", "file": Path(source.path).name}
    return LatencyTable(space, Cell("", (), np.array([source.base])), cells, device, where=source.path)


def key_of(block: Block, size: int) -> str:
    """The key of a TF-NAS block that reads maps of ``size`` x ``size``."""
    act = _ACTIVATIONS.get(block.act, block.act)
    return (
        f"MBInvertedResBlock_{size}_{block.in_channels}_{block.se_channels}_{block.out_channels}"
        f"_k{block.kernel_size}_s{block.stride}_{act}"
    )


class _Reader(pickle.Unpickler):
    """Reads ordered dictionaries of text and numbers; whatever else a file names is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise UserError(f"it holds {short(f'{module}.{name}')}; allowed are OrderedDict, text and numbers")

    def persistent_load(self, pid: Any) -> Any:
        raise UserError("it refers to something outside of the file; allowed are OrderedDict, text and numbers")


def _pickled(data: bytes, where: str) -> Any:
    try:
        return _Reader(io.BytesIO(data)).load()
    except UserError as error:
        raise UserError(f"{where}: not a latency table of TF-NAS: {error}") from None
    except (Exception, RecursionError) as error:  # a damaged pickle may raise anything
        raise UserError(f"{where}: not a latency table of TF-NAS ({_text(error)})") from None


def _npz(data: bytes, where: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > jsonio.MOST_BYTES or len(archive.infolist()) > MOST_ENTRIES:
                raise ValueError(f"{len(archive.infolist()):,} arrays of {size:,} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            found = {key: file[key] for key in file.files}
    except (Exception, RecursionError) as error:  # a damaged archive may raise anything
        raise UserError(f"{where}: not a latency table of TF-NAS ({_text(error)})") from None
    base = found.get(BASE)
    return found if base is None or base.size != 1 else {**found, BASE: base.item()}


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {short(str(error))}"


def _by_width(value: Any, where: str) -> np.ndarray:
    """Milliseconds by inner channels: an array as it is, a mapping from them with NaN where one is missing."""
    if isinstance(value, np.ndarray):
        if value.ndim != 1 or not np.issubdtype(value.dtype, np.floating):
            raise UserError(f"{where} must be an array of numbers by inner channels, got {value.dtype} {value.shape}")
        infinite = np.flatnonzero(np.isinf(value))
        if len(infinite):
            raise UserError(f"{where} must be finite numbers, got {value[infinite[0]]} at {infinite[0] + 1} channels")
        return value.astype(np.float64)
    if not isinstance(value, Mapping) or not value:
        raise UserError(f"{where} must map inner channels to milliseconds, got {short(value)}")
    for width, ms in value.items():
        if type(width) is not int or not 0 < width <= MOST_CHANNELS or not jsonio.is_number(ms):
            raise UserError(
                f"{where}: {short(width)} -> {short(ms)} must be inner channels and milliseconds, a finite number"
            )
    found = np.full(max(value), np.nan)
    found[np.array(list(value)) - 1] = list(value.values())
    return found
