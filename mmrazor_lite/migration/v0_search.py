"""``searcher`` of MMRazor 0.x as a ``search_cfg``. Source: MMRazor 0.x, ``core.searcher`` and ``search_mmcls.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import nearest, short

from .section import Section
from .v0_evaluation import evaluator, metric_key

_EVOLUTION = {
    "candidate_pool_size": "num_candidates",
    "candidate_top_k": "top_k",
    "max_epoch": "max_epochs",
    "num_mutation": "num_mutation",
    "num_crossover": "num_crossover",
    "mutate_prob": "mutate_prob",
}
_LIMIT = 330 * 1e6  # of EvolutionSearcher, in flops
_MILLION = 1e6


def search_cfg(searcher: Section, of_batch: bool, loaders: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Take ``searcher`` apart; None where it is not known.

    Args:
        searcher: It.
        of_batch: Whether subnets are scored with the statistics of each batch.
        loaders: Of the config in our form; subnets are scored on the images of the test.
    """
    told = searcher.told
    kind = searcher.kind()
    if kind not in _SEARCHERS:
        told.problem(f"searcher.type={short(kind)}: known are {', '.join(_SEARCHERS)}{nearest(str(kind), _SEARCHERS)}")
        return None
    found: dict[str, Any] = {"type": "SearchLoop", **_SEARCHERS[kind](searcher)}
    metrics = searcher.take("metrics", "accuracy", to="search_cfg.evaluator")
    found["evaluator"] = evaluator(metrics, searcher.take("metric_options"), searcher.place("metric"), told)
    wanted = searcher.take("score_key", "accuracy_top-1", to="search_cfg.score_key")
    found["score_key"] = metric_key(wanted)
    if found["score_key"] is None:
        told.problem(f"searcher.score_key={short(wanted)}: give a metric such as 'accuracy_top-1'")
    searcher.refuse("resume_from", "a search goes on from what is in its work dir: give --resume")
    searcher.finish()
    told.change("searcher", "search_cfg")
    if "test_dataloader" not in loaders:
        told.problem("data.test: is missing: subnets are scored on its images")
        return found
    found["dataloader"] = _without_order(loaders["test_dataloader"])
    told.change("data.test", "search_cfg.dataloader, whose images subnets are scored on")
    if not of_batch:
        told.change("algorithm.bn_training_mode=False", "search_cfg.calibrate_sample_num=0")
        return {**found, "calibrate_sample_num": 0}
    told.change("algorithm.bn_training_mode=True", "batch norm of each subnet is recalibrated on images of data.train")
    if "train_dataloader" in loaders:
        found["calibrate_dataloader"] = _without_order(loaders["train_dataloader"])
    return found


def _evolution(searcher: Section) -> dict[str, Any]:
    options = {
        new: searcher.take(old, to=f"search_cfg.searcher.{new}") for old, new in _EVOLUTION.items() if old in searcher
    }
    limits = searcher.section("constraints")
    flops = limits.take("flops", _LIMIT)
    limits.finish()
    searcher.told.change("searcher.constraints.flops", "search_cfg.constraints_range, in millions, the limit included")
    return {
        "searcher": {"type": "EvolutionSearcher", **options},
        "constraints_range": {"flops": (0, _millions(flops, searcher, "constraints.flops"))},
    }


def _greedy(searcher: Section) -> dict[str, Any]:
    targets = searcher.take("target_flops")
    if not isinstance(targets, list | tuple) or not targets:
        searcher.told.problem(f"searcher.target_flops={short(targets)}: give a list of flops, such as [500000000]")
        targets = []
    searcher.told.change("searcher.target_flops", "search_cfg.target_flops, in millions")
    options = {"type": "GreedySearcher"}
    bins = searcher.take("max_channel_bins", to="search_cfg.searcher.max_channel_bins")
    if bins is not None:
        options["max_channel_bins"] = bins
        searcher.told.change("searcher.max_channel_bins", "steps between the widths that were trained")
    searcher.refuse("min_channel_bins", "no width is below the smallest of algorithm.pruner.ratios: remove it", 1)
    return {"searcher": options, "target_flops": [_millions(value, searcher, "target_flops") for value in targets]}


_SEARCHERS = {"GreedySearcher": _greedy, "EvolutionSearcher": _evolution}


def _millions(value: Any, searcher: Section, key: str) -> Any:
    """Flops in millions; a whole number of them stays whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        searcher.told.problem(f"{searcher.place(key)}={short(value)}: give a number of flops")
        return value
    scaled = value / _MILLION
    return int(scaled) if scaled == int(scaled) else scaled


def _without_order(loader: Mapping[str, Any]) -> dict[str, Any]:
    """A loader without how a training goes through its images."""
    return {key: value for key, value in loader.items() if key not in ("sampler", "drop_last", "persistent_workers")}
