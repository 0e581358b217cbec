"""The files of CIFAR-10 as they were published, read without running what a pickle may hold.

Letters: N images.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite.errors import UserError

FOLDER = "cifar-10-batches-py"
PIXELS = 32 * 32 * 3


class _Dtype:
    """Stands for ``numpy.dtype``: of bytes, nothing else."""

    def __init__(self, name: Any, *options: Any) -> None:
        if name != "u1":
            raise UserError(f"an array of type {name!r}, expected are bytes (u1)")

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, of which bytes have none."""


class _Array:
    """Stands for ``numpy.ndarray``: a block of bytes and its shape."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        version_shape_type = isinstance(state, tuple) and len(state) == 5
        if not version_shape_type or not isinstance(state[2], _Dtype) or state[3]:
            raise UserError("an array that is no plain block of bytes")
        shape, raw = state[1], state[4]
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(raw, bytes) or not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
            raise UserError("an array that is no plain block of bytes")
        if any(n < 0 for n in shape) or int(np.prod(shape, dtype=object)) != len(raw):
            raise UserError(f"an array of shape {shape} in {len(raw)} bytes")
        self.value = np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def _reconstruct(kind: Any, *ignored: Any) -> _Array:
    if kind is not _Array:
        raise UserError("an object that is no array")
    return _Array()


def _encode(text: Any, encoding: Any) -> bytes:
    """Python 3 writes bytes as text of this encoding, in the protocol of these files."""
    if not isinstance(text, str) or encoding != "latin1":
        raise UserError("text that stands for no bytes")
    return text.encode("latin1")


class _Reader(pickle.Unpickler):
    """Admits dicts, lists, text, bytes, numbers and arrays of bytes; no class of anybody's is imported or called."""

    _KNOWN = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # what the published files say
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # what numpy 2 would write
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return our stand-in for what such a file needs; refuse everything else."""
        found = self._KNOWN.get((module, name))
        if found is None:
            raise UserError(f"it asks for {module}.{name}, such a file holds arrays of bytes and lists only")
        return found


def read_pickle(content: bytes, path: Path) -> dict[str, Any]:
    """Return the dict of one file, its keys as text and its arrays as uint8.

    Raises:
        UserError: The content is no pickle, ends early, or holds anything but what CIFAR-10's files hold.
    """
    try:
        found = _Reader(io.BytesIO(content), encoding="latin1").load()
    except UserError as error:
        raise UserError(f"'{path}' is refused, it is no file of CIFAR-10: {error}") from None
    except Exception as error:  # a damaged pickle raises whatever its wrong bytes happen to mean
        problem = f"{type(error).__name__}: {error}"
        raise UserError(f"'{path}' cannot be read, truncated or damaged ({problem}): download it again") from None
    if not isinstance(found, dict) or not all(isinstance(key, str | bytes) for key in found):
        raise UserError(f"'{path}' holds a {type(found).__name__}, files of CIFAR-10 hold a dict by names")
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: value.value if isinstance(value, _Array) else value
        for key, value in found.items()
    }


def read_batches(folder: Path, split: str, check_md5: bool = True) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read one split of ``cifar-10-batches-py``.

    Args:
        folder: With ``data_batch_1`` to ``5``, ``test_batch`` and ``batches.meta``.
        split: ``"train"`` or ``"test"``.
        check_md5: Refuse files that are not byte by byte what was published.

    Returns:
        Images (N, 32, 32, 3) uint8 in RGB, labels (N,), names of the classes.

    Raises:
        UserError: Files are missing, truncated or changed (all of them are named), or hold something else.
    """
    from torchvision.datasets import CIFAR10  # slow to import; it knows the names and the sums

    listed = [*(CIFAR10.train_list if split == "train" else CIFAR10.test_list)]
    meta = [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]
    contents = _checked([meta, *listed], folder, check_md5)
    names = _names(read_pickle(contents.pop(meta[0]), folder / meta[0]).get(CIFAR10.meta["key"]), folder / meta[0])
    parts = [_images(read_pickle(content, folder / name), folder / name) for name, content in contents.items()]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return np.ascontiguousarray(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels, names


def _checked(listed: Sequence[Sequence[str]], folder: Path, check_md5: bool) -> dict[str, bytes]:
    missing = [name for name, _ in listed if not (folder / name).is_file()]
    if missing:
        raise UserError(f"'{folder}' lacks {', '.join(missing)}: unpack cifar-10-python.tar.gz again")
    contents = {name: (folder / name).read_bytes() for name, _ in listed}
    wrong = []
    for name, expected in listed:
        found = hashlib.md5(contents[name], usedforsecurity=False).hexdigest()
        if check_md5 and found != expected:
            wrong.append(f"{name} ({len(contents[name]):,} bytes, md5 {found}, published {expected})")
    if wrong:
        raise UserError(
            f"'{folder}': truncated or changed: {', '.join(wrong)}; download cifar-10-python.tar.gz again, or "
            "set check_md5=False where the files are another set on purpose"
        )
    return contents


def _images(content: dict[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray]:
    data, labels = content.get("data"), content.get("labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        shape = data.shape if isinstance(data, np.ndarray) else type(data).__name__
        raise UserError(f"'{path}': 'data' is {shape}, expected are rows of {PIXELS} bytes")
    fits = isinstance(labels, list) and len(labels) == len(data)
    if not fits or not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise UserError(f"'{path}': 'labels' must be {len(data)} whole numbers from 0 to 9, one per image")
    return data, np.array(labels, dtype=np.int64)


def _names(names: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(name, str) for name in names):
        raise UserError(f"'{path}': 'label_names' must be ten names")
    return tuple(names)
