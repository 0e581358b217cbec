"""The GPU benchmark's images: scores of subnets beside plain inference, and how fast images come to the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks._timing import interleaved, median_ratio, synchronize
from benchmarks.gpu_figures import Figures, Goal
from benchmarks.gpu_images import random_images, random_loader
from benchmarks.gpu_speed import config
from benchmarks.gpu_steps import CIFAR, DEVICE, ROOT, built, laid_out

AS_FAST = Goal(">=", 0.85)


def evaluation(figures: Figures, tiny: bool, folder: Path) -> None:
    """What a search does for each subnet, beside plain inference of its static network on as many images."""
    if not tiny:
        _evaluated(figures, "ResNet-56", built(CIFAR.format("supernet")), (10_000, 2048), (2000, 512))
    sizes = ((20, 16), (10, 8)) if tiny else ((4096, 1024), (256, 256))
    _evaluated(figures, "MobileNetV2", built(config("autoslim", tiny)), *sizes)


def _evaluated(
    figures: Figures, name: str, algorithm: nn.Module, images: tuple[int, int], batches: tuple[int, int]
) -> None:
    """Of one supernet: numbers of images and sizes of batches, to score on and to recalibrate with."""
    from mmrazor_lite.engine.evaluator import ScoringSettings, SubnetEvaluator

    laid_out(algorithm, True)
    shape, classes = algorithm.input_shape, algorithm.architecture.head.num_classes
    loaders = [
        {"batch_size": batch, "dataset": random_images(number, shape, classes, part)}
        for number, batch, part in zip(images, batches, ("test", "train"), strict=True)
    ]
    scoring = ScoringSettings(
        dataloader=loaders[0],
        evaluator={"type": "Accuracy", "topk": (1,)},
        calibrate_dataloader=loaders[1],
        calibrate_sample_num=images[1],
        cache_gb=16,
    )
    evaluator = SubnetEvaluator(algorithm, scoring)
    for subnet_name, subnet in (("max", algorithm.search_space.max()), ("min", algorithm.search_space.min())):
        static = laid_out(algorithm.mutator.export(subnet).eval(), True)

        @torch.no_grad()
        def plain(static: nn.Module = static) -> None:
            for part in (evaluator.calibration, evaluator.batches):
                for batch in part:
                    images = batch["inputs"].contiguous(memory_format=torch.channels_last)
                    static(images).argmax(1).sum().item()

        steps = {"plain": plain, "evaluation": lambda subnet=subnet: evaluator.evaluate(subnet)}
        times = interleaved(steps, rounds=10, warmup=1, seconds=0.1 if sum(images) < 100 else 5.0)
        figures.add(
            f"{name}: images/s of a score with recalibration / of plain inference",
            round(median_ratio(times["plain"], times["evaluation"]), 3),
            "x",
            AS_FAST,
            subnet=subnet_name,
            images_per_second=round(sum(images) / statistics.median(times["evaluation"])),
            plain_images_per_second=round(sum(images) / statistics.median(times["plain"])),
            images=images,
            rounds=len(times["plain"]),
        )


def images(figures: Figures, tiny: bool, folder: Path) -> None:
    """Images/s of the training images of CIFAR-10 on the device, cropped, flipped and normalised."""
    import logging

    from mmengine.runner import Runner

    from mmrazor_lite.config import load_config
    from mmrazor_lite.engine.resume import seeded_dataloader

    loader = load_config(ROOT / CIFAR.format("supernet")).train_dataloader.to_dict()
    log = logging.getLogger(__name__)
    preprocessor = built(CIFAR.format("supernet")).data_preprocessor
    for batch in [8] if tiny else [128, 512]:
        loader = {**random_loader(loader, 200 if tiny else 50_000), "batch_size": batch}
        began = time.perf_counter()
        batches: Iterator[Any] = iter(Runner.build_dataloader(seeded_dataloader(loader, True, log), seed=0))
        preprocessor(next(batches), True)
        synchronize()
        ready = time.perf_counter() - began
        rates = []
        for _ in range(5):
            count, began = 0, time.perf_counter()
            while time.perf_counter() - began < (0.02 if tiny else 0.5):
                preprocessor(next(batches), True)
                count += 1
            synchronize()
            rates.append(batch * count / (time.perf_counter() - began))
        spread = {"low": round(min(rates)), "high": round(max(rates)), "first_batch_after_seconds": round(ready, 1)}
        what = f"DeviceImages on {DEVICE}, 32x32"
        figures.add(what, round(statistics.median(rates)), "images/s", batch=batch, **spread)
