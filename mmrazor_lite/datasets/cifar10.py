"""CIFAR-10 from any of the forms in which it is kept.

Letters: N images.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmrazor_lite.datasets.cifar_files import FOLDER, read_batches
from mmrazor_lite.datasets.unreadable import say_skipped
from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import is_hidden
from mmrazor_lite.registry import DATASETS

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLITS = ("train", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm")


@DATASETS.register_module()
class Cifar10Images(BaseDataset):
    """CIFAR-10 in memory, from the published files, from image folders, or from archives of image folders.

    ``data_root`` holds one of these, and the first one found is read:

    - ``cifar-10-batches-py/`` (or the folder is that), checked against the published md5 sums; nothing in it is run
    - ``train/CLASS/IMAGE`` and ``test/CLASS/IMAGE``
    - ``cifar10_train.tar.gz`` and ``cifar10_test.tar.gz`` with ``cifar10/train/CLASS/IMAGE`` ...

    A pipeline starts from ``img`` (32, 32, 3) uint8 in RGB in the results: it needs no ``LoadImageFromFile``, and the
    preprocessor's ``to_rgb`` stays False.

    Source: A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        data_root: The folder.
        split: ``"train"`` or ``"test"``.
        check_md5: Refuse published files that are truncated or changed; False for another set in the same form.
        per_class: Take so many images of each class, the first ones; None takes all.
        skip_unreadable: Leave out images that are damaged.

    Raises:
        UserError: Unknown split, none of the forms, files that are damaged (they are named), class folders that are
            not the ten of CIFAR-10, or an image of another size.
    """

    METAINFO = {"classes": CLASSES}

    def __init__(
        self,
        data_root: str,
        split: str = "train",
        check_md5: bool = True,
        per_class: int | None = None,
        skip_unreadable: bool = False,
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"Cifar10Images: split is '{split}', allowed are {' and '.join(SPLITS)}")
        if per_class is not None and (type(per_class) is not int or per_class < 1):
            raise UserError(f"Cifar10Images: per_class={per_class!r}, allowed is a whole number above 0, or None")
        self.split, self.check_md5, self.per_class = split, check_md5, per_class
        self.skip_unreadable = skip_unreadable
        self.images = np.empty((0, 32, 32, 3), dtype=np.uint8)
        super().__init__(ann_file="", metainfo=metainfo, data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return one record per image; the pixels stay in one array."""
        self.images, labels = load(str(self.data_root), self.split, self.check_md5, self.skip_unreadable)
        chosen = range(len(labels))
        if self.per_class is not None:
            places = [np.flatnonzero(labels == label)[: self.per_class] for label in range(len(CLASSES))]
            chosen = np.sort(np.concatenate(places)).tolist()
        return [{"index": index, "gt_label": int(labels[index])} for index in chosen]

    def get_data_info(self, idx: int) -> dict:
        """Return the record of one image with its pixels under ``img``."""
        info = super().get_data_info(idx)
        return {**info, "img": self.images[info["index"]]}


@lru_cache(maxsize=4)  # the parts of a training set that a run reads are one array
def load(root: str, split: str, check_md5: bool = True, skip_unreadable: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 32, 32, 3) uint8 in RGB and labels (N,) of one split, in whatever form they are."""
    folder = Path(root)
    itself = folder.name == FOLDER or (folder / "batches.meta").is_file()
    batches = folder if itself else folder / FOLDER
    if batches.is_dir():
        images, labels, names = read_batches(batches, split, check_md5)
        _check_classes(names, str(batches / "batches.meta"))
        return images, np.array([CLASSES.index(name) for name in names])[labels]
    if (folder / split).is_dir():
        return _decoded(_from_folder(folder / split), folder / split, skip_unreadable)
    archive = folder / f"cifar10_{split}.tar.gz"
    if archive.is_file():
        return _decoded(_from_archive(archive, split), archive, skip_unreadable)
    packed = folder / "cifar-10-python.tar.gz"
    hint = f"unpack '{packed}' first" if packed.is_file() else "give another folder with --cfg-options data_root=DIR"
    raise UserError(
        f"no CIFAR-10 in '{folder}': expected is {FOLDER}/, {split}/CLASS/IMAGE or cifar10_{split}.tar.gz; {hint}"
    )


def _from_folder(folder: Path) -> Iterator[tuple[str, str, bytes | UserError]]:
    """Yield class, place and content (or why there is none) of every image, in the order of their names."""
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))
    _check_classes(classes, str(folder))
    for name in classes:
        paths = [path for path in sorted((folder / name).iterdir()) if path.suffix.lower() in SUFFIXES]
        if not paths:
            raise UserError(f"'{folder / name}' has no image ({', '.join(SUFFIXES)}): copy this class again")
        for path in paths:
            yield name, str(path), _content(path)


def _content(path: Path) -> bytes | UserError:
    try:
        return path.read_bytes()
    except OSError as error:  # also a folder, or a link to nothing
        return UserError(f"'{path}' cannot be read ({error.strerror}): copy the image again, or remove it")


def _from_archive(archive: Path, split: str) -> Iterator[tuple[str, str, bytes]]:
    """The same of an archive, from which nothing is unpacked."""
    found: dict[str, tuple[str, bytes]] = {}
    try:
        whole = io.BytesIO(gzip.decompress(archive.read_bytes()))  # to its end, where the checksum is
        with tarfile.open(fileobj=whole, mode="r:") as tar:
            for member in tar:
                parts = Path(member.name).parts
                if member.isfile() and len(parts) >= 3 and parts[-3] == split and parts[-1].lower().endswith(SUFFIXES):
                    found[f"{parts[-2]}/{parts[-1]}"] = parts[-2], tar.extractfile(member).read()
        # tarfile takes a header that it cannot read for the end.
        if whole.getbuffer()[tar.offset : tar.offset + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
            raise EOFError("it does not go on to its end mark")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"'{archive}' cannot be read, truncated or damaged ({error}): copy it again") from None
    _check_classes(sorted({name for name, _ in found.values()}), str(archive))
    for place in sorted(found):
        name, content = found[place]
        yield name, f"{archive}:{place}", content


def _check_classes(names: list[str] | tuple[str, ...], where: str) -> None:
    missing = [name for name in CLASSES if name not in names]
    foreign = [name for name in names if name not in CLASSES]
    if missing or foreign:
        problems = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(foreign)}"] * bool(foreign)
        raise UserError(
            f"'{where}': the classes are not those of CIFAR-10: it {' and '.join(problems)}; expected are the ten "
            f"{', '.join(CLASSES)}. For other classes use dataset=dict(type='CustomDataset')"
        )


def _decoded(
    files: Iterator[tuple[str, str, bytes | UserError]], source: Path, skip_unreadable: bool
) -> tuple[np.ndarray, np.ndarray]:
    import mmcv

    images, labels, skipped = [], [], []
    for name, place, content in files:
        problem = content if isinstance(content, UserError) else None
        image = mmcv.imfrombytes(content, backend="cv2") if content and problem is None else None
        if image is None:
            if skip_unreadable:
                skipped.append(place)
                continue
            raise problem or UserError(f"'{place}' is no image, or a damaged one: copy it again, or --skip-unreadable")
        if image.shape != (32, 32, 3):
            raise UserError(
                f"'{place}' has {image.shape[0]}x{image.shape[1]} pixels, images of CIFAR-10 have 32x32: use "
                "dataset=dict(type='CustomDataset') with a Resize for others"
            )
        images.append(image[..., ::-1])
        labels.append(CLASSES.index(name))
    say_skipped(skipped, len(images) + len(skipped), str(source))
    if not images:
        raise UserError(f"'{source}': none of {len(skipped)} images can be read")
    return np.stack(images), np.array(labels, dtype=np.int64)
