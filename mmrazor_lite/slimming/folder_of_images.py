"""A folder of images as the data of a network: class folders say labels, a flat folder says none.

Letters: C channels, H W space.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmrazor_lite.errors import UserError, reason
from mmrazor_lite.fileio import is_hidden

from .image_transform import ImageTransform, image_transform

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
BATCH = 50
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_SHOWN = 100


@dataclass(frozen=True)
class Found:
    """The images of a folder, in the order of their paths.

    Attributes:
        paths: Of each image.
        labels: Of each image, the number of its class folder; None where the folder says none.
        classes: Names of the class folders in the order of the labels.
        notes: What was left out, and why there are no labels; for people.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_images(folder: str | os.PathLike) -> Found:
    """List the images of a folder: those of its class folders with a label, else those in it without.

    Classes are numbered in the order of their names; hidden files and folders are none.

    Raises:
        UserError: It is no folder, holds no image, or is one of splits such as ``train`` and ``val``.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"data folder '{folder}' {'is a file' if root.exists() else 'does not exist'}: give a folder")
    names = sorted(entry.name for entry in os.scandir(root) if not is_hidden(entry.name))
    inside = [str(root / name) for name in names if _is_image(root / name)]
    found = {name: _below(root / name) for name in names if (root / name).is_dir()}
    found = {name: paths for name, paths in found.items() if paths}
    splits = [name for name in found if name.lower() in _SPLITS]
    if splits and len(splits) == len(found):
        raise UserError(f"data folder '{folder}' has the parts {', '.join(splits)}: give one, '{root / splits[0]}'")
    if not inside and not found:
        raise UserError(f"data folder '{folder}' has no image ({', '.join(EXTENSIONS)}), nor have the folders in it")
    if len(found) < 2:
        paths = inside + [path for paths in found.values() for path in paths]
        note = f"'{folder}' has no class folders" if not found else f"'{folder}' has one folder of images"
        return Found(tuple(paths), None, notes=(f"{note}: no labels",))
    notes = (f"{len(inside)} images beside the class folders of '{folder}' are left out",) if inside else ()
    paths = [path for name in found for path in found[name]]
    labels = [number for number, name in enumerate(found) for _ in found[name]]
    return Found(tuple(paths), tuple(labels), tuple(found), notes)


def labels_for(
    found: Found, folder: str | os.PathLike, outputs: int | None, needed: bool = False
) -> tuple[tuple[int, ...] | None, list[str]]:
    """The labels for a network that tells so many classes apart, and lines for people.

    There are some only where there are as many class folders: nothing else says which class a folder is.

    Args:
        needed: Refuse class folders that are no labels, in the place of a line.
    """
    notes, labels = list(found.notes), found.labels
    if labels is not None and len(found.classes) != outputs:
        gives = f"tells {outputs} classes apart" if outputs else "gives no class scores"
        told = f"'{folder}' has {len(found.classes)} class folders, the network {gives}"
        if needed:
            raise UserError(f"{told}: no accuracy can be told; give a folder for each class, or images in one folder")
        notes.append(f"{told}: no labels are taken")
        labels = None
    classes = "" if labels is None else f" in {len(found.classes)} classes"
    return labels, [f"{len(found.paths)} images of '{folder}'{classes}", *notes]


class FolderImages(Dataset):
    """Images of a folder: item i is a tensor (C, H, W), or one and its label where there are labels.

    Args:
        paths: Of each image.
        labels: Of each image, or None.
        transform: Makes a tensor of an image.
    """

    def __init__(self, paths: Sequence[str], labels: Sequence[int] | None, transform: ImageTransform) -> None:
        self.paths, self.labels, self.transform = tuple(paths), labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, Tensor]:
        image = read_image(self.paths[index], self.transform)
        return image if self.labels is None else (image, torch.tensor(self.labels[index]))


def read_image(path: str, transform: ImageTransform) -> Tensor:
    """Read one image.

    Raises:
        UserError: It is none, or damaged; names it.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return transform(image)
    except Exception as error:  # decoders raise whatever they like
        raise UserError(
            f"data: '{path}' cannot be read ({_why(error)}): replace or remove it, or --skip-unreadable leaves out "
            "what cannot be read"
        ) from error


def image_folder(
    folder: str | os.PathLike,
    network: str | None = None,
    *,
    size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: int | None = None,
    seed: int = 0,
) -> DataLoader:
    """Batches of the images of a folder, in a drawn order, as a network takes them; with labels by class folders.

    Args:
        folder: With a folder for each class, or flat.
        network: Whose transform is taken, such as ``timm.resnet18``; or give ``size``, ``mean`` and ``std``.
        size, mean, std: See :func:`.image_transform`.
        outputs: Classes that the network tells apart; without it, there are no labels.
        seed: Of the order.

    Raises:
        UserError: There is no image, or something of the transform is neither given nor known.
    """
    return loader(folder, image_transform(network, size, mean, std), outputs, seed)[0]


def loader(
    folder: str | os.PathLike,
    transform: ImageTransform,
    outputs: int | None = None,
    seed: int = 0,
    readable: int | None = 0,
    labelled: bool = False,
) -> tuple[DataLoader, list[str]]:
    """Batches of the images of a folder in an order drawn once, so that the first ones are a sample of all.

    Args:
        folder: With class folders, or flat.
        transform: Makes a tensor of an image.
        outputs: Classes that the network tells apart, see :func:`labels_for`; None where it gives no class scores.
        seed: Of the order.
        readable: Leave out what cannot be read, until so many images are found that can; None for all, which reads
            every image once. 0 leaves nothing out: what cannot be read is an error then.
        labelled: Refuse class folders that are no labels of this network.

    Returns:
        The batches: tensors (N, C, H, W), or pairs of one and labels (N,); and lines for people.

    Raises:
        UserError: See :func:`find_images`; none of the images can be read.
    """
    found = find_images(folder)
    labels, notes = labels_for(found, folder, outputs, labelled)
    order = np.random.default_rng(seed).permutation(len(found.paths))
    if readable != 0:
        order, skipped = _readable([found.paths[at] for at in order], order, transform, readable)
        if skipped:
            more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
            notes.append(f"{len(skipped)} images cannot be read and are left out: {', '.join(skipped[:_SHOWN])}{more}")
    images = FolderImages(
        [found.paths[at] for at in order], None if labels is None else [labels[at] for at in order], transform
    )
    return DataLoader(images, batch_size=BATCH), notes


def _readable(
    paths: Sequence[str], order: np.ndarray, transform: ImageTransform, wanted: int | None
) -> tuple[np.ndarray, list[str]]:
    kept: list[int] = []
    skipped: list[str] = []
    for path, number in zip(paths, order, strict=True):
        try:
            read_image(path, transform)
        except UserError as error:
            skipped.append(path)
            last = error
            continue
        kept.append(number)
        if len(kept) == wanted:
            break
    if not kept:
        raise UserError(f"none of {len(skipped)} images can be read; the last: {last}")
    return np.array(kept), skipped


def _below(folder: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found += [os.path.join(place, name) for name in sorted(files) if _is_image(Path(place, name))]
    return found


def _is_image(path: Path) -> bool:
    return not is_hidden(path.name) and path.suffix.lower() in EXTENSIONS and path.is_file()


def _why(error: Exception) -> str:
    """Without the path, which PIL says again."""
    return "no image, or a damaged one" if "cannot identify image" in str(error) else reason(error)
