"""Metrics and validation of MMRazor 0.x in our own form. Sources: mmcls 0.x, ``datasets``; mmcv 1.x, ``EvalHook``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mmrazor_lite.errors import nearest, short

from .section import Section
from .told import Told

_TOPK = (1, 5)  # mmcls's default
_ITEMS = {"precision": "precision", "recall": "recall", "f1_score": "f1-score", "support": "support"}
_METRICS = ("accuracy", *_ITEMS)
# What validations call the subnet whose metric tells the best checkpoint, by what the model is.
_FIRST = {"supernet": "max_subnet.", "joint": "subnet_1.", "subnet": ""}


@dataclass(frozen=True)
class Evaluation:
    """What a validation gives, and when there is one.

    Attributes:
        evaluator: Config of the metric, or of the metrics.
        loop: ``val_interval`` and ``val_begin`` of ``train_cfg``.
        best: ``save_best`` and ``rule`` of the checkpoint hook.
    """

    evaluator: Any
    loop: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)


def evaluator(metrics: Any, options: Any, where: str, told: Told) -> Any:
    """Return the config of the metrics that mmcls calls ``metrics`` (a name or a list), with their ``options``."""
    names = [metrics] if isinstance(metrics, str) else metrics
    if not isinstance(names, list | tuple) or not names or not all(name in _METRICS for name in names):
        unknown = next((name for name in names if name not in _METRICS), names) if isinstance(names, list) else names
        hint = nearest(str(unknown), _METRICS)
        told.problem(f"{where}={short(metrics)}: metrics of images with one label are {', '.join(_METRICS)}{hint}")
        names = ["accuracy"]
    given = Section(options, f"{where}_options", told)
    topk, thrs = given.take("topk", _TOPK), given.take("thrs")
    average = given.take("average_mode", "macro")
    given.finish()
    common = {} if thrs is None else {"thrs": thrs}
    found = [{"type": "Accuracy", "topk": topk, **common}] if "accuracy" in names else []
    items = [_ITEMS[name] for name in names if name in _ITEMS]
    if items:
        average = None if average == "none" else average
        found.append({"type": "SingleLabelMetric", "items": items, "average": average, **common})
    return found[0] if len(found) == 1 else found


def metric_key(name: Any) -> str | None:
    """Return what a validation here calls the metric ``name`` of mmcls; None where it is none."""
    if name == "accuracy":
        return "accuracy/top1"
    if isinstance(name, str) and name.startswith("accuracy_top-"):
        return f"accuracy/top{name.removeprefix('accuracy_top-')}"
    return f"single-label/{_ITEMS[name]}" if isinstance(name, str) and name in _ITEMS else None


def evaluation(section: Section, by_epoch: bool, kind: str) -> Evaluation:
    """Take ``evaluation`` apart.

    Args:
        section: It, which may be empty.
        by_epoch: Whether the training is counted in epochs.
        kind: What the model is: supernet, joint or subnet.
    """
    told = section.told
    metrics = evaluator(
        section.take("metric", "accuracy", to="val_evaluator"),
        section.take("metric_options"),
        section.place("metric"),
        told,
    )
    section.drop(f"train_cfg.by_epoch={by_epoch}, of the runner", "by_epoch")
    loop = {"val_interval": section.take("interval", 1, to="train_cfg.val_interval")}
    start = section.take("start")
    if start is not None:
        loop["val_begin"] = start
        told.change(
            "evaluation.start", "train_cfg.val_begin: none before the first step, later ones at whole intervals"
        )
    best: dict[str, Any] = {}
    wanted, rule = section.take("save_best"), section.take("rule")
    if wanted is not None:
        key = metric_key(wanted)
        if wanted != "auto" and key is None:
            told.problem(f"evaluation.save_best={short(wanted)}: give 'auto', or a metric such as 'accuracy_top-1'")
        best["save_best"] = "auto" if key is None else f"{_FIRST[kind]}{key}"
        told.change("evaluation.save_best", f"default_hooks.checkpoint.save_best={best['save_best']!r}")
        if rule is not None:
            best["rule"] = rule
    section.drop(
        "left out: no result depends on it",
        *("gpu_collect", "tmpdir", "broadcast_bn_buffer", "greater_keys", "less_keys", "priority"),
    )
    section.refuse("out_dir", "checkpoints are in the work dir: give --work-dir")
    section.finish()
    if kind == "supernet":
        told.change("evaluation", "every validation shows the largest and the smallest subnet, batch norm recalibrated")
    return Evaluation(metrics, loop, best)
