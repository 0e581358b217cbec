"""``algorithm`` of MMRazor 0.x as a model in our own form. Source: MMRazor 0.x, ``models.algorithms``, ``pruners``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmrazor_lite.errors import nearest, short

from . import v0_network as networks
from .section import Section
from .told import Told

_INSIDE = "model.architecture"
_NEEDS = "retraining=True needs a subnet file"
_LOGITS = ("head.fc", "head.layers.fc", "head")  # what a student and its teacher may be compared by


@dataclass(frozen=True)
class Model:
    """The section ``model``, and what else of the config depends on it.

    Attributes:
        config: None where the algorithm is not known.
        kind: ``supernet``, ``joint`` or ``subnet``.
        of_batch: Whether subnets are scored with the statistics of each batch, ``bn_training_mode``.
        num_classes: Of the classifier, where it says it.
    """

    config: dict[str, Any] | None = None
    kind: str = "subnet"
    of_batch: bool = False
    num_classes: int | None = None


def algorithm(top: Section, searches: bool) -> Model:
    """Take ``algorithm`` apart; ``searches``: whether the config has a searcher, and so trains nothing."""
    section = top.section("algorithm")
    kind = section.kind()
    if kind not in _ALGORITHMS:
        known = f"{', '.join(_ALGORITHMS)}{nearest(str(kind), _ALGORITHMS)}"
        what = "algorithm: is missing" if section.is_empty else f"algorithm.type={short(kind)}"
        top.told.problem(f"{what}: known are {known}; a config of mmcls alone has no subnets")
        return Model()
    retrains = section.take("retraining", False)
    of_batch = bool(section.take("bn_training_mode", False))
    shape = section.take("input_shape")
    model, network, what = _ALGORITHMS[kind](section, retrains, searches)
    section.finish()
    if shape is not None:
        model["input_shape"] = shape
    top.told.change("algorithm", "model")
    if of_batch and what != "supernet":
        top.told.change("algorithm.bn_training_mode", "left out: one subnet has statistics of its own")
    return Model(model, what, of_batch, networks.num_classes(network))


def _autoslim(section: Section, retrains: Any, searches: bool) -> tuple[dict[str, Any], Mapping | None, str]:
    """AutoSlim: the supernet, or the subnets of ``channel_cfg``."""
    told = section.told
    network = networks.architecture(section.take("architecture"), section.place("architecture"), told)
    model: dict[str, Any] = {"type": "AutoSlim", "architecture": network, "mutator": _width_mutator(section)}
    for key in ("mutator", "mutable_cfg"):
        section.refuse(key, "AutoSlim has none: remove it")
    files, samples = section.take("channel_cfg"), section.take("num_sample_training", 4)
    distiller, init = section.take("distiller"), section.take("init_cfg")
    if init is not None:
        model["init_cfg"] = init
    if retrains:
        told.change("algorithm.retraining", "left out: model.channel_cfg says it")
        if files is None:
            told.problem(
                f"algorithm.channel_cfg: is missing: {_NEEDS} or several, --cfg-options algorithm.channel_cfg=FILE,FILE"
            )
        model["channel_cfg"] = files
        return model, network, "joint" if isinstance(files, list | tuple) else "subnet"
    if files is not None:
        told.change("algorithm.channel_cfg", "left out: it is for retraining=True")
    if type(samples) is not int or samples < 2:
        told.problem(f"algorithm.num_sample_training={short(samples)}: give a whole number of 2 or more")
    else:
        model["num_random_samples"] = samples - 2
        told.change("algorithm.num_sample_training", f"model.num_random_samples={samples - 2}, beside both ends")
    if not searches:
        model["distiller"] = _distiller(distiller, section.place("distiller"), told)
    return model, network, "supernet"


def _width_mutator(section: Section) -> dict[str, Any]:
    """``RatioPruner``: widths are the nearest whole numbers to these shares of the full one."""
    told, pruner = section.told, section.section("pruner")
    kind, ratios = pruner.kind(), pruner.take("ratios")
    fixed = pruner.items("except_start_keys")
    if kind != "RatioPruner" or not isinstance(ratios, list | tuple):
        told.problem(f"algorithm.pruner: is {short(kind)}, known is dict(type='RatioPruner', ratios=(...))")
        ratios = [1.0]
    pruner.finish()
    found = {"type": "OneShotChannelMutator", "candidate_choices": list(ratios), "choice_mode": "ratio"}
    told.change("algorithm.pruner", "model.mutator, OneShotChannelMutator with divisor=1")
    kept = [f"{name}*" for name in fixed if name != "head.fc"]
    if kept:
        found["exclude"] = kept
    return {**found, "divisor": 1, "min_ratio": 0.0}


def _distiller(value: Any, where: str, told: Told) -> dict[str, Any] | None:
    """``SelfDistiller``: subnets learn from the outputs of the largest."""
    if value is None:
        told.problem(f"{where}=None: small subnets learn from the largest here: give dict(type='SelfDistiller', ...)")
        return None
    section = Section(value, where, told)
    section.refuse("type", "subnets learn from the largest, SelfDistiller", "SelfDistiller")
    components = section.items("components")
    section.finish()
    one = Section(components[0] if len(components) == 1 else None, f"{where}.components.0", told)
    modules = [one.take("student_module"), one.take("teacher_module")]
    losses = one.items("losses")
    one.finish()
    loss = Section(losses[0] if len(losses) == 1 else None, f"{where}.components.0.losses.0", told)
    if len(components) != 1 or len(losses) != 1 or modules[0] != modules[1] or modules[0] not in _LOGITS:
        told.problem(f"{where}.components: one loss between outputs of head.fc is known: keep that one")
    loss.refuse("type", "known is KLDivergence", "KLDivergence")
    loss.refuse("reduction", "the mean over the batch is known: remove it", "batchmean")
    loss.take("name")
    found = {"type": "KLDivergence", "tau": loss.take("tau", 1.0), "loss_weight": loss.take("loss_weight", 1.0)}
    loss.finish()
    told.change(where, "model.distiller, KLDivergence between the outputs of the largest subnet and of each other")
    return found


def _spos(section: Section, retrains: Any, searches: bool) -> tuple[dict[str, Any], Mapping | None, str]:
    """SPOS: the supernet of operators, or the subnet of ``mutable_cfg``."""
    told = section.told
    mutator = section.section("mutator")
    mutator.refuse("type", "operators are drawn one at a time, OneShotMutator", "OneShotMutator")
    mapping = mutator.take("placeholder_mapping")
    mutator.drop("left out: the parts have their own", "init_cfg")
    mutator.finish()
    if not isinstance(mapping, Mapping):
        told.problem(f"algorithm.mutator.placeholder_mapping={short(mapping)}: say what each place may be")
        mapping = None
    network = networks.architecture(
        section.take("architecture"), section.place("architecture"), told, mapping, "model.cfg" if retrains else _INSIDE
    )
    for key in ("pruner", "distiller", "channel_cfg"):
        section.refuse(key, "SPOS has none here: remove it")
    file, init = section.take("mutable_cfg"), section.take("init_cfg")
    own = {} if init is None else {"init_cfg": init}
    if not retrains:
        if file is not None:
            told.change("algorithm.mutable_cfg", "left out: it is for retraining=True")
        return {"type": "SPOS", "architecture": network, "mutator": {"type": "NasMutator"}, **own}, network, "supernet"
    told.change("algorithm.retraining, algorithm.mutable_cfg", "model.type='sub_model', model.fix_subnet")
    if file is None:
        told.problem(f"algorithm.mutable_cfg: is missing: {_NEEDS}, --cfg-options algorithm.mutable_cfg=FILE")
    return {"type": "sub_model", "cfg": network, "fix_subnet": file, **own}, network, "subnet"


_ALGORITHMS = {"AutoSlim": _autoslim, "SPOS": _spos}
