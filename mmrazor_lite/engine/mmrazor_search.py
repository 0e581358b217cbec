"""The options of MMRazor's loops, as ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmrazor_lite.engine.batches import CALIBRATION_IMAGES
from mmrazor_lite.engine.evaluator import ScoringSettings
from mmrazor_lite.engine.search_settings import SearchSettings
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import LOOPS
from mmrazor_lite.shapes import image_shape

_EVOLUTION = ("max_epochs", "num_candidates", "top_k", "num_mutation", "num_crossover", "mutate_prob", "crossover_prob",
              "init_candidates")  # fmt: skip


@LOOPS.register_module(name="EvolutionSearchLoop")
@dataclass(frozen=True, kw_only=True)
class MMRazorEvolution(ScoringSettings):
    """The options of MMRazor's ``EvolutionSearchLoop``, and ``latency_table``, ``divisor`` and ``predictor``.

    Two of them mean something else here. ``calibrate_sample_num=-1``, MMRazor's default, recalibrates on as many
    images as a :class:`SearchLoop` does by default (0 turns it off); ``max_keep_ckpts`` changes nothing, as the one
    state file is replaced after each epoch.
    """

    calibrate_sample_num: int = -1
    max_epochs: int = 20
    max_keep_ckpts: int | None = None
    resume_from: str | None = None
    num_candidates: int = 50
    top_k: int = 10
    num_mutation: int = 25
    num_crossover: int = 25
    mutate_prob: float = 0.1
    crossover_prob: float = 0.5
    constraints_range: Mapping[str, Any] | None = field(default_factory=lambda: {"flops": (0, 330)})
    estimator_cfg: Mapping[str, Any] | None = None
    predictor_cfg: Mapping[str, Any] | None = None
    init_candidates: Sequence[Any] | None = None
    latency_table: str | Path | None = None
    divisor: str | None = None
    predictor: str | Path | None = None

    def ours(self, input_shape: Sequence[int]) -> SearchSettings:
        """The same search in our words, of a model for images of ``input_shape``.

        Raises:
            UserError: A predictor, ``resume_from``, an estimator for another input size.
        """
        if self.predictor_cfg is not None:
            raise UserError(
                "predictor_cfg is not supported: MMRazor's predictors are fitted during the search; remove it, or give "
                "predictor=FILE, one that tools/predictor/train.py wrote"
            )
        if self.resume_from is not None:
            raise UserError("resume_from is not supported: give the same --work-dir and --resume instead")
        check_estimator(self.estimator_cfg or {}, input_shape)
        if self.max_keep_ckpts is not None:
            print_log(
                "search: max_keep_ckpts has no effect: one search_state.json is kept up to date", logger="current"
            )
        scoring = {entry.name: getattr(self, entry.name) for entry in fields(ScoringSettings)}
        if self.calibrate_sample_num < 0:
            scoring["calibrate_sample_num"] = CALIBRATION_IMAGES
            print_log(
                f"search: batch norm is recalibrated on {CALIBRATION_IMAGES} images per subnet (calibrate_sample_num=0 "
                "turns it off)",
                logger="current",
            )
        return SearchSettings(
            **scoring,
            searcher={"type": "EvolutionSearcher", **{key: getattr(self, key) for key in _EVOLUTION}},
            constraints_range=self.constraints_range or {},
            latency_table=self.latency_table,
            divisor=self.divisor,
            predictor=self.predictor,
        )


def check_estimator(config: Mapping[str, Any], input_shape: Sequence[int]) -> None:
    """Refuse an ``estimator_cfg`` for images of another size: costs are counted for the model's."""
    for part in (config, config.get("flops_params_cfg") or {}):
        shape = part.get("input_shape")
        if shape is not None and image_shape(shape, "estimator_cfg.input_shape") != tuple(input_shape):
            raise UserError(
                f"estimator_cfg: input_shape {tuple(shape)} is not the model's {tuple(input_shape)}, which costs are "
                "counted for; set model.input_shape, or leave estimator_cfg out"
            )
