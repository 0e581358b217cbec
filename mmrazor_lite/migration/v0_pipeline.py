"""Pipelines of mmcls 0.x as mmpretrain's. Source: mmcls 0.x, ``datasets.pipelines``.

Sizes are (height, width) there; here some transforms take (width, height).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mmrazor_lite.errors import short

from .section import Section
from .told import Told

Transform = dict[str, Any]

_TENSORS = ("ImageToTensor", "ToTensor", "Collect")  # of which PackInputs does the work
_KEYS = ("img", "gt_label")
_KEEP_PIXELS = ("RandomFlip", "CenterCrop")  # may stand behind the normalisation, which is done last here


def _resize(step: Section) -> Transform:
    size, side = step.take("size"), step.take("adaptive_side", "short")
    if isinstance(size, list | tuple) and len(size) == 2 and size[1] == -1:
        return {"type": "ResizeEdge", "scale": size[0], "edge": side, **step.rest()}
    return {"type": "Resize", "scale": _turned(size), **step.rest()}


def _center_crop(step: Section) -> Transform:
    size, style = step.take("crop_size"), step.take("efficientnet_style", False)
    only = {key: step.take(key) for key in ("crop_padding", "interpolation", "backend") if key in step}
    if style:
        size = size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size
        return {"type": "EfficientNetCenterCrop", "crop_size": size, "interpolation": "bilinear", **only, **step.rest()}
    return {"type": "CenterCrop", "crop_size": _turned(size), **step.rest()}


def _random_resized_crop(step: Section) -> Transform:
    size, style = step.take("size"), step.take("efficientnet_style", False)
    names = {"scale": "crop_ratio_range", "ratio": "aspect_ratio_range"}
    found = {"scale": size, **{new: step.take(old) for old, new in names.items() if old in step}}
    only = {key: step.take(key) for key in ("min_covered", "crop_padding") if key in step}
    if style:
        return {"type": "EfficientNetRandomCrop", **found, "interpolation": "bilinear", **only, **step.rest()}
    return {"type": "RandomResizedCrop", **found, **step.rest()}


def _random_crop(step: Section) -> Transform:
    return {"type": "RandomCrop", "crop_size": step.take("size"), **step.rest()}


def _random_flip(step: Section) -> Transform:
    return {"type": "RandomFlip", "prob": step.take("flip_prob", 0.5), **step.rest()}


def _random_grayscale(step: Section) -> Transform:
    step.told.change(step.place("type"), "RandomGrayscale, of equal weights for the three channels")
    return {"type": "RandomGrayscale", "prob": step.take("gray_prob", 0.1), "keep_channels": True, **step.rest()}


def _color_jitter(step: Section) -> Transform:
    return {"type": "ColorJitter", **step.rest(), "backend": "cv2"}  # pillow is the default here


def _lighting(step: Section) -> Transform:
    return {"type": "Lighting", "to_rgb": step.take("to_rgb", True), **step.rest()}


def _pad(step: Section) -> Transform:
    size = step.take("size")
    return {"type": "Pad", **({} if size is None else {"size": _turned(size)}), **step.rest()}


def _albu(step: Section) -> Transform:
    step.drop("left out: no result depends on it", "update_pad_shape")
    return {"type": "Albumentations", **step.rest()}


_TRANSFORMS: dict[str, Callable[[Section], Transform]] = {
    "Albu": _albu,
    "CenterCrop": _center_crop,
    "ColorJitter": _color_jitter,
    "Lighting": _lighting,
    "Pad": _pad,
    "RandomCrop": _random_crop,
    "RandomFlip": _random_flip,
    "RandomGrayscale": _random_grayscale,
    "RandomResizedCrop": _random_resized_crop,
    "Resize": _resize,
}


def pipeline(steps: Any, where: str, told: Told) -> tuple[list[Transform], dict[str, Any]]:
    """Return a pipeline in our form, and the normalisation in it, as arguments of a preprocessor.

    Transforms that are not mmcls's stay as they are: they are the user's own, or have not changed.
    """
    found: list[Transform] = []
    normalisation: dict[str, Any] | None = None
    if not isinstance(steps, list | tuple) or not all(isinstance(step, Mapping) for step in steps):
        told.problem(f"{where}={short(steps)}: give a list of dict(type=...)")
        return found, {}
    for index, given in enumerate(steps):
        step = Section(given, f"{where}.{index}", told)
        kind = step.kind()
        if kind == "Normalize":
            if normalisation is not None:
                told.problem(f"{step.where}: the second Normalize of one pipeline: keep one")
            normalisation = _normalisation(step)
        elif kind in _TENSORS:
            _check_collected(step, kind)
        else:
            if normalisation is not None and kind not in _KEEP_PIXELS:
                told.problem(f"{step.where}.type={short(kind)}: stands behind Normalize, which comes last: move it up")
            take = _TRANSFORMS.get(kind) if isinstance(kind, str) else None
            found.append(take(step) if take else {"type": kind, **step.rest()})
    told.change(f"{where} Normalize, ImageToTensor, ToTensor, Collect", "data_preprocessor, PackInputs")
    return [*found, {"type": "PackInputs"}], normalisation or {"to_rgb": False}


def _normalisation(step: Section) -> dict[str, Any]:
    found = {"mean": step.take("mean"), "std": step.take("std"), "to_rgb": step.take("to_rgb", True)}
    step.finish()
    return found


def _check_collected(step: Section, kind: str) -> None:
    keys = step.take("keys", ())
    step.drop("left out: PackInputs keeps what is needed", "meta_keys")
    unknown = [key for key in keys if key not in _KEYS] if isinstance(keys, list | tuple) else [keys]
    if unknown:
        step.told.problem(f"{step.where} ({kind}).keys={short(unknown)}: batches hold {' and '.join(_KEYS)}")
    step.finish()


def _turned(size: Any) -> Any:
    """(height, width) as (width, height); a number is both."""
    return tuple(reversed(size)) if isinstance(size, list | tuple) else size
