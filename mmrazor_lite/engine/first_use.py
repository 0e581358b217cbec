"""Find what would fail after hours before the work begins: metrics and pipelines are used once, on a few images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.runner import BaseLoop
from torch.utils.data import Dataset

from mmrazor_lite.errors import UserError, failing

_IMAGES = 8  # of different classes where the classes follow each other


def probe_batch(dataset: Dataset, collate: Callable[[Sequence], Any], where: str) -> Any:
    """A few items of a dataset, spread over it, as the batch that its loader would make.

    Raises:
        UserError: Its pipeline cannot make one; names ``where``.
    """
    places = np.unique(np.linspace(0, len(dataset) - 1, _IMAGES).astype(int))
    with failing(f"{where} cannot read its images"):
        return collate([dataset[int(place)] for place in places])


@contextmanager
def first_step(runner: Any) -> Iterator[None]:
    """The same for all that fails before the end of the first training step; later errors stay as they are."""
    try:
        yield
    except Exception as error:
        loop = runner._train_loop
        if isinstance(error, UserError) or (isinstance(loop, BaseLoop) and loop.iter > runner.first_iter):
            raise
        with failing("the first training step fails"):
            raise
