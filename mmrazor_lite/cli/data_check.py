"""Look at the data folders before a run starts: what is missing is said with the layout that is expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError

IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif")
LAYOUT = "{root}/{split}/CLASS/IMAGE.jpg, one folder per class"
FLAT = ", or {root}/{split}/IMAGE.jpg with {root}/meta/{split}.txt"


def check_data(cfg: Mapping, *sections: str) -> None:
    """Check the folder, or the list of images, of every dataset in ``sections`` of a config.

    Raises:
        UserError: A folder is missing, has no class folders, or their number is not that of the config's classes; a
            list is missing, has lines that are none or labels that the model has no class for, or names images that
            are not there.
    """
    for section in sections:
        for dataset, path in _datasets(cfg.get(section), section):
            _check_folder(dataset, path, _number_of_classes(cfg.get("model")))


def _number_of_classes(model: Any) -> int | None:
    """The classes of the head of a model, or of the architecture in it; None where the config does not say."""
    if not isinstance(model, Mapping):
        return None
    head = model.get("head")
    number = head.get("num_classes") if isinstance(head, Mapping) else None
    inside = (_number_of_classes(model.get(key)) for key in ("architecture", "cfg"))
    return number if isinstance(number, int) else next((found for found in inside if found is not None), None)


def _datasets(node: Any, path: str) -> Iterator[tuple[Mapping, str]]:
    """Yield each dataset config with a ``data_root`` below ``node``, and its key."""
    if isinstance(node, Mapping):
        if "data_root" in node:
            yield node, path
        for key, value in node.items():
            yield from _datasets(value, f"{path}.{key}")


def _check_folder(dataset: Mapping, path: str, classes_of_model: int | None) -> None:
    root = str(dataset["data_root"])
    prefix = dataset.get("data_prefix") or dataset.get("split") or ""
    kind = str(dataset.get("type", "")).rpartition(".")[2]
    if not isinstance(prefix, str) or kind not in ("ImageNet", "CustomDataset"):
        return  # other datasets know their own layout
    layout = (LAYOUT + FLAT if kind == "ImageNet" else LAYOUT).format(root=root, split=prefix or "")
    fix = f"expected is {layout}; give another folder with --cfg-options data_root=DIR"
    folder = Path(root, prefix)
    if not folder.is_dir():
        raise UserError(f"{path}: data folder '{folder}' not found: {fix}")
    if dataset.get("ann_file"):
        _check_list(Path(root, dataset["ann_file"]), folder, path, classes_of_model)
        return
    if kind == "ImageNet" and Path(root, "meta", f"{prefix}.txt").is_file():
        return
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise UserError(f"{path}: data folder '{folder}' has no class folders: {fix}")
    if not any(file.suffix.lower() in IMAGES for file in classes[0].rglob("*")):
        raise UserError(f"{path}: class folder '{classes[0]}' has no images ({', '.join(IMAGES)}): {fix}")
    if kind == "ImageNet" and len(classes) != 1000 and not (dataset.get("metainfo") or {}).get("classes"):
        raise UserError(f"{path}: '{folder}' has {len(classes)} class folders, ImageNet has 1000: {fix}")


def _check_list(file: Path, folder: Path, path: str, classes: int | None) -> None:
    """Check a list of images, one ``NAME LABEL`` a line, for a model of so many ``classes``."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: cannot read the list of images '{file}' ({what})") from None
    names = []
    for number, line in enumerate(lines, start=1):
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isdigit():
            raise UserError(f"{path}: '{file}' line {number} is {line[:80]!r}, expected is an image and its label")
        if classes is not None and int(label) >= classes:
            raise UserError(
                f"{path}: '{file}' line {number} has label {label}, the model has {classes} classes, 0 to "
                f"{classes - 1}: mend the list, or set the head's num_classes"
            )
        names.append(name)
    if not names:
        raise UserError(f"{path}: the list of images '{file}' is empty")
    missing = [name for name in names if not Path(folder, name).is_file()]
    if missing:
        first = ", ".join(missing[:5])
        raise UserError(f"{path}: {len(missing)} of {len(names)} images of '{file}' are not in '{folder}': {first}")
