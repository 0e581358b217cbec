"""Parts of a config that fail, in one of the processes of a run: for ``custom_imports``."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, TRANSFORMS
from mmpretrain.registry import MODELS
from torch import Tensor, nn


def _fail(part: str, rank: int) -> None:
    if get_rank() == rank:
        raise KeyError(f"{part} of process {rank}")


@TRANSFORMS.register_module()
class FailingTransform:
    """Passes nothing in process ``rank``."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __call__(self, item: dict) -> dict:
        _fail("transform", self.rank)
        return item


@METRICS.register_module()
class FailingMetric(BaseMetric):
    """Scores nothing in process ``rank``."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def process(self, data_batch: Any, data_samples: list) -> None:
        _fail("metric", self.rank)
        self.results.append(1)

    def compute_metrics(self, results: list) -> dict:
        return {"accuracy/top1": 50.0}


@MODELS.register_module()
class FailingLoss(nn.Module):
    """Has no gradient in process ``rank``."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, logits: Tensor, labels: Tensor, **_: Any) -> Tensor:
        _fail("loss", self.rank)
        return nn.functional.cross_entropy(logits, labels)
