"""The 1,797 handwritten digits that scikit-learn carries: real images that need no download.

Letters: N images, H W space.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import DATASETS

SPLITS = ("train", "test")
TEST_FRACTION = 0.25


@cache
def _load(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W, 3) uint8 of ``size`` x ``size`` pixels and labels (N,)."""
    import cv2
    from sklearn.datasets import load_digits

    raw = load_digits()
    gray = np.round(raw.images * (255 / 16)).astype(np.uint8)
    if size != gray.shape[1]:
        gray = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR) for image in gray])
    return np.repeat(gray[..., None], 3, axis=-1), raw.target.astype(int)


def _split(labels: np.ndarray, split: str) -> np.ndarray:
    """Return the sorted indices of a fixed, stratified split: a quarter of each class is for tests."""
    rng = np.random.default_rng(0)
    chosen = []
    for label in range(10):
        order = rng.permutation(np.flatnonzero(labels == label))
        border = round(len(order) * TEST_FRACTION)
        chosen.append(order[:border] if split == "test" else order[border:])
    return np.sort(np.concatenate(chosen))


@DATASETS.register_module()
class Digits(BaseDataset):
    """Handwritten digits of scikit-learn (1,797 images of 8 x 8 pixels), as RGB images in memory.

    A pipeline starts from ``img`` (H, W, 3) uint8 in the results, so it needs no ``LoadImageFromFile``.

    Source: E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998.

    Args:
        split: ``"train"`` (1,348 images) or ``"test"`` (449); the same on every machine.
        size: side of the images in pixels; other sizes than 8 are interpolated.

    Raises:
        UserError: unknown split or a size below 8.
    """

    METAINFO = {"classes": tuple("0123456789")}

    def __init__(self, split: str = "train", size: int = 8, metainfo: dict | None = None, **kwargs) -> None:
        if split not in SPLITS:
            raise UserError(f"Digits: split is '{split}', allowed are {' and '.join(SPLITS)}")
        if size < 8:
            raise UserError(f"Digits: size is {size}, the images have 8 x 8 pixels: give 8 or more")
        self.split = split
        self.size = size
        super().__init__(ann_file="", metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return one record of image and label per digit."""
        images, labels = _load(self.size)
        return [{"img": images[i], "gt_label": int(labels[i])} for i in _split(labels, self.split)]
