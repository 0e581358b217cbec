"""Reading of items and batches that tells what is wrong with which file, also out of a worker process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from mmrazor_lite.datasets.facts import name_of
from mmrazor_lite.datasets.unreadable import why
from mmrazor_lite.errors import UserError


def read_item(dataset: Any, index: int, where: str) -> Any:
    """Return ``dataset[index]``.

    Raises:
        UserError: Whatever the dataset or its pipeline raises, with the file, the step and ``where``, the config key.
    """
    try:
        return dataset[index]
    except UserError:
        raise
    except Exception as error:  # transforms raise whatever they like
        step, reason = _step(error), why(error)
        loading = step.startswith("Load")
        what = "cannot be read" if loading or not step else f"cannot pass {step}"
        fix = "replace or remove it, or --skip-unreadable leaves out what cannot be read" if loading else _FIX
        raise UserError(f"{where}: {name_of(dataset, index)} {what} ({reason}): {fix}") from error


_FIX = "look at the image and at the pipeline of its dataset (MMRAZOR_LITE_TRACEBACK=1 shows where)"


class GuardedCollate:
    """A ``collate_fn`` whose errors say which loader could make no batch.

    Images of several sizes make none: the preprocessor would pad them, and what the network sees of an image would
    depend on the others of its batch.

    Args:
        collate: What makes a batch of items.
        where: Key of the loader in the config.
    """

    def __init__(self, collate: Callable, where: str) -> None:
        self.collate, self.where = collate, where

    def __call__(self, items: Sequence) -> Any:
        """Return the batch of ``items``."""
        if isinstance(items, list):
            self._check_sizes(items)
        try:
            return self.collate(items)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.where}: {len(items)} images make no batch ({why(error)}): are all of one size and kind? End "
                "the pipeline of the dataset in a Resize or a crop to one size"
            ) from error

    def _check_sizes(self, items: list) -> None:
        images = [(item.get("inputs"), item.get("data_samples")) for item in items if isinstance(item, dict)]
        named: dict[tuple, str] = {}
        for image, sample in images:
            if isinstance(image, Tensor):
                path = getattr(sample, "img_path", None)
                named.setdefault(tuple(image.shape), f" ('{path}')" if path else "")
        if len(named) > 1:
            sizes = " and ".join(f"{'x'.join(map(str, shape))}{name}" for shape, name in list(named.items())[:2])
            raise UserError(
                f"{self.where}: images of one batch have different sizes, {sizes}: bring all to one size in the "
                "pipeline of the dataset (Resize; or pad_if_needed=True of RandomCrop, where images are smaller than "
                "the crop)"
            )


def _step(error: BaseException) -> str:
    """The innermost transform that an error comes from; empty where it comes from none."""
    found, trace = "", error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if callable(getattr(owner, "transform", None)):
            found = type(owner).__name__
        trace = trace.tb_next
    return found
