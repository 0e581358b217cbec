"""The search loop of a config, under our names and MMRazor's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmrazor_lite.engine.search_loop import SearchLoop
from mmrazor_lite.engine.searchers import check_arguments
from mmrazor_lite.errors import UserError, nearest
from mmrazor_lite.registry import LOOPS
from mmrazor_lite.shapes import image_shape

MMRAZOR_RANGE = {"flops": (0, 330)}


def build_search_loop(search_cfg: Mapping[str, Any], **context: Any) -> SearchLoop:
    """Build the loop of a ``search_cfg``, refusing unknown keys with the nearest one.

    Args:
        search_cfg: ``type`` and its arguments: of :class:`SearchLoop` (also under MMRazor's name
            ``AutoSlimGreedySearchLoop``), or of :func:`evolution_search_loop` (``EvolutionSearchLoop``).
        **context: Arguments that the config need not give (algorithm, work_dir, checkpoint ...).

    Raises:
        UserError: An unknown key or type, a missing key, and what :class:`SearchLoop` refuses.
    """
    config = dict(search_cfg)
    kind = config.pop("type", "SearchLoop")
    loop = LOOPS.get(kind) if isinstance(kind, str) and kind.split(".")[-1] in LOOPS.module_dict else None
    if loop is None:
        raise UserError(f"search_cfg: unknown type {kind!r}{nearest(str(kind), LOOPS.module_dict)}")
    arguments = {**context, **config}
    check_arguments(loop, arguments, "search_cfg")
    return loop(**arguments)


def is_search_loop(kind: Any) -> bool:
    """Whether what a config's ``type`` names is the search loop, under whichever name."""
    return kind is evolution_search_loop or (inspect.isclass(kind) and issubclass(kind, SearchLoop))


@LOOPS.register_module(name="EvolutionSearchLoop")
def evolution_search_loop(
    algorithm: nn.Module,
    dataloader: Mapping[str, Any],
    evaluator: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    max_epochs: int = 20,
    max_keep_ckpts: int | None = None,
    resume_from: str | None = None,
    num_candidates: int = 50,
    top_k: int = 10,
    num_mutation: int = 25,
    num_crossover: int = 25,
    mutate_prob: float = 0.1,
    crossover_prob: float = 0.5,
    calibrate_sample_num: int = -1,
    constraints_range: Mapping[str, Any] | None = MMRAZOR_RANGE,
    estimator_cfg: Mapping[str, Any] | None = None,
    predictor_cfg: Mapping[str, Any] | None = None,
    score_key: str = "accuracy/top1",
    init_candidates: Sequence[Any] | None = None,
    calibrate_dataloader: Mapping[str, Any] | None = None,
    latency_table: str | Path | None = None,
    predictor: str | Path | None = None,
    cache_gb: float = 2.0,
    score_on_trained_images: bool = False,
    seed: int = 0,
    work_dir: str | Path = ".",
    checkpoint: str | Path | None = None,
    config: str | None = None,
) -> SearchLoop:
    """Build a :class:`SearchLoop` with an ``EvolutionSearcher`` from the options of MMRazor's ``EvolutionSearchLoop``.

    Two of them mean something else here. ``calibrate_sample_num=-1``, MMRazor's default, recalibrates on as many
    images as :class:`SearchLoop` does by default (0 turns it off); ``max_keep_ckpts`` changes nothing, as the one state
    file is replaced after each epoch.

    Raises:
        UserError: A predictor, ``resume_from``, an estimator for another input size, and what the loop refuses.
    """
    if predictor_cfg is not None:
        raise UserError(
            "predictor_cfg is not supported: MMRazor's predictors are fitted during the search; remove it, or give "
            "predictor=FILE, one that tools/predictor/train.py wrote"
        )
    if resume_from is not None:
        raise UserError("resume_from is not supported: give the same --work-dir and --resume instead")
    check_estimator(estimator_cfg or {}, algorithm.input_shape)
    if max_keep_ckpts is not None:
        print_log("search: max_keep_ckpts has no effect: one search_state.json is kept up to date", logger="current")
    if calibrate_sample_num < 0:
        calibrate_sample_num = inspect.signature(SearchLoop).parameters["calibrate_sample_num"].default
        print_log(
            f"search: batch norm is recalibrated on {calibrate_sample_num} images per subnet (calibrate_sample_num=0 "
            "turns it off)",
            logger="current",
        )
    searcher = {
        "type": "EvolutionSearcher",
        "max_epochs": max_epochs,
        "num_candidates": num_candidates,
        "top_k": top_k,
        "num_mutation": num_mutation,
        "num_crossover": num_crossover,
        "mutate_prob": mutate_prob,
        "crossover_prob": crossover_prob,
        "init_candidates": init_candidates,
    }
    return SearchLoop(
        algorithm,
        dataloader,
        evaluator,
        searcher,
        constraints_range={} if constraints_range is None else constraints_range,
        latency_table=latency_table,
        predictor=predictor,
        calibrate_dataloader=calibrate_dataloader,
        calibrate_sample_num=calibrate_sample_num,
        score_key=score_key,
        cache_gb=cache_gb,
        score_on_trained_images=score_on_trained_images,
        seed=seed,
        work_dir=work_dir,
        checkpoint=checkpoint,
        config=config,
    )


def check_estimator(config: Mapping[str, Any], input_shape: tuple[int, ...]) -> None:
    """Refuse an ``estimator_cfg`` for images of another size: costs are counted for the model's."""
    for part in (config, config.get("flops_params_cfg") or {}):
        shape = part.get("input_shape")
        if shape is not None and image_shape(shape, "estimator_cfg.input_shape") != tuple(input_shape):
            raise UserError(
                f"estimator_cfg: input_shape {tuple(shape)} is not the model's {tuple(input_shape)}, which costs are "
                "counted for; set model.input_shape, or leave estimator_cfg out"
            )
