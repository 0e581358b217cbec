"""The model sections of MMRazor 1.x: AutoSlim, slimmable networks, SPOS, BigNAS, and one fixed subnet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmrazor_lite.walk import kind_of

from . import v1_distiller, v1_ofa, v1_units
from .told import Told

Section = dict[str, Any]
WRAPPERS = ("AutoSlimDDP", "SlimmableNetworkDDP", "BigNASDDP")
# Keys that a config of one subnet has from the config of the supernet beside it; MMRazor passes over them.
_OF_SUPERNETS = (
    *("architecture", "mutators", "distiller", "num_random_samples", "norm_training", "bn_training_mode"),
    *("drop_path_rate", "backbone_dropout_stages"),
)
_OF_ONE_SUBNET = ("SPOS", "BigNAS")  # a supernet in the release candidates, or with fix_subnet one subnet of it
_STATISTICS = "statistics of batch norm are measured on training images for every subnet"


def translated(model: Section, told: Told) -> Section:
    """The ``model`` of a config in our own form; that of another algorithm stays."""
    if kind_of(model) in _OF_ONE_SUBNET and "fix_subnet" in model:
        _one_subnet(model, told)
    translate = _MODELS.get(kind_of(model))
    return model if translate is None else translate(model, told)


def _autoslim(model: Section, told: Told) -> Section:
    _drop(model, "bn_training_mode", told, _STATISTICS)
    if isinstance(model.get("mutator"), dict):
        _take_input_shape(model, told)
        v1_units.flatten(model["mutator"], told)
    v1_distiller.translate(model, told)
    return model


def _slimmable(model: Section, told: Told) -> Section:
    """Several subnets trained together, or one of them: AutoSlim with ``channel_cfg``."""
    model["type"] = "AutoSlim"
    told.change("model.type=SlimmableNetwork", "AutoSlim with channel_cfg")
    index = model.pop("deploy_index", -1)
    mutator = model.get("mutator")
    if isinstance(mutator, dict):
        _take_input_shape(model, told)
        is_said = model.get("channel_cfg") is not None
        if is_said and mutator.pop("channel_unit_cfg", None) is not None:
            told.change("model.mutator.channel_unit_cfg", "nothing: model.channel_cfg says the subnets")
        units = v1_units.taken_out(mutator, told)
        told.change("model.mutator.type=SlimmableChannelMutator", "OneShotChannelMutator")
        mutator["type"] = "OneShotChannelMutator"
        if not is_said:
            model["channel_cfg"] = v1_units.subnets(units, index, told)
    if index != -1:
        told.change(f"model.deploy_index={index}", "model.channel_cfg with that subnet alone")
    return model


def _spos(model: Section, told: Told) -> Section:
    _drop(model, "norm_training", told, _STATISTICS)
    return model


def _bignas(model: Section, told: Told) -> Section:
    """The sandwich, of which ours is called OFA."""
    model["type"] = "OFA"
    model.setdefault("training", "sandwich")
    told.change("model.type=BigNAS", "OFA with training='sandwich'")
    if "mutators" in model and "mutator" not in model:
        told.change("model.mutators", "model.mutator")
        model["mutator"] = model.pop("mutators")
    architecture = model.get("architecture")
    if isinstance(architecture, dict) and v1_ofa.is_classifier(architecture):
        model["architecture"], sizes = v1_ofa.translated(architecture, "model.architecture", told)
        v1_ofa.offer_sizes(model, sizes, told)
    _drop_path(model, told)
    v1_distiller.translate(model, told)
    return model


def _drop_path(model: Section, told: Told) -> None:
    """Name the stages in which images go around blocks; those that the network has not do nothing."""
    asked = model.pop("backbone_dropout_stages", model.get("drop_path_stages", [6, 7]))
    rate = model.pop("drop_path_rate", 0.2)
    architecture = model.get("architecture")
    backbone = architecture.get("backbone") if isinstance(architecture, dict) else None
    rows = backbone.get("arch_setting") if isinstance(backbone, dict) else None
    stages = len(rows) + 1 if isinstance(rows, list | tuple) else None  # the first one is in no row
    known = isinstance(asked, list | tuple) and stages is not None and all(type(number) is int for number in asked)
    there = [number for number in asked if number <= stages] if known else asked
    model.pop("drop_path_stages", None)
    if rate and there:
        model |= {"drop_path_rate": rate, "drop_path_stages": there}
    new = f"model.drop_path_stages={there}" if rate and there else "nothing: no such stage, or no drop_path_rate"
    told.change(f"model.backbone_dropout_stages={asked}", new)


def _one_subnet(model: Section, told: Told) -> None:
    """Make an algorithm with ``fix_subnet``, as the release candidates have it, the ``sub_model`` of 1.0, in place."""
    if model["fix_subnet"] is None:
        del model["fix_subnet"]
        return
    told.change(f"model.type={kind_of(model)} with model.fix_subnet", "sub_model, the architecture of which is cfg")
    model |= {"type": "mmrazor.sub_model", "cfg": model.pop("architecture", None)}
    model.pop("mutator", None)


def _sub_model(model: Section, told: Told) -> Section:
    left = [key for key in _OF_SUPERNETS if model.pop(key, None) is not None]
    if left:
        told.change(f"model: {', '.join(left)}", "nothing: of the supernet's config that this one is based on")
    architecture = model.get("cfg")
    if isinstance(architecture, dict) and v1_ofa.is_classifier(architecture):
        inner, sizes = v1_ofa.translated(architecture, "model.cfg", told)
        model["cfg"] = {"architecture": inner}
        v1_ofa.offer_sizes(model["cfg"], sizes, told)
    return model


_MODELS: dict[str, Callable[[Section, Told], Section]] = {
    "AutoSlim": _autoslim,
    "SlimmableNetwork": _slimmable,
    "SPOS": _spos,
    "BigNAS": _bignas,
    "sub_model": _sub_model,
    "SubModel": _sub_model,
}


def _drop(section: Section, key: str, told: Told, why: str) -> None:
    if section.pop(key, False):
        told.change(f"model.{key}", f"nothing: {why}")


def _take_input_shape(model: Section, told: Told) -> None:
    """Read the size of the images that MMRazor's tracer is shown."""
    parse = model["mutator"].get("parse_cfg")
    shape = v1_units.demo_shape(parse) if isinstance(parse, dict) else None
    if shape is not None and "input_shape" not in model:
        model["input_shape"] = shape
        told.change("model.mutator.parse_cfg.demo_input", f"model.input_shape={shape}")
