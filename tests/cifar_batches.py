"""Files in the form of ``cifar-10-batches-py``, as Python 2 wrote the published ones: protocol 2, text as bytes."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np

from mmrazor_lite.datasets.cifar10 import CLASSES

TRAIN = [f"data_batch_{number}" for number in range(1, 6)]


def python2(value: object) -> bytes:
    """The opcodes of a value in a pickle of protocol 2, with every text as a string of Python 2."""
    if isinstance(value, str):
        return b"T" + struct.pack("<i", len(value)) + value.encode("latin1")
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(part) for item in value.items() for part in item) + b"u"
    assert isinstance(value, np.ndarray) and value.dtype == np.uint8
    raw = value.tobytes()
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + python2("b") + b"tR"
    kind = b"cnumpy\ndtype\n(" + python2("u1") + b"K\x00K\x01tR(K\x03" + python2("|") + b"NNNJ\xff\xff\xff\xff"
    shape = b"(" + b"".join(map(python2, value.shape)) + b"t"
    text = b"T" + struct.pack("<i", len(raw)) + raw
    return start + b"(K\x01" + shape + kind + b"J\xff\xff\xff\xffK\x00tb\x89" + text + b"tb"


def write_batches(folder: Path, per_file: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Write all files with random images; return those of the training, (N, 32, 32, 3) in RGB, and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images, labels = [], []
    for name in [*TRAIN, "test_batch"]:
        data = rng.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        classes = rng.permutation(np.arange(per_file) % 10).tolist()
        content = {"batch_label": name, "labels": classes, "data": data, "filenames": ["x.png"] * per_file}
        (folder / name).write_bytes(b"\x80\x02" + python2(content) + b".")
        if name in TRAIN:
            images.append(data)
            labels.append(classes)
    meta = {"label_names": list(CLASSES), "num_vis": 3072, "num_cases_per_batch": per_file}
    (folder / "batches.meta").write_bytes(b"\x80\x02" + python2(meta) + b".")
    rgb = np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return rgb, np.concatenate(labels)


def python3(value: dict) -> bytes:
    """The same content as Python 3 writes it."""
    return pickle.dumps(value, protocol=2)
