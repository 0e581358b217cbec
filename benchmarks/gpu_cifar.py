"""The GPU benchmark's projections: what AutoSlim's table of ResNet-56 and TF-NAS's search would take.

Steps are timed with all that a training step does: images from the device, preprocessing, losses, update. Hooks and the
start of commands are not in.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._timing import interleaved, synchronize
from benchmarks.gpu_figures import Figures, Goal
from benchmarks.gpu_images import random_loader
from benchmarks.gpu_speed import tfnas_steps, tfnas_supernet
from benchmarks.gpu_steps import CIFAR, ROOT, Setting, batch_of, built, laid_out, rate, same_passes

SMALL = "configs/pruning/autoslim/autoslim_resnet56_small_{}_cifar10.py"
TRAIN, TEST = 50_000, 10_000
SUPERNET_EPOCHS, EPOCHS, SEEDS = 60, 200, 3  # of `autoslim-cifar10 --arch resnet56`
TRAININGS = {"full": 1, "slim": 3}  # of each seed: the full network; what is found twice, and the scaled one
TABLE, SEARCH = Goal("<=", 30.0), Goal("<=", 3.0)
# TF-NAS on ImageNet-100: 126,689 images, of which four fifths train weights; 90 epochs, the first 10 without
# architecture steps, then one for every two weight steps.
TFNAS_IMAGES, TFNAS_BATCH, TFNAS_EPOCHS, TFNAS_WITHOUT = 126_689 * 4 // 5, 32, 90, 10


def cifar(figures: Figures, tiny: bool, folder: Path) -> None:
    """Images/s of a supernet's and of plain trainings, seconds of tests and scores, and the time of the whole table."""
    configs = SMALL if tiny else CIFAR
    supernet = built(configs.format("supernet"))
    step_of_supernet = _training(figures, "supernet", configs.format("supernet"), supernet, tiny)
    plain, tests = {}, {}
    for name, subnet in {"full": supernet.search_space.max(), "slim": _half(supernet)}.items():
        file = _written(supernet, subnet, folder / f"{name}.yaml")
        path, options = configs.format("subnet"), [f"model.fix_subnet={file}"]
        network = built(path, options)
        plain[name] = _training(figures, f"{name} network", path, network, tiny)
        tests[name] = _testing(network, path, tiny)
    score, asked = _score(supernet, configs, tiny), _asked(supernet)
    figures.add("subnets that the search scores", asked)
    figures.add("seconds of a score", round(score, 3), "s")
    minutes = {
        "supernet": SUPERNET_EPOCHS * (TRAIN * 4 // 5 // 128) * step_of_supernet / 60,
        "search": asked * score / 60,
        **{
            f"{name} networks": SEEDS * count * EPOCHS * (TRAIN // 128 * plain[name] + tests[name]) / 60
            for name, count in TRAININGS.items()
        },
    }
    facts = {name: round(value, 2) for name, value in minutes.items()}
    figures.add("projected time of AutoSlim's whole table", round(sum(minutes.values()), 1), "min", TABLE, **facts)


def tfnas_search(figures: Figures, tiny: bool, folder: Path) -> None:
    """Steps at the published batch size, and from them the time of an epoch and of the search; images are random."""
    algorithm = tfnas_supernet(tiny)
    for setting in [Setting(2 if tiny else TFNAS_BATCH, fast, fast) for fast in (True, False)]:
        laid_out(algorithm, setting.channels_last)
        images, labels = batch_of(algorithm, setting)
        steps = tfnas_steps(algorithm, images, labels, setting)
        both = algorithm.passes(0)
        with same_passes(algorithm, both):
            times = interleaved(steps, rounds=30, warmup=2, seconds=0.1 if tiny else 4.0)
        with same_passes(algorithm, both[:1]):
            first = interleaved({"one path": steps["weights"]}, rounds=30, warmup=2, seconds=0.1 if tiny else 2.0)
        found = {name: statistics.median(taken) for name, taken in {**times, **first}.items()}
        number = TFNAS_IMAGES // TFNAS_BATCH
        epoch = number * (found["weights"] + found["architecture"] / 2)
        whole = (TFNAS_WITHOUT * number * found["one path"] + (TFNAS_EPOCHS - TFNAS_WITHOUT) * epoch) / 3600
        facts = {**setting.facts, **{f"seconds, {name}": round(value, 4) for name, value in found.items()}}
        figures.add("an epoch of TF-NAS's search, weights and architecture", round(epoch / 60, 2), "min", **facts)
        figures.add("projected time of TF-NAS's search", round(whole, 2), "h", SEARCH, **setting.facts)


def _training(figures: Figures, name: str, path: str, algorithm: nn.Module, tiny: bool) -> float:
    """Seconds of a training step with images from the device, as `--amp` and channels-last run it."""
    from mmrazor_lite.engine.optim import SubnetAmpOptimWrapper

    laid_out(algorithm, True)
    optimizer = torch.optim.SGD(algorithm.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    optim, batch = SubnetAmpOptimWrapper(optimizer), 16 if tiny else 128
    batches = iter(_loader(path, "train_dataloader", tiny, batch))
    seconds = _timed(lambda: algorithm.train_step(next(batches), optim), tiny)
    facts = {"batch": batch, "seconds": round(statistics.median(seconds), 5), "steps": len(seconds)}
    spread = statistics.quantiles(seconds, n=4)
    facts |= {"low": rate(batch, spread[2:]), "high": rate(batch, spread[:1])}
    figures.add(f"ResNet-56, training of the {name}", rate(batch, seconds), "images/s", **facts)
    return statistics.median(seconds)


def _testing(algorithm: nn.Module, path: str, tiny: bool) -> float:
    """Seconds of a test on all test images."""
    loader = _loader(path, "val_dataloader", tiny)
    algorithm.eval()

    @torch.no_grad()
    def test() -> None:
        for batch in loader:
            torch.cat([sample.pred_label for sample in algorithm.val_step(batch)]).tolist()

    return statistics.median(_timed(test, tiny, rounds=5))


def _timed(step: Callable[[], Any], tiny: bool, rounds: int = 100) -> list[float]:
    """Seconds of each of some steps, after two that warm up; the clock waits for the device."""
    seconds, limit = [], 0.1 if tiny else 4.0
    for _ in range(2):
        step()
    start = time.perf_counter()
    while len(seconds) < 3 or (len(seconds) < rounds and time.perf_counter() - start < limit):
        synchronize()
        began = time.perf_counter()
        step()
        synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds


def _loader(path: str, where: str, tiny: bool, batch: int | None = None) -> Any:
    """The data loader of a section, of random images on the device; that of the training has no end."""
    from mmengine.runner import Runner

    from mmrazor_lite.config import load_config
    from mmrazor_lite.engine.resume import seeded_dataloader

    config, training = load_config(ROOT / path)[where].to_dict(), where == "train_dataloader"
    number = 200 if tiny else TRAIN if training else TEST
    config = random_loader(config, number) | ({"batch_size": batch} if batch else {})
    config = seeded_dataloader(config, True, logging.getLogger(__name__)) if training else config
    return Runner.build_dataloader(config, seed=0)


def _score(algorithm: nn.Module, configs: str, tiny: bool) -> float:
    """Seconds of one score of the search, as its config says."""
    from mmrazor_lite.config import load_config
    from mmrazor_lite.engine.evaluator import ScoringSettings, SubnetEvaluator

    config = load_config(ROOT / configs.format("search")).search_cfg.to_dict()
    number = 200 if tiny else TRAIN
    scoring = ScoringSettings(
        dataloader=random_loader(config["dataloader"], number),
        evaluator=config["evaluator"],
        calibrate_dataloader=random_loader(config["calibrate_dataloader"], number),
        calibrate_sample_num=20 if tiny else config["calibrate_sample_num"],
    )
    evaluator = SubnetEvaluator(algorithm, scoring)
    subnet = algorithm.search_space.sample(np.random.default_rng(0))
    return statistics.median(_timed(lambda: evaluator.evaluate(subnet), tiny, rounds=10))


def _asked(algorithm: nn.Module) -> int:
    """How many subnets the greedy search scores on its way down to half of the flops; scores are drawn."""
    from mmrazor_lite.search import GreedySearcher

    space, cost, rng = algorithm.search_space, algorithm.cost_model, np.random.default_rng(0)
    searcher = GreedySearcher(space, cost, [("flops", cost.max()["flops"] / 2)])
    known: set[bytes] = set()
    while not searcher.done:
        rows = searcher.ask()
        known |= {row.tobytes() for row in rows}
        searcher.tell(rows, [{"score": score} for score in rng.random(len(rows)).tolist()])
    return len(known)


def _half(algorithm: nn.Module) -> Any:
    """The uniform subnet of half of the macs."""
    from mmrazor_lite.search import uniform_subnet

    cost = algorithm.cost_model
    return uniform_subnet(algorithm.search_space, cost, "macs", cost.max()["macs"] / 2)


def _written(algorithm: nn.Module, subnet: Any, file: Path) -> Path:
    from mmrazor_lite.subnet import write_subnet

    write_subnet(file, subnet, algorithm.search_space, algorithm.cost_model.of(subnet))
    return file
