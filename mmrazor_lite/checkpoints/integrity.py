"""Whether the bytes of a checkpoint are those that were written, and whether they are few and plain enough to be read.

``torch.load`` compares no check sums, takes any number of objects, nests them as deep as a file says and unpacks what
is compressed. What is checked here comes before it (the archive and its pickle) and after it (what came out).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrazor_lite.errors import UserError, short

from .pickles import MAX_ITEMS, MAX_PICKLE, PickleLimit, Storage, check_pickle

DIGEST = "digest"  # of the sections of a file, beside them
MAX_RECORDS = 100_000  # in an archive: one for each tensor; the largest supernet with its optimizer has some 20,000
MAX_DEPTH = 64  # of dicts and lists in each other
FREE_BYTES = 1 << 20  # what an expanded tensor may pretend to hold beyond its storage
_MAGIC, _END, _ZIP64_END = b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06"
_LEGACY_PICKLES = 5  # in front of the tensors in a file of torch < 1.6


def check_archive(path: Path) -> None:
    """Refuse a file whose bytes are not those that were written, or that would unpack to more than it is.

    Raises:
        UserError: A wrong check sum (names the record), compressed records, or too many of anything.
        Exception: Whatever ``zipfile`` raises for what is no whole archive.
    """
    with open(path, "rb") as file:
        if file.read(4) != _MAGIC:
            _check_legacy(path)
            return
        _check_number(file, path)
        with zipfile.ZipFile(file) as archive:
            _check_records(archive, path)


def _check_number(file: Any, path: Path) -> None:
    """Look at the number of records before the list of them is read."""
    size = file.seek(0, os.SEEK_END)
    tail = min(size, (1 << 16) + 128)
    file.seek(size - tail)
    data = file.read(tail)
    place, large = data.rfind(_END), data.rfind(_ZIP64_END)
    listed = int.from_bytes(data[place + 12 : place + 16], "little") if place >= 0 else 0
    if large >= 0 and listed == 0xFFFFFFFF:
        listed = int.from_bytes(data[large + 40 : large + 48], "little")
    if listed > MAX_RECORDS * 128:  # bytes of the list; an entry has 46 and its name
        raise UserError(f"checkpoint {path}: refused, it lists more than {MAX_RECORDS:,} records")
    file.seek(0)


def _check_records(archive: zipfile.ZipFile, path: Path) -> None:
    records = archive.infolist()
    if len(records) > MAX_RECORDS:
        raise UserError(
            f"checkpoint {path}: refused, it has {len(records):,} records, at most {MAX_RECORDS:,} are read"
        )
    packed = next((record for record in records if record.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise UserError(
            f"checkpoint {path}: refused, its record {short(packed.filename)} is compressed, which torch never writes; "
            "unpack it and write it with torch.save"
        )
    total = sum(record.file_size for record in records)
    if total > path.stat().st_size:
        raise UserError(
            f"checkpoint {path}: refused, its records say {total:,} bytes, the file has {path.stat().st_size:,}"
        )
    for record in records:
        if record.filename.endswith(".pkl"):
            if record.file_size > MAX_PICKLE:
                _too_much(path, f"a pickle of {record.file_size:,} bytes, at most {MAX_PICKLE:,} are read")
            storages = _check_pickles(archive.read(record), 1, path, in_archive=True)
            _check_storages(storages, record.filename, {other.filename: other.file_size for other in records}, path)
        else:
            damaged = _is_damaged(archive, record)
            if damaged:
                raise UserError(
                    f"checkpoint {path}: damaged, the check sum of its record {short(record.filename)} is wrong; copy "
                    "or write it again"
                )


def _is_damaged(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(record) as content:
            while content.read(1 << 20):
                pass
    except zipfile.BadZipFile as error:
        if "CRC" in str(error):
            return True
        raise
    return False


def _check_legacy(path: Path) -> None:
    """Look at the pickles in front of the tensors of an old file, which has no check sums."""
    if path.stat().st_size == 0:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[0] == 0x80:  # what every pickle of torch begins with
            _check_pickles(data, _LEGACY_PICKLES, path)


def _check_storages(storages: Sequence[Storage], pickle: str, sizes: Mapping[str, int], path: Path) -> None:
    """Compare what a pickle asks for with what its records hold: torch 2.6 reads beyond them."""
    folder = pickle.rpartition("/")[0]
    for storage in storages:
        record = f"{folder}/data/{storage.key}" if folder else f"data/{storage.key}"
        held = sizes.get(record)
        if held is not None and held < storage.size:  # a missing one is told by torch
            raise UserError(
                f"checkpoint {path}: damaged, its record {short(record)} holds {held:,} bytes, its tensors say "
                f"{storage.size:,}; copy or write it again"
            )


def _check_pickles(data: Any, number: int, path: Path, in_archive: bool = False) -> list[Storage]:
    """Follow so many pickles; return what that of an archive asks for."""
    storages: list[Storage] = []
    try:
        end = 0
        for _ in range(number):
            end = check_pickle(data, end, storages if in_archive else None)
    except PickleLimit as limit:
        _too_much(path, str(limit))
    return storages


def _too_much(path: Path, what: str) -> None:
    raise UserError(f"checkpoint {path}: refused, it has {what}")


# what came out --------------------------------------------------------------------------------------------------


def check_content(content: Any, where: str) -> None:
    """Refuse what other code would follow without an end: deep or endless nesting, tensors of more than they hold.

    Args:
        content: What ``torch.load`` gave.
        where: Names the file in errors.

    Raises:
        UserError: Says what there is too much of.
    """
    for count, (key, value, depth) in enumerate(_walk(content)):
        if depth > MAX_DEPTH:
            raise UserError(f"{where}: refused, {short(key)} holds dicts or lists more than {MAX_DEPTH} deep")
        if count > MAX_ITEMS:
            raise UserError(f"{where}: refused, it holds more than {MAX_ITEMS:,} entries")
        if isinstance(value, Tensor):
            _check_tensor(value, f"{where}: refused, the tensor {short(key)}")


def _check_tensor(tensor: Tensor, what: str) -> None:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise UserError(f"{what} is no plain one (sparse, quantized, nested or without values)")
    size, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if size > max(held, FREE_BYTES):
        raise UserError(f"{what} of shape {short(tuple(tensor.shape))} says more values than the file has")


def _walk(content: Any) -> Iterator[tuple[Any, Any, int]]:
    """Yield (key, value, depth) of everything inside, as often as it is referred to; nothing is called recursively."""
    waiting: list[Iterator[tuple[Any, Any]]] = [iter([("the content", content)])]
    while waiting:
        try:
            key, value = next(waiting[-1])
        except StopIteration:
            waiting.pop()
            continue
        yield key, value, len(waiting) - 1
        if len(waiting) > MAX_DEPTH + 2:
            continue
        if isinstance(value, dict):
            waiting.append(iter(dict.items(value)))  # an attribute of a file's may hide its own
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting.append((key, item) for item in value)


def first_not_finite(tensors: Mapping[Any, Any], allow_inf: bool = False) -> str | None:
    """Name of the first tensor that holds NaN, or infinity unless that is allowed; None where there is none."""
    return next((str(name) for name, tensor in tensors.items() if not is_finite(tensor, allow_inf)), None)


def is_finite(tensor: Any, allow_inf: bool = False) -> bool:
    """Whether a tensor (or what is none) holds numbers only."""
    if not isinstance(tensor, Tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.device.type != "cpu" or tensor.is_complex() or tensor.element_size() < 4:
        bad = torch.isnan(tensor) if allow_inf else ~torch.isfinite(tensor)
        return not bool(bad.any())
    values = tensor.detach().numpy()  # several times as fast on small tensors
    with np.errstate(all="ignore"):
        total = values.sum(dtype=values.dtype)  # not finite where a value is not; where the sum is too large as well
    if np.isfinite(total):
        return True
    return not bool((np.isnan(values) if allow_inf else ~np.isfinite(values)).any())


def check_numbers(weights: Mapping[str, Tensor], target: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN and infinity, but where the model itself has them: a mask of attention, for one.

    Args:
        weights: What a model gets.
        target: What it has, by the same names.
        where: Names the file in errors.

    Raises:
        UserError: Names the first such tensor.
    """
    for name, value in weights.items():
        if is_finite(value) or torch.equal(torch.isfinite(value), torch.isfinite(target[name]).to(value.device)):
            continue
        found = "NaN" if value.isnan().any() else "infinity"
        raise UserError(f"{where}: {name} holds {found}; take an earlier checkpoint of the training")


def check_optimizer(state: Any, where: str) -> None:
    """Refuse an optimizer state that holds NaN: the next step would spread it.

    Infinity stays: a squared gradient may overflow, and its parameter then stands still.

    Raises:
        UserError: Names the parameter by its number and the entry.
    """
    tensors = {str(key): value for key, value in _named(state)}
    wrong = first_not_finite(tensors, allow_inf=True)
    if wrong is not None:
        raise UserError(
            f"{where} cannot be resumed: {wrong} of its optimizer is not a number; resume from an earlier checkpoint, "
            "or start from its weights with load_from"
        )


def _named(content: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors inside by their path; of content that :func:`check_content` has seen."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _named(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from _named(value, f"{name}.{index}" if name else str(index))


# the digest -----------------------------------------------------------------------------------------------------


def digests(content: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of every section of a checkpoint, of values and types, not of how they are pickled."""
    return {str(key): _digest(value) for key, value in content.items() if key != DIGEST}


def check_digests(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return ``content`` without its digest after a comparison; what has none, a file of others, is as it is.

    Raises:
        UserError: A section is not what was written; names it.
    """
    said = content.get(DIGEST)
    if not isinstance(said, Mapping) or not all(isinstance(value, str) for value in said.values()):
        return dict(content)
    rest = {key: value for key, value in content.items() if key != DIGEST}
    for key, value in rest.items():
        if key in said and said[key] != _digest(value):
            raise UserError(
                f"{where}: its {short(key)} is not what was written (another digest); copy or write the file again, or "
                f"remove its key '{DIGEST}' if you changed it on purpose"
            )
    return rest


def _digest(value: Any) -> str:
    state = hashlib.sha256()
    _update(state, value)
    return state.hexdigest()[:32]


def _update(state: Any, value: Any) -> None:
    """Feed the type and the content of a value, so that no two values look alike."""
    if isinstance(value, Tensor):
        state.update(f"T{value.dtype}{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            state.update(memoryview(flat.view(torch.uint8).numpy()))
    elif isinstance(value, Mapping):
        state.update(f"M{len(value)}".encode())
        for key, item in value.items():
            _update(state, key)
            _update(state, item)
    elif isinstance(value, (list, tuple)):
        state.update(f"{'L' if isinstance(value, list) else 'U'}{len(value)}".encode())
        for item in value:
            _update(state, item)
    elif value is None or isinstance(value, (bool, int, float, str, bytes)):
        text = repr(value).encode("utf-8", "surrogatepass")
        state.update(f"{type(value).__name__}{len(text)}:".encode() + text)
    else:
        state.update(f"O{type(value).__qualname__}".encode())  # its content is mmengine's own business
