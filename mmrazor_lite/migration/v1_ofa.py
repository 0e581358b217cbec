"""MMRazor 1.x's form of the space of Once-for-All: ``SearchableImageClassifier`` around ``AttentiveMobileNetV3``.

Its rows are ranges ``[first, last, step]``, one per stage, and the first stage, the tail and the stem are among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmrazor_lite.walk import kind_of

from .told import Told

Section = dict[str, Any]
_CLASSIFIER, _BACKBONE, _HEAD = "SearchableImageClassifier", "AttentiveMobileNetV3", "DynamicLinearClsHead"
_ROWS = ("kernel_size", "num_blocks", "expand_ratio", "num_out_channels")
# What the arguments of the backbone mean where they are not given.
_STRIDES, _SQUEEZED = [1, 2, 2, 2, 1, 2, 1], [False, False, True, False, True, True, True]
_ACTIVATIONS = ["Swish"] * 9
_READ = {
    *("type", "_scope_", "arch_setting", "widen_factor", "out_indices", "conv_cfg", "norm_cfg", "act_cfg_list"),
    *("stride_list", "with_se_list", "zero_init_residual", "fine_grained_mode", "with_attentive_shortcut", "init_cfg"),
}
_OFF = {"frozen_stages": -1, "norm_eval": False, "with_cp": False}  # options that must be as they are by default


def is_classifier(architecture: Section) -> bool:
    """Whether an architecture is MMRazor's classifier of networks of elastic layers."""
    return kind_of(architecture) == _CLASSIFIER


def translated(classifier: Section, where: str, told: Told) -> tuple[Section, list[int]]:
    """Return the classifier of ours, and the heights of images that are offered; none where there is one size."""
    result = {key: value for key, value in classifier.items() if key not in ("_scope_", "connect_head")}
    result["type"] = "mmpretrain.ImageClassifier"
    told.change(f"{where}.type={_CLASSIFIER}", "ImageClassifier; its image sizes are mutator.resolutions")
    sizes = _sizes(result.pop("input_resizer_cfg", None), where, told)
    if kind_of(result.get("head")) == _HEAD:
        result["head"] = {**result["head"], "type": "mmpretrain.LinearClsHead"}
        told.change(f"{where}.head.type={_HEAD}", "LinearClsHead")
    if kind_of(result.get("backbone")) == _BACKBONE:
        result["backbone"] = _backbone(result["backbone"], f"{where}.backbone", told)
        if kind_of(result.get("neck")) == "GlobalAveragePooling":
            del result["neck"]
            told.change(f"{where}.neck", "nothing: OFAMobileNetV3 gives pooled features")
    return result, sizes


def offer_sizes(algorithm: Section, sizes: list[int], told: Told) -> None:
    """Let the mutator of an algorithm offer image sizes, of which the largest is that of its input."""
    if not sizes:
        return
    mutator = algorithm.get("mutator") or {}
    algorithm["mutator"] = {"type": "NasMutator", **{k: v for k, v in mutator.items() if k not in ("type", "_scope_")}}
    algorithm["mutator"].setdefault("resolutions", sizes)
    if "input_shape" not in algorithm:
        algorithm["input_shape"] = (3, sizes[-1], sizes[-1])
        told.change(
            "input_resizer_cfg", f"mutator.resolutions, one for each step; input_shape={(3, sizes[-1], sizes[-1])}"
        )


def _sizes(config: Any, where: str, told: Told) -> list[int]:
    given = config.get("input_sizes") if isinstance(config, dict) else None
    if given is None:
        return []
    square = isinstance(given, list | tuple) and all(
        isinstance(size, list | tuple) and len(size) == 2 and size[0] == size[1] and type(size[0]) is int
        for size in given
    )
    if not square or not given:
        told.problem(f"{where}.input_resizer_cfg.input_sizes: give square sizes such as [[128, 128], [224, 224]]")
        return []
    return sorted({size[0] for size in given})


def _backbone(given: Section, where: str, told: Told) -> Section:
    """``OFAMobileNetV3`` with the same network and kernels, ratios and depths to choose."""
    unknown = sorted(set(given) - _READ - set(_OFF))
    problems = [f"unknown key '{key}'" for key in unknown]
    problems += [f"{key}={given[key]!r} is not carried" for key, off in _OFF.items() if given.get(key, off) != off]
    if given.get("with_attentive_shortcut", True):
        problems.append(
            "with_attentive_shortcut=True is AttentiveNAS's network, which is not carried; here it is False"
        )
    if not given.get("fine_grained_mode", False):
        problems.append("fine_grained_mode=False gives all blocks of a stage one kernel and ratio; here it is True")
    if kind_of(given.get("conv_cfg")) != "OFAConv2d":
        problems.append("conv_cfg: kernels are made by matrices here, as Once-for-All does: dict(type='OFAConv2d')")
    rows = _rows(given.get("arch_setting"), problems)
    if rows is not None:
        result = _network(given, rows, problems, f"{where}.arch_setting", told)
    for problem in problems:
        told.problem(f"{where}: {problem}")
    if problems:
        return given
    told.change(f"{where}.type={_BACKBONE}", "OFAMobileNetV3, stages in rows, the first one and the tail apart")
    return result


def _rows(setting: Any, problems: list[str]) -> dict[str, list[list[int]]] | None:
    """Key -> the values of each row, ranges written out."""
    if not isinstance(setting, dict) or sorted(setting) != sorted(_ROWS):
        problems.append(f"arch_setting must have the keys {', '.join(_ROWS)}")
        return None
    found: dict[str, list[list[int]]] = {}
    for key in _ROWS:
        ranges = setting[key] if isinstance(setting[key], list | tuple) else [setting[key]]
        if not all(_is_range(row) for row in ranges):
            problems.append(f"arch_setting.{key}: each row is [first, last, step], whole numbers")
            return None
        found[key] = [list(range(row[0], row[1] + 1, row[2])) for row in ranges]
    stages = len(found["kernel_size"])
    lengths = {"num_blocks": stages, "expand_ratio": stages + 1, "num_out_channels": stages + 2}
    wrong = [key for key, length in lengths.items() if len(found[key]) != length]
    if wrong:
        problems.append(f"arch_setting: {len(found[wrong[0]])} rows of {wrong[0]} beside {stages} of kernel_size")
    if stages < 2:
        problems.append("arch_setting: there is no stage behind the first one")
    return found if not wrong and stages > 1 else None


def _is_range(row: Any) -> bool:
    whole = isinstance(row, list | tuple) and len(row) == 3 and all(type(value) is int for value in row)
    return whole and row[0] <= row[1] and row[0] > 0 and row[2] > 0


def _network(given: Section, rows: dict[str, list[list[int]]], problems: list[str], where: str, told: Told) -> Section:
    stages = len(rows["kernel_size"])
    strides = _listed(given, "stride_list", _STRIDES, stages, problems)
    squeezed = _listed(given, "with_se_list", _SQUEEZED, stages, problems)
    acts = _listed(given, "act_cfg_list", _ACTIVATIONS, stages + 2, problems)
    if problems:
        return {}
    first = [rows[key][0] for key in ("kernel_size", "num_blocks", "expand_ratio")]
    if first != [[3], [1], [1]] or strides[0] != 1 or squeezed[0]:
        problems.append("arch_setting: the first stage is one block of kernel 3, ratio 1, stride 1, without choices")
    if (acts[0], acts[1], acts[-1]) != ("HSwish", "ReLU", "HSwish"):
        problems.append("act_cfg_list: stem and tail have HSwish here, the first block has ReLU")
    widths = [values[-1] for values in rows["num_out_channels"]]
    if any(len(values) > 1 for values in rows["num_out_channels"]):
        told.change(f"{where}.num_out_channels", f"{widths}: stages give their full widths, as in Once-for-All")
    blocks = [values[-1] for values in rows["num_blocks"]]
    tail = widths[-2] * rows["expand_ratio"][-1][-1]
    network = {
        "type": "OFAMobileNetV3",
        "arch_setting": [
            [widths[stage + 1], blocks[stage], strides[stage], acts[stage + 1], squeezed[stage]]
            for stage in range(1, stages)
        ],
        "width_mult": given.get("widen_factor", 1.0),
        "kernel_sizes": _per_stage(rows["kernel_size"][1:]),
        "expand_ratios": _per_stage(rows["expand_ratio"][1:-1]),
        "depths": _per_stage(rows["num_blocks"][1:]),
        "stem_channels": widths[0],
        "first_channels": widths[1],
        "tail_channels": [tail, widths[-1]],
        "dropout": 0.0,
        "zero_init_residual": given.get("zero_init_residual", True),
        "norm_cfg": _norm(given.get("norm_cfg")),
    }
    return network | ({"init_cfg": given["init_cfg"]} if given.get("init_cfg") else {})


def _listed(given: Section, key: str, default: Sequence, least: int, problems: list[str]) -> list:
    values = list(given.get(key) or default)
    if len(values) < least:
        problems.append(f"{key} has {len(values)} entries, {least} are needed")
    return values if key != "act_cfg_list" else [*values[: least - 1], values[-1]]  # the last one is the tail's


def _per_stage(values: list[list[int]]) -> list:
    """The candidates of all stages where they are the same, else those of each."""
    return values[0] if all(row == values[0] for row in values) else values


def _norm(config: Any) -> Section:
    options = {key: value for key, value in (config or {}).items() if key not in ("type", "_scope_")}
    return {"type": "BN", **options}
