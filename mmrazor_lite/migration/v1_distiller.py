"""``ConfigurableDistiller`` of MMRazor 1.x, which is told what to record and to compare, as a loss of ours."""

from __future__ import annotations

from typing import Any

from mmrazor_lite.walk import kind_of

from .told import Told

WHERE = "model.distiller"
# Keys that may hold nothing: what changes outputs on their way is not carried.
_EMPTY = ("student_trainable", "connectors", "distill_deliveries")
_KNOWN = {"type", "_scope_", "teacher_recorders", "student_recorders", "distill_losses", "loss_forward_mappings"}
_OPTIONS = ("tau", "loss_weight")


def translate(model: dict[str, Any], told: Told) -> None:
    """Put the loss in the place of the distiller: one ``KLDivergence`` of the logits of teacher and student."""
    distiller = model.get("distiller")
    if kind_of(distiller) != "ConfigurableDistiller":
        return
    problem = _problem(distiller)
    if problem is not None:
        told.problem(f"{WHERE}: {problem}; give distiller=dict(type='KLDivergence', tau=1.0), which compares logits")
        return
    (loss,) = distiller["distill_losses"].values()
    model["distiller"] = {"type": "KLDivergence", **{key: loss[key] for key in _OPTIONS if key in loss}}
    told.change(f"{WHERE}.type=ConfigurableDistiller", "KLDivergence: what is compared are the logits of the head")


def _problem(distiller: dict[str, Any]) -> str | None:
    """Why a distiller is none that compares the logits by KL divergence; None where it is."""
    odd = [key for key in _EMPTY if distiller.get(key)] + sorted(set(distiller) - _KNOWN - set(_EMPTY))
    if odd:
        return f"{odd[0]} is not carried"
    losses = distiller.get("distill_losses") or {}
    if len(losses) != 1:
        return f"it has {len(losses)} losses ({', '.join(map(str, losses)) or 'none'}), what is carried is one"
    ((name, loss),) = losses.items()
    if kind_of(loss) != "KLDivergence":
        return f"its loss '{name}' is {kind_of(loss) or 'of no type'}, what is carried is KLDivergence"
    if loss.get("reduction", "batchmean") != "batchmean" or not loss.get("teacher_detach", True):
        return f"its loss '{name}' has another reduction than 'batchmean', or gradients for the teacher"
    unknown = sorted(set(loss) - {"type", "_scope_", "reduction", "teacher_detach", *_OPTIONS})
    if unknown:
        return f"its loss '{name}' has an unknown key '{unknown[0]}'"
    mapping = (distiller.get("loss_forward_mappings") or {}).get(name)
    compared = [_source(distiller, mapping, key) for key in ("preds_S", "preds_T")]
    if any(source is None for source in compared):
        return f"loss_forward_mappings says no preds_S and preds_T of '{name}' that a recorder has"
    other = next((source for source in compared if not source.startswith("head")), None)
    return f"it compares the outputs of '{other}'" if other is not None else None


def _source(distiller: dict[str, Any], mapping: Any, key: str) -> str | None:
    """The module whose output an argument of the loss is; None where that is no output of a module."""
    entry = mapping.get(key) if isinstance(mapping, dict) else None
    if not isinstance(entry, dict) or set(entry) - {"recorder", "from_student"}:
        return None
    side = "student" if entry.get("from_student") else "teacher"
    if (side == "student") != (key == "preds_S"):
        return None
    recorder = (distiller.get(f"{side}_recorders") or {}).get(entry.get("recorder"))
    return str(recorder.get("source")) if kind_of(recorder) == "ModuleOutputs" else None
