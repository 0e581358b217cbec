"""Networks of MMRazor 0.x and mmcls 0.x in our own form. Sources: MMRazor 0.x, ``models``; mmcls 0.x, ``models``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrazor_lite.errors import nearest, short

from .section import Section
from .told import Told

# Batch augmentations of mmcls -> mmpretrain's, which need no number of classes.
_AUGMENTS = {"BatchMixup": "Mixup", "BatchCutMix": "CutMix", "BatchResizeMix": "ResizeMix"}
_HEADS = {"LinearNoBiasClsHead": "BiasFreeLinearClsHead"}
# Stages of the searchable backbones: the numbers of each row of arch_setting, and its group of places.
_SHUFFLE = tuple((row, "all_blocks") for row in ([64, 4], [160, 4], [320, 8], [640, 4]))
_MOBILE = {
    "original": ([16, 1, 1], [24, 2, 2], [32, 3, 2], [64, 4, 2], [96, 3, 1], [160, 3, 2], [320, 1, 1]),
    "proxyless_gpu": ([24, 1, 1], [32, 4, 2], [56, 4, 2], [112, 4, 2], [128, 4, 1], [256, 4, 2], [432, 1, 1]),
}
_KERNELS = (3, 5, 7)
# What the places of a group may be where arch_setting does not say it: name -> class and arguments, in their order.
_DEFAULTS = {
    "all_blocks": {
        **{f"shuffle_{k}x{k}": {"type": "ShuffleBlock", "kernel_size": k} for k in _KERNELS},
        "shuffle_xception": {"type": "ShuffleXception"},
    },
    "first_blocks": {"mb_k3e1": {"type": "MBBlock", "kernel_size": 3, "expand_ratio": 1}},
    "searchable_blocks": {
        **{f"mb_k{k}e{e}": {"type": "MBBlock", "kernel_size": k, "expand_ratio": e} for e in (3, 6) for k in _KERNELS},
        "identity": {"type": "Identity"},
    },
}
_ACTIVATIONS = {"SearchableShuffleNetV2": "ReLU", "SearchableMobileNet": "ReLU6"}  # of a backbone that says none
_WITHOUT = {"with_cp": False, "se_cfg": None, "drop_path_rate": 0.0}  # options of blocks that are not here, when off


def architecture(
    value: Any, where: str, told: Told, mutator: Mapping | None = None, place: str = "model.architecture"
) -> dict[str, Any] | None:
    """Return the classifier inside of an ``architecture``; None where there is none.

    Args:
        value: ``dict(type='MMClsArchitecture', model=...)``.
        where: Its key.
        told: Gets what is said.
        mutator: ``placeholder_mapping``: what the places of a searchable backbone may be; None of any other.
        place: The key of the classifier in our form.
    """
    section = Section(value, where, told)
    section.refuse("type", "a classifier of mmcls is carried, MMClsArchitecture", "MMClsArchitecture")
    section.drop("left out: the parts have their own", "init_cfg")
    network = section.take("model", to=place)
    section.finish()
    if not isinstance(network, Mapping):
        told.problem(f"{where}.model={short(network)}: give the classifier, dict(type='mmcls.ImageClassifier', ...)")
        return None
    found = dict(network)
    if isinstance(found.get("train_cfg"), Mapping):
        found["train_cfg"] = _augmented(Section(found["train_cfg"], f"{where}.model.train_cfg", told))
    head = found.get("head")
    if isinstance(head, Mapping) and _bare(head.get("type")) in _HEADS:
        found["head"] = {**head, "type": _HEADS[_bare(head["type"])]}
        told.change(f"{where}.model.head.type", found["head"]["type"])
    backbone = found.get("backbone")
    if isinstance(backbone, Mapping) and _bare(backbone.get("type")) in _ACTIVATIONS:
        found["backbone"] = _searchable(Section(backbone, f"{where}.model.backbone", told), mutator)
    elif mutator is not None:
        told.problem(f"{where}.model.backbone: no searchable one: known are {', '.join(_ACTIVATIONS)}")
    return found


def num_classes(network: Mapping | None) -> int | None:
    """How many classes a classifier tells apart; None where its head does not say it."""
    head = (network or {}).get("head")
    found = head.get("num_classes") if isinstance(head, Mapping) else None
    return found if type(found) is int else None


def _augmented(section: Section) -> dict[str, Any]:
    """``train_cfg`` of a classifier: augmentations of whole batches, each with its probability."""
    one = isinstance(section.peek("augments"), Mapping)
    given = [section.take("augments")] if one else section.items("augments")
    section.finish()
    augments, probs = [], []
    for index, value in enumerate(given):
        part = Section(value, f"{section.where}.augments.{index}", section.told)
        kind, share = part.kind(), part.take("prob", 1.0)
        part.drop("left out: the head says it", "num_classes")
        if kind == "Identity":  # what is left to 1 is not augmented
            continue
        if kind not in _AUGMENTS:
            hint = nearest(str(kind), _AUGMENTS)
            section.told.problem(f"{part.where}.type={short(kind)}: known are {', '.join(_AUGMENTS)}, Identity{hint}")
        augments.append({"type": _AUGMENTS.get(kind, kind), **part.rest()})
        probs.append(share)
    section.told.change(f"{section.where}.augments", ", ".join(str(part["type"]) for part in augments) or "none")
    return {"augments": augments, "probs": probs} if augments else {}


def _searchable(backbone: Section, mapping: Mapping | None) -> dict[str, Any]:
    """A searchable backbone, with what a mutator puts in its places in its ``arch_setting``, unless it is the usual."""
    kind = _bare(backbone.take("type"))
    for key, off in _WITHOUT.items():
        backbone.refuse(key, "is not here: remove it", off)
    found = {"type": kind, **backbone.rest()}
    if mapping is None:
        return found
    layers = {key: found.get(key) for key in ("conv_cfg", "norm_cfg", "act_cfg")}
    layers["act_cfg"] = layers["act_cfg"] or {"type": _ACTIVATIONS[kind]}
    groups = {name: _candidates(value, f"placeholder_mapping.{name}", backbone.told) for name, value in mapping.items()}
    stages = _SHUFFLE if kind == "SearchableShuffleNetV2" else _mobile_stages(found, backbone)
    missing = sorted({group for _, group in stages} - set(groups))
    if missing:
        backbone.told.problem(f"placeholder_mapping: has no {', '.join(missing)}, which places of {kind} need")
        return found
    if all(_is_usual(groups[group], group, layers) for group in {group for _, group in stages}):
        backbone.told.change("algorithm.mutator.placeholder_mapping", f"the operators that {kind} has by itself")
        return found
    backbone.told.change("algorithm.mutator.placeholder_mapping", "arch_setting of the backbone")
    found.pop("arch_setting_type", None)
    rows = [[*row, {"type": "OneShotMutableOP", "candidates": groups[group]}] for row, group in stages]
    return {**found, "arch_setting": rows}


def _mobile_stages(found: Mapping, backbone: Section) -> tuple:
    name = found.get("arch_setting_type", "original")
    if name not in _MOBILE:
        known = ", ".join(_MOBILE)
        backbone.told.problem(f"{backbone.where}.arch_setting_type={short(name)}: known are {known}")
    rows = _MOBILE.get(name, _MOBILE["original"])
    return tuple((row, "searchable_blocks" if number else "first_blocks") for number, row in enumerate(rows))


def _candidates(value: Any, where: str, told: Told) -> dict[str, dict[str, Any]]:
    """The operators of a group of places: name -> config."""
    group = Section(value, where, told)
    group.refuse("type", "one operator of several runs, OneShotOP", "OneShotOP")
    group.refuse("num_chosen", "one operator runs in each place", 1)
    found = {}
    for name, config in group.section("choices").rest().items():
        part = Section(config, f"{where}.choices.{name}", told)
        for key, off in _WITHOUT.items():
            part.refuse(key, "is not here: remove it", off)
        found[name] = part.rest()
    group.finish()
    return found


def _is_usual(candidates: Mapping[str, Mapping], group: str, layers: Mapping[str, Any]) -> bool:
    """Whether the operators of a group are those that the backbone has by itself, in their order."""
    usual = _DEFAULTS[group]
    if list(candidates) != list(usual):
        return False
    return all(_complete(candidates[name], {}) == _complete(usual[name], layers) for name in usual)


def _complete(candidate: Mapping[str, Any], layers: Mapping[str, Any]) -> dict[str, Any]:
    """An operator with the layers that it has where it says none: those of ``layers``, else those of its class."""
    kind = _bare(candidate.get("type"))
    activation = None if kind == "Identity" else {"type": "ReLU"}
    if layers and kind != "Identity":
        activation = layers["act_cfg"]
    default = {"conv_cfg": layers.get("conv_cfg"), "norm_cfg": layers.get("norm_cfg") or {"type": "BN"}}
    return {**default, "act_cfg": activation, **candidate, "type": kind}


def _bare(name: Any) -> str:
    return str(name).rpartition(".")[2]
