"""The loops of MMRazor 1.x: its searches, which stand in ``train_cfg`` or ``test_cfg``, and its validations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrazor_lite.plain_data import copied
from mmrazor_lite.walk import kind_of

from .told import Told

Section = dict[str, Any]
EVOLUTION, GREEDY = "EvolutionSearchLoop", "AutoSlimGreedySearchLoop"
SEARCHER = {  # option of the evolution -> what it is where a config does not say it
    "max_epochs": 20,
    "num_candidates": 50,
    "top_k": 10,
    "num_mutation": 25,
    "num_crossover": 25,
    "mutate_prob": 0.1,
    "crossover_prob": 0.5,
    "init_candidates": None,
}
LEAST_SAMPLES = 20  # subnets; a predictor that is fitted to fewer says nothing
_PREDICTOR = {"type", "_scope_", "train_samples", "handler_cfg", "handler_ckpt", "encoding_type", "score_key"}
_INPUT_SHAPE = (3, 224, 224)


def translate(config: Section, told: Told) -> None:
    """Make a search the ``search_cfg`` of the config, and name our loops for validation and test."""
    for key in ("search_cfg", "test_cfg", "train_cfg"):
        if kind_of(config.get(key)) in (EVOLUTION, GREEDY):
            section = config.pop(key)
            if key != "search_cfg":
                told.change(key, "search_cfg")
            config["search_cfg"] = _search(section, key, config, told)
            break
    for key, ours in (("val_cfg", "SubnetValLoop"), ("test_cfg", "SubnetTestLoop")):
        section = config.get(key)
        if kind_of(section) in ("SlimmableValLoop", "SubnetValLoop"):
            if kind_of(section) != ours:
                told.change(f"{key}.type={section['type']}", ours)
            section["type"] = ours


def _search(section: Section, key: str, config: Section, told: Told) -> Section:
    kind = kind_of(section)
    section["type"] = "SearchLoop"
    told.change(f"{key}.type={kind}", "SearchLoop")
    if section.pop("resume_from", None):
        told.problem(f"{key}.resume_from: a search goes on by --resume and the same --work-dir; remove it")
    _check_estimator(section.pop("estimator_cfg", None), key, config, told)
    if kind == EVOLUTION:
        _evolution(section, key, told)
    _calibration(section, key, config, told)
    return section


def _evolution(section: Section, key: str, told: Told) -> None:
    options = {name: section.pop(name, default) for name, default in SEARCHER.items()}
    section["searcher"] = {"type": "EvolutionSearcher", **{k: v for k, v in options.items() if v is not None}}
    told.change(f"{key}.num_candidates and the other options of the evolution", "search_cfg.searcher")
    if section.pop("max_keep_ckpts", None) is not None:
        told.change(f"{key}.max_keep_ckpts", "nothing: one search_state.json is kept up to date")
    section["constraints_range"] = section.get("constraints_range", {"flops": (0, 330)}) or {}
    predictor = section.pop("predictor_cfg", None)
    if predictor is not None:
        section["predictor"] = _predictor(predictor, f"{key}.predictor_cfg", told)


def _predictor(config: Any, where: str, told: Told) -> Section:
    """A predictor that the search fits to the first subnets that it evaluates."""
    if not isinstance(config, Mapping) or kind_of(config) != "MetricPredictor" or set(config) - _PREDICTOR:
        odd = sorted(set(config) - _PREDICTOR) if isinstance(config, Mapping) else []
        told.problem(f"{where}: {f'unknown key {odd[0]}' if odd else 'give dict(type=MetricPredictor, ...)'}")
        return {}
    if config.get("handler_ckpt"):
        told.problem(f"{where}.handler_ckpt: weights of MMRazor's predictors are not read; remove it to fit one")
    samples = config.get("train_samples", 2)
    if type(samples) is not int or samples < 1:
        told.problem(f"{where}.train_samples={samples!r}: give the number of subnets to fit to")
        return {}
    number = max(samples, LEAST_SAMPLES)
    more = "" if number == samples else f" (not {samples}: fewer say nothing)"
    told.change(
        f"{where} (MetricPredictor, {kind_of(config.get('handler_cfg')) or 'no handler'})",
        f"search_cfg.predictor=dict(samples={number}): the predictor of this project, fitted to {number} subnets{more}",
    )
    return {"samples": number}


def _calibration(section: Section, key: str, config: Section, told: Told) -> None:
    """Say on which images the statistics of a subnet are measured.

    MMRazor scores with the statistics of the batch, or of the first training images.
    """
    number = section.get("calibrate_sample_num", -1)
    if number == 0 or section.get("calibrate_dataloader") or not section.get("dataloader"):
        return
    if type(number) is int and number < 0:
        section.pop("calibrate_sample_num", None)
    if (config.get("train_dataloader") or {}).get("dataset"):
        section["calibrate_dataloader"] = copied(config["train_dataloader"])
        told.change(f"{key}.calibrate_sample_num", "and search_cfg.calibrate_dataloader: the training images")
    else:
        section["calibrate_dataloader"] = copied(section["dataloader"])
        told.change(
            f"{key} without training images", "search_cfg.calibrate_dataloader: statistics are of the images scored on"
        )


def _check_estimator(estimator: Any, key: str, config: Section, told: Told) -> None:
    """Refuse costs that are counted for images of another size than the model's."""
    model = config.get("model") or {}
    own = tuple(model.get("input_shape") or _INPUT_SHAPE) if isinstance(model, Mapping) else _INPUT_SHAPE
    for part in (estimator, estimator.get("flops_params_cfg")) if isinstance(estimator, Mapping) else ():
        shape = part.get("input_shape") if isinstance(part, Mapping) else None
        if shape is not None and tuple(shape[-3:]) != own:
            told.problem(
                f"{key}.estimator_cfg: input_shape {tuple(shape)} is not the model's {own}, which costs are counted "
                "for; set model.input_shape, or leave estimator_cfg out"
            )
