"""Validation and test of every subnet that an algorithm names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.dist import broadcast, is_distributed
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, ValLoop
from mmengine.runner.amp import autocast
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from mmrazor_lite.engine.batches import CALIBRATION_IMAGES, FixedBatches
from mmrazor_lite.engine.ddp import unwrapped
from mmrazor_lite.engine.first_use import check_topk, probe_batch
from mmrazor_lite.engine.mmrazor_search import check_estimator
from mmrazor_lite.errors import UserError, check_number, failing
from mmrazor_lite.models.algorithms.base import Algorithm
from mmrazor_lite.models.calibration import activated, batch_norms, recalibrated, unchanged
from mmrazor_lite.registry import LOOPS
from mmrazor_lite.subnet import Subnet

_CACHE_BYTES = 512 << 20


@LOOPS.register_module()
class SubnetValLoop(ValLoop):
    """Evaluates each of ``algorithm.named_subnets()`` and puts its name before its metrics.

    The running statistics of a supernet are an average over all the subnets it trained and fit none of them, so they
    are recalibrated for each subnet on training images, and restored afterwards. A model with nothing to switch is
    evaluated as it is.

    Args:
        runner: The runner.
        dataloader: Images to evaluate on, or their config.
        evaluator: Metrics, or their config.
        fp16: Use mixed precision.
        calibrate_sample_num: Training images for recalibration; 0 or -1 keeps the statistics. For supernets only.
        calibrate_dataloader: Config of these images; by default that of the training images.
        evaluate_fixed_subnet: MMRazor's; what is evaluated follows from the model, so ``True`` needs one fixed subnet.
        estimator_cfg: MMRazor's; costs need no options, so it may only say the input size that the model has.

    Raises:
        UserError: No images to recalibrate on, or options that the model contradicts.
    """

    stage = "val"

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | Mapping[str, Any],
        evaluator: Evaluator | Mapping[str, Any] | list,
        fp16: bool = False,
        calibrate_sample_num: int = CALIBRATION_IMAGES,
        calibrate_dataloader: Mapping[str, Any] | None = None,
        evaluate_fixed_subnet: bool = False,
        estimator_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        check_number(f"{self.stage}_cfg.calibrate_sample_num", calibrate_sample_num, -1, whole=True)
        super().__init__(runner, dataloader, evaluator, fp16)
        self.algorithm = unwrapped(runner.model)
        if evaluate_fixed_subnet and getattr(self.algorithm, "kind", None) != "subnet":
            raise UserError(
                f"{self.stage}_cfg.evaluate_fixed_subnet=True: the model is no fixed subnet; set model.type='sub_model'"
            )
        if estimator_cfg:
            check_estimator(estimator_cfg, getattr(self.algorithm, "input_shape", ()))
        self.calibration: FixedBatches | None = None
        shares_norms = getattr(self.algorithm, "kind", None) == "supernet" and batch_norms(self.algorithm)
        if calibrate_sample_num > 0 and shares_norms:
            config = calibrate_dataloader or runner.cfg.get("train_dataloader")
            self._images = "calibrate_dataloader" if calibrate_dataloader else "train_dataloader"
            if config is None:
                raise UserError(
                    f"{self.stage}_cfg: batch norm is recalibrated on training images; give calibrate_dataloader, or "
                    "calibrate_sample_num=0 to keep the supernet's statistics"
                )
            self.calibration = FixedBatches(
                config,
                self.algorithm.data_preprocessor,
                num_images=calibrate_sample_num,
                seed=self.algorithm.seed,
                cache_bytes=_CACHE_BYTES,
                where=self._images,
            )

    @torch.no_grad()
    def try_out(self) -> None:
        """Evaluate a few images before the work: what the metrics or the images cannot do is told now.

        Raises:
            UserError: They cannot; names the section.
        """
        batch = probe_batch(self.dataloader.dataset, self.dataloader.collate_fn, f"{self.stage}_dataloader")
        with unchanged(self.algorithm), autocast(enabled=self.fp16):
            self.algorithm.eval()
            with failing(f"the model cannot predict the images of {self.stage}_dataloader"):
                outputs = self.algorithm.val_step(batch)
            scores = outputs[0].get("pred_score") if isinstance(outputs[0], Mapping | BaseDataElement) else None
            check_topk(self.evaluator.metrics, scores, f"{self.stage}_evaluator")
            if self.calibration is not None:
                with failing(f"the model cannot be recalibrated on the images of {self._images}"):
                    self.algorithm(**self.calibration.probe(), mode="tensor")
            with self._scoring():
                try:
                    self.evaluator.process(data_samples=outputs, data_batch=batch)
                    self.evaluator.evaluate(len(outputs))
                except ValueError:  # may be for want of images, which the first of all evaluations shows
                    for metric in self.evaluator.metrics:
                        metric.results.clear()

    def run(self) -> dict[str, float]:
        """Evaluate and return all metrics, such as ``max_subnet.accuracy/top1``."""
        self._call_hooks("before_{}")
        self._call_hooks("before_{}_epoch")
        if is_distributed():  # every process saw other images; evaluate the statistics that a checkpoint holds
            for buffer in self.algorithm.buffers():
                broadcast(buffer)
        self.algorithm.eval()
        named = self.algorithm.named_subnets() if isinstance(self.algorithm, Algorithm) else {}
        found: dict[str, dict[str, float]] = {}
        for name, subnet in (named or {"": None}).items():
            with nullcontext() if subnet is None else self._active(subnet):
                for index, batch in enumerate(self.dataloader):
                    self.run_iter(index, batch)
                with self._scoring():
                    found[name] = self.evaluator.evaluate(len(self.dataloader.dataset))
        if named:
            table = results_table(found, self.algorithm.resources())
            self.runner.logger.info(f"Results of every subnet ({self.stage}):\n{table}")
        metrics = {f"{name}.{key}" if name else key: value for name in found for key, value in found[name].items()}
        self._call_hooks("after_{}_epoch", metrics=metrics)
        self._call_hooks("after_{}")
        return metrics

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Evaluate one batch."""
        self._call_hooks("before_{}_iter", batch_idx=idx, data_batch=data_batch)
        with autocast(enabled=self.fp16):
            outputs = self.algorithm.val_step(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self._call_hooks("after_{}_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)

    def _scoring(self) -> AbstractContextManager:
        return failing(f"{self.stage}_evaluator cannot score what the model predicts")

    @contextmanager
    def _active(self, subnet: Subnet) -> Iterator[None]:
        with activated(self.algorithm.mutator, subnet), recalibrated(self.algorithm, self.calibration):
            yield

    def _call_hooks(self, name: str, **kwargs: Any) -> None:
        self.runner.call_hook(name.format(self.stage), **kwargs)


@LOOPS.register_module()
class SubnetTestLoop(SubnetValLoop):
    """The same as a test."""

    stage = "test"


def results_table(found: Mapping[str, Mapping[str, float]], costs: Mapping[str, Mapping[str, int]]) -> str:
    """One line per subnet with its macs and params, in millions, and every metric that is a number."""
    keys = [key for key, value in next(iter(found.values())).items() if isinstance(value, int | float)]
    rows = [["", "macs", "params", *keys]]
    for name, metrics in found.items():
        cost = [f"{costs[name][key] / 1e6:.3f} M" for key in ("macs", "params")]
        rows.append([name, *cost, *(f"{metrics[key]:.2f}" for key in keys)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
