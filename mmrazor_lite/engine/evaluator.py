"""The score of one subnet of a supernet."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement
from torch import nn

from mmrazor_lite.engine.batches import CALIBRATION_IMAGES, FixedBatches
from mmrazor_lite.engine.data_match import check_search_data
from mmrazor_lite.engine.data_overlap import say
from mmrazor_lite.engine.first_use import check_topk
from mmrazor_lite.errors import UserError, check_number, failing, nearest
from mmrazor_lite.models.algorithms.base import Algorithm
from mmrazor_lite.models.calibration import activated, batch_norms, moving_buffers, recalibrated, unchanged
from mmrazor_lite.plain_data import plain
from mmrazor_lite.subnet import Subnet

_BROKEN = "the supernet's weights or its input are broken there (was it trained to the end?)"
_UNFIT = "the evaluator cannot score what the model predicts"
_SHOWN = 5  # names in a line
_IDLE_KEYS = {
    *("data_root", "training", "num_workers", "persistent_workers", "prefetch_factor", "pin_memory", "timeout"),
    *("pin_memory_device", "multiprocessing_context", "disable_subprocess_warning"),
}


@dataclass(frozen=True, kw_only=True)
class ScoringSettings:
    """How subnets are scored.

    Attributes:
        dataloader: Config of the images to score on.
        evaluator: Config of the metric or metrics.
        calibrate_dataloader: Config of the training images for batch norm.
        calibrate_sample_num: How many of them, chosen by ``seed``; 0 or -1 keeps the supernet's running statistics.
        score_key: The metric that is the score.
        cache_gb: Images up to this size stay in memory, for calibration and for scoring each.
        score_on_trained_images: Allow images to score on that the supernet was trained on, as its checkpoint says.
        seed: Of the choice of images and of random augmentation; in a search, of the searcher too.
    """

    dataloader: Mapping[str, Any]
    evaluator: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    calibrate_dataloader: Mapping[str, Any] | None = None
    calibrate_sample_num: int = CALIBRATION_IMAGES
    score_key: str = "accuracy/top1"
    cache_gb: float = 2.0
    score_on_trained_images: bool = False
    seed: int = 0


class SubnetEvaluator:
    """Score subnets one by one: recalibrate batch norm on training images, then run the metric.

    Everything happens on this process alone, on all the images, so that processes can score different subnets at the
    same time. Evaluating changes nothing: weights, running statistics, modes, random states and the active subnet are
    as before. Equal subnets get equal scores.

    Args:
        algorithm: Has ``mutator`` and ``data_preprocessor``; called with ``mode='predict'``.
        scoring: How.

    Raises:
        UserError: A number out of range; calibration without images, or on fewer than 2; images that the supernet was
            trained on, or labels that mean something else than in its training; an unknown ``score_key``, or metrics
            that cannot score what the model predicts.
    """

    def __init__(self, algorithm: nn.Module, scoring: ScoringSettings) -> None:
        self.algorithm = algorithm
        self.score_key = scoring.score_key
        self.seed = scoring.seed
        check_number("calibrate_sample_num", scoring.calibrate_sample_num, -1, whole=True)
        check_number("cache_gb", scoring.cache_gb, 0)
        cache = int(scoring.cache_gb * 2**30)
        options: dict[str, Any] = {"preprocessor": algorithm.data_preprocessor, "cache_bytes": cache, "seed": self.seed}
        self.batches = FixedBatches(scoring.dataloader, where="dataloader", **options)
        self.calibration: FixedBatches | None = None
        training, number = scoring.calibrate_dataloader, scoring.calibrate_sample_num
        if number > 0 and batch_norms(algorithm):
            if number == 1 or training is None:
                problem = "calibrate_sample_num is 1" if training else "calibrate_dataloader is missing"
                raise UserError(
                    f"{problem}: batch norm is recalibrated on training images; give a loader of them and 2 images or "
                    "more, or calibrate_sample_num=0 to keep the supernet's statistics"
                )
            self.calibration = FixedBatches(training, num_images=number, where="calibrate_dataloader", **options)
        check_search_data(self.batches, self.calibration, algorithm, scoring.score_on_trained_images)
        about = algorithm.checkpoint_meta() if isinstance(algorithm, Algorithm) else {}
        self._digests = {
            "architecture": _digest(about.get("architecture")),
            "preprocessor": _digest(_facts(algorithm.data_preprocessor)),
            "dataloader": _digest({**scoring.dataloader, "batch_size": None}),
            "calibrate_dataloader": _digest(training if self.calibration else None),
            "evaluator": _digest(scoring.evaluator),
        }
        self.metrics = Evaluator(scoring.evaluator).metrics
        for metric in self.metrics:
            metric.dataset_meta = self.batches.metainfo
        self._try_out()
        #: Seconds spent so far; what every evaluation does besides is not in them.
        self.seconds = {"recalibration": 0.0, "validation": 0.0}

    @torch.no_grad()
    def _try_out(self) -> None:
        """Score a few images before the work: what the metrics cannot do, and a wrong ``score_key``, is told now."""
        with unchanged(self.algorithm), failing(_UNFIT):
            self.algorithm.eval()
            batch = self.batches.probe()
            if self.calibration is not None:
                self.algorithm(**self.calibration.probe(), mode="tensor")
            try:
                samples = self._predicted(batch, self.algorithm.mutator.active)
            except UserError:  # may be of the statistics of the supernet alone, which the first subnet shows
                return
            check_topk(self.metrics, samples[0].get("pred_score"), "evaluator")
            try:
                metrics = self._scored([(batch, samples)])
            except ValueError:  # may be for want of images, the same
                return
        self._check_score_key(metrics)
        moving = moving_buffers(self.algorithm, batch)
        if moving:
            more = f" and {len(moving) - _SHOWN} more" if len(moving) > _SHOWN else ""
            say(
                f"search: training changes {', '.join(moving[:_SHOWN])}{more}, which are of no batch norm and are not "
                "measured anew: every subnet is scored with the values that all of them have left there"
            )

    def _check_score_key(self, metrics: Mapping[str, float]) -> None:
        if self.score_key not in metrics:
            raise UserError(
                f"score_key '{self.score_key}' is not a metric{nearest(self.score_key, metrics)} "
                f"(the evaluator gives: {', '.join(metrics)})"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What the scores depend on, as plain data; a search may only resume with the same."""
        return {
            "score_key": self.score_key,
            "seed": self.seed,
            "images": self.batches.num_images,
            "metrics": [type(metric).__name__ for metric in self.metrics],
            "calibrate_images": self.calibration.num_images if self.calibration else 0,
            "calibrate_batch_size": self.calibration.batch_size if self.calibration else 0,
            **self._digests,
        }

    @torch.no_grad()
    def evaluate(self, subnet: Subnet) -> dict[str, float]:
        """Return all metrics of ``subnet``, and under ``score`` the one named by ``score_key``.

        Raises:
            UserError: An unknown ``score_key``; an output or a metric that is not a finite number.
        """
        with activated(self.algorithm.mutator, subnet):
            began = time.perf_counter()
            with recalibrated(self.algorithm, self.calibration), failing(_UNFIT):
                if torch.cuda.is_initialized():
                    torch.cuda.synchronize()  # once a subnet: recalibration only waits in the queue until here
                ready = time.perf_counter()
                metrics = self._measure(self.batches, subnet)
                self.seconds["recalibration"] += ready - began
                self.seconds["validation"] += time.perf_counter() - ready
        self._check_score_key(metrics)
        wrong = next((name for name, value in metrics.items() if not math.isfinite(value)), None)
        if wrong is not None:
            raise UserError(f"{wrong} of {subnet} is {metrics[wrong]}; {_BROKEN}")
        return {**metrics, "score": metrics[self.score_key]}

    def _measure(self, batches: Iterable[Mapping[str, Any]], subnet: Subnet) -> dict[str, float]:
        return self._scored((batch, self._predicted(batch, subnet)) for batch in batches)

    def _predicted(self, batch: Mapping[str, Any], subnet: Subnet) -> list[dict[str, Any]]:
        """What the active ``subnet`` says of every image."""
        other = self.algorithm.other_size(batch["inputs"]) if isinstance(self.algorithm, Algorithm) else None
        if other:
            raise UserError(f"dataloader: {other}, so that no budget would hold; set model.input_shape as they are")
        samples = [
            sample.to_dict() if isinstance(sample, BaseDataElement) else sample
            for sample in self.algorithm(**batch, mode="predict")
        ]
        # The largest of nothing but NaN is class 0, so that an accuracy alone would not show it.
        scores = [sample["pred_score"].flatten() for sample in samples if "pred_score" in sample]
        if scores and not bool(torch.isfinite(torch.cat(scores)).all()):
            raise UserError(f"the output of {subnet} is not finite; {_BROKEN}")
        return samples

    def _scored(self, predicted: Iterable[tuple[Mapping[str, Any], list[dict[str, Any]]]]) -> dict[str, float]:
        for metric in self.metrics:
            metric.results.clear()
        for batch, samples in predicted:
            for metric in self.metrics:
                metric.process(batch, samples)
        values: dict[str, float] = {}
        for metric in self.metrics:
            prefix = f"{metric.prefix}/" if metric.prefix else ""
            # Not metric.evaluate(), which gathers results from all processes: these score other subnets.
            found = metric.compute_metrics(metric.results)
            values.update({prefix + name: float(value) for name, value in found.items() if _is_scalar(value)})
            metric.results.clear()
        return values


def _facts(preprocessor: nn.Module) -> dict[str, Any]:
    """What a data preprocessor does to images, as far as its attributes say."""
    plain = {key: value for key, value in vars(preprocessor).items() if isinstance(value, bool | int | float | str)}
    return {**plain, **{name: value.flatten().tolist() for name, value in preprocessor.named_buffers()}}


def _digest(config: Any) -> str:
    """Of a config without what changes no score: folders, which differ between machines, and how data are loaded."""

    def settled(value: Any) -> Any:
        known = value is None or isinstance(value, bool | int | float | str)
        return value if known else getattr(value, "__qualname__", type(value).__qualname__)

    return hashlib.sha256(json.dumps(plain(config, settled, _IDLE_KEYS), sort_keys=True).encode()).hexdigest()[:16]


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float)) or (hasattr(value, "numel") and value.numel() == 1)
