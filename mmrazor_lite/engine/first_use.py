"""Find what would fail after hours before the work begins: metrics and pipelines are used once, on a few images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.runner import BaseLoop
from mmpretrain.evaluation import Accuracy
from torch import Tensor
from torch.utils.data import Dataset

from mmrazor_lite.errors import UserError, failing, short

_IMAGES = 8  # of different classes where the classes follow each other


def probe_batch(dataset: Dataset, collate: Callable[[Sequence], Any], where: str) -> Any:
    """A few items of a dataset, spread over it, as the batch that its loader would make.

    Raises:
        UserError: Its pipeline cannot make one; names ``where``.
    """
    places = np.unique(np.linspace(0, len(dataset) - 1, _IMAGES).astype(int))
    with failing(f"{where} cannot read its images"):
        return collate([dataset[int(place)] for place in places])


def check_topk(metrics: Sequence[BaseMetric], scores: Tensor | None, where: str) -> None:
    """Raise :class:`UserError` where an accuracy asks for more of the first classes than the model tells apart.

    Args:
        metrics: Of an evaluator.
        scores: Of one image, a value per class; None where the model gives none.
        where: Their section.
    """
    for metric in metrics:
        if isinstance(metric, Accuracy) and scores is not None and max(metric.topk) > scores.numel():
            raise UserError(f"{where}.topk={short(max(metric.topk))}: the model has {scores.numel()} classes")


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
