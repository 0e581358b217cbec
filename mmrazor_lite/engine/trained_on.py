"""Which images weights were trained on, small enough to go with them: a sample of the images' keys.

The sample are the smallest keys of all: whether an image below its limit was trained on is certain, and of a larger set
the share that was is known within a percent. Two samples make that of both sets together.

Letters: N images.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmrazor_lite.datasets.facts import Facts
from mmrazor_lite.errors import UserError

KEPT = 16384  # keys; sets of fewer images are known exactly
ALL = 1 << 64  # every key is below it


@dataclass(frozen=True)
class TrainedOn:
    """The images of a training, and the names of their classes.

    Attributes:
        sample: Sorted keys (n,) uint64 of all images whose key is below ``limit``.
        limit: 2**64 where all are known.
        images: How many images there are.
        classes: See :class:`~mmrazor_lite.datasets.facts.Facts`.
        folders: Likewise.
        held_out: How the images were cut out of a larger set, for people; empty where they were not.
    """

    sample: np.ndarray
    limit: int = ALL
    images: int = 0
    classes: tuple[str, ...] | None = None
    folders: tuple[str, ...] | None = None
    held_out: str = ""

    @classmethod
    def of(cls, facts: Facts, held_out: str = "") -> TrainedOn:
        """Of a dataset's facts."""
        keys = np.unique(facts.keys) if facts.keys is not None else np.empty(0, dtype=np.uint64)
        sample, limit = _smallest(keys, ALL if facts.keys is not None else 0)
        return cls(sample, limit, len(keys), facts.classes, facts.folders, held_out)

    def joined(self, before: TrainedOn | None) -> TrainedOn:
        """With the images of the training that the weights come from; names are those of this one."""
        if before is None or not before.limit:
            return self
        if not self.limit:  # nobody can tell which images these are
            return replace(before, classes=self.classes, folders=self.folders)
        limit = min(self.limit, before.limit)
        keys = np.union1d(self.sample, before.sample)
        sample, limit = _smallest(_below(keys, limit), limit)
        images = len(sample) if limit == ALL else max(self.images, before.images)
        return TrainedOn(sample, limit, images, self.classes, self.folders, self.held_out or before.held_out)

    def seen(self, keys: np.ndarray | None) -> int:
        """About how many of the images with these keys (N,) were trained on; exact for sets that are known whole."""
        if keys is None or not len(keys):
            return 0
        known = _below(keys, self.limit)
        hits = int(np.isin(known, self.sample).sum())
        return hits if self.limit == ALL or not hits else max(1, round(hits / len(known) * len(keys)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint: no path is in it."""
        text = base64.b64encode(self.sample.astype("<u8").tobytes()).decode("ascii")
        names = {"classes": self.classes, "folders": None if self.folders == self.classes else self.folders}
        return {
            "images": self.images,
            "keys": text,
            "limit": self.limit,
            **{name: list(value) for name, value in names.items() if value is not None},
            **({"held_out": self.held_out} if self.held_out else {}),
        }

    @classmethod
    def from_dict(cls, data: Any, where: str) -> TrainedOn | None:
        """Read what :meth:`to_dict` returned; None for None.

        Raises:
            UserError: It is something else; ``where`` names the file.
        """
        if data is None:
            return None
        try:
            sample = np.frombuffer(base64.b64decode(data["keys"], validate=True), dtype="<u8").astype(np.uint64)
            limit, images = data["limit"], data["images"]
            if type(limit) is not int or type(images) is not int or not 0 <= limit <= ALL:
                raise ValueError
            classes = _names(data.get("classes"))
            return cls(
                sample, limit, images, classes, _names(data.get("folders")) or None, str(data.get("held_out", ""))
            )
        except (TypeError, KeyError, ValueError, AttributeError, binascii.Error):
            what = "what it says of the images it was trained on is damaged"
            raise UserError(f"{where}: {what}; copy the file again") from None


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise ValueError
    return tuple(value)


def _below(keys: np.ndarray, limit: int) -> np.ndarray:
    return keys if limit >= ALL else keys[keys < np.uint64(limit)]


def _smallest(keys: np.ndarray, limit: int) -> tuple[np.ndarray, int]:
    """The sample of sorted ``keys``, and the limit below which it holds all."""
    return (keys, limit) if len(keys) <= KEPT else (keys[:KEPT], int(keys[KEPT]))
