"""What a config file that is not for this project is for, seen in its text: nothing of it is run, no base is needed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import not_carried
from .not_carried import CARRIED, DISTILLATION, L1_NORM, PACKAGES, QUANTIZATION

# How the names of MMRazor's config files start.
_FILES = {
    "autoformer": "AutoFormer",
    "attentive": "the AttentiveNAS space of BigNAS",
    "darts": "DARTS",
    "dcff": "DCFF",
    "detnas": "DetNAS",
    "dmcp": "DMCP",
    "dsnas": "DSNAS",
    "group_fisher": "group Fisher pruning",
    "l1-norm": L1_NORM,
    **dict.fromkeys(
        "abloss byot crd cwd dafl deit-base_regnety160 dfad dist_logits dkd factor-transfer fbkd fitnets kd_logits mgd "
        "ofd pkd rkd wsld zskt".split(),
        DISTILLATION,
    ),
    **dict.fromkeys(("ptq_", "qat_", "lsq_", "classification_openvino", "classification_tensorrt"), QUANTIZATION),
    **dict.fromkeys(("detection_openvino", "detection_tensorrt"), QUANTIZATION),
    **dict.fromkeys(("faster-rcnn_", "mask-rcnn_", "retinanet_", "fcos_", "yolo"), PACKAGES["mmdet"]),
}
# Some of MMRazor's configs of these have SPOS's model, and are a part of what is not here all the same.
_BY_NAME_ALONE = {"detnas": "DetNAS (its training of a backbone on ImageNet is that of SPOS: configs/nas/spos)"}
_MOST_FILES = 50  # of the bases of one config


def by_name(path: str) -> str | None:
    """Return why a config is not for this project though it may load; None where its name does not tell."""
    what = _starts(path, _BY_NAME_ALONE)
    return what and _told(what)


def reason(path: str, known: Callable[[Any], Any], unread: bool) -> str | None:
    """Return why a config file that cannot be used is not for this project; None where it may be.

    What tells are the classes, scopes and bases that are spelled out in it and in the files that it is based on, as far
    as they are there; its own name, where there is no more to be seen.

    Args:
        path: The file.
        known: Whether a name is registered; what is needs no excuse.
        unread: Whether it cannot even be read.
    """
    trees = list(_trees(Path(path), set()))
    classes = [name for tree in trees for name in _values(tree, "type") if not known(name)]
    scopes = [f"{scope}." for tree in trees for key in ("_scope_", "default_scope") for scope in _values(tree, key)]
    bases = [f"{base.partition('::')[0]}." for tree in trees for base in _bases(tree) if "::" in base]
    package = next(filter(None, map(not_carried.package_of, [*classes, *scopes, *bases])), None)
    what = next(filter(None, map(_purpose, classes)), None)
    if what is None and (unread or not any(map(_has_model, trees))):
        what = _starts(path, _FILES)
    if package is None:
        return what and _told(what)
    return _told(f"{what or PACKAGES[package]} ({package})")


def _told(what: str) -> str:
    return f"not carried: {what}; {CARRIED}"


def _starts(path: str, table: dict[str, str]) -> str | None:
    stem = Path(path).stem
    return next((what for start, what in table.items() if stem.startswith(start)), None)


def _purpose(name: str) -> str | None:
    """What MMRazor's class of this name is for, where nothing here takes its place."""
    what, instead = not_carried.purpose_of(name) or ("", "some")
    return None if instead else what


def _trees(path: Path, seen: set[Path]) -> Iterator[ast.Module]:
    """Parse a config file and the files beside it that it is based on, itself first; what is not there is left out."""
    if path.resolve() in seen or len(seen) > _MOST_FILES or path.suffix != ".py":
        return
    seen.add(path.resolve())
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    yield tree
    for base in _bases(tree):
        if "::" not in base:
            yield from _trees(path.parent / base, seen)


def _bases(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", None) == "_base_" for target in node.targets):
            yield from (part.value for part in ast.walk(node.value) if _is_text(part))


def _values(tree: ast.Module, key: str) -> Iterator[str]:
    """The texts that a file gives to a key, or to a variable of this name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            values = [keyword.value for keyword in node.keywords if keyword.arg == key]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            values = [value for name, value in pairs if isinstance(name, ast.Constant) and name.value == key]
        elif isinstance(node, ast.Assign) and any(getattr(target, "id", None) == key for target in node.targets):
            values = [node.value]
        else:
            continue
        yield from (value.value for value in values if _is_text(value))


def _has_model(tree: ast.Module) -> bool:
    names = {
        getattr(target, "id", None) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
    }
    return bool(names & {"model", "algorithm"})


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
