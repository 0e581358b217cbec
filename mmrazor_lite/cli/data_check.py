"""Look at the data folders before a run starts: what is missing is said with the layout that is expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.fileio import is_hidden
from mmrazor_lite.walk import kind_of, mappings

IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif")  # what mmpretrain's datasets take, and no others
LAYOUT = "{folder}/CLASS/IMAGE.jpg, one folder per class"
FOLDERS = ("CustomDataset", "ImageNet")  # datasets that read class folders, or lists
SKIPPING = (*FOLDERS, "Cifar10Images")  # those that can leave images out
FLAT = ", or {folder}/IMAGE.jpg with {root}/meta/{split}.txt"


def check_data(cfg: Mapping, *sections: str, checkpoint: str | None = None) -> None:
    """Check the folder, or the list of images, of every dataset in ``sections`` of a config.

    Class folders are then numbered by the names of the training, where they are some of these: else a folder for tests
    that lacks a class would number the others by itself. Folders of other names are left, and refused when all datasets
    are there.

    Args:
        cfg: The config; says the training images.
        sections: Keys of what is read.
        checkpoint: What is tested or searched; its names come before those of the config's training images.

    Raises:
        UserError: A folder is missing, has no class folders, or their number is not that of the config's classes; a
            list is missing, has lines that are none or labels that the model has no class for, or names images that
            are not there.
    """
    for section in sections:
        for dataset, path in _datasets(cfg.get(section), section):
            _check_folder(dataset, path, _key_of_folder(cfg, dataset, path), _number_of_classes(cfg.get("model")))
    others = {section: cfg.get(section) for section in sections if section != "train_dataloader"}
    readers = [dataset for dataset, _ in _datasets(others, "") if _own_numbers(dataset)]
    names = (_carried_names(checkpoint) or _training_names(cfg.get("train_dataloader"))) if readers else []
    for dataset in readers:
        found = class_folders(_folder(dataset))
        if found != names and set(found) < set(names):
            dataset["metainfo"] = {**(dataset.get("metainfo") or {}), "classes": names}


def _key_of_folder(cfg: Mapping, dataset: Mapping, path: str) -> str:
    """The key that gives a dataset at ``path`` of a config another folder."""
    root = dataset.get("data_root")
    if not root and dataset.get("data_prefix"):
        return f"{path}.data_prefix"  # as in configs of MMRazor 0.x: the whole path
    return "data_root" if root == cfg.get("data_root") else f"{path}.data_root"  # else the top changes nothing here


def _number_of_classes(model: Any) -> int | None:
    """The classes of the head of a model, or of the architecture in it; None where the config does not say."""
    if not isinstance(model, Mapping):
        return None
    head = model.get("head")
    number = head.get("num_classes") if isinstance(head, Mapping) else None
    inside = (_number_of_classes(model.get(key)) for key in ("architecture", "cfg"))
    return number if isinstance(number, int) else next((found for found in inside if found is not None), None)


def _datasets(node: Any, path: str) -> Iterator[tuple[Mapping, str]]:
    """Yield each dataset config of a folder in ``node``, and its key."""
    return ((part, where) for where, part in mappings(node, path) if "data_root" in part or kind_of(part) in FOLDERS)


def _check_folder(dataset: Mapping, path: str, key: str, classes_of_model: int | None) -> None:
    """Check one dataset at ``path`` of a config; ``key`` is what gives it another folder."""
    root = str(dataset.get("data_root") or "")
    prefix = dataset.get("data_prefix") or dataset.get("split") or ""
    kind = kind_of(dataset)
    if not isinstance(prefix, str) or kind not in FOLDERS:
        return  # other datasets know their own layout
    folder = Path(root, prefix)
    layout = (LAYOUT + FLAT if kind == "ImageNet" and root else LAYOUT).format(folder=folder, root=root, split=prefix)
    fix = f"expected is {layout}; give another folder with --cfg-options {key}=DIR"
    if not folder.is_dir():
        raise UserError(f"{path}: data folder '{folder}' not found: {fix}")
    if dataset.get("ann_file"):
        _check_list(dataset, folder, path, classes_of_model)
        return
    if kind == "ImageNet" and Path(root, "meta", f"{prefix}.txt").is_file():
        return
    if dataset.get("with_label") is False:
        return
    classes = class_folders(folder)
    if not classes:
        raise UserError(f"{path}: data folder '{folder}' has no class folders: {fix}")
    if not any(file.suffix.lower() in IMAGES for name in classes for file in Path(folder, name).rglob("*")):
        first = Path(folder, classes[0])
        raise UserError(f"{path}: class folder '{first}' has no images ({', '.join(IMAGES)}), nor has another: {fix}")
    if kind == "ImageNet" and len(classes) != 1000 and not (dataset.get("metainfo") or {}).get("classes"):
        raise UserError(f"{path}: '{folder}' has {len(classes)} class folders, ImageNet has 1000: {fix}")


def skip_unreadable(cfg: Mapping) -> None:
    """Set ``skip_unreadable`` in every dataset of a config that can leave out what cannot be decoded.

    Raises:
        UserError: A dataset that loads images itself cannot; images in memory have none that are unreadable.
    """
    sections = [key for key in cfg if key.endswith(("dataloader", "_cfg"))]
    for section in sections:
        for path, dataset in mappings(cfg[section], section):
            pipeline = dataset.get("pipeline")
            if kind_of(dataset) in SKIPPING:
                dataset["skip_unreadable"] = True
            elif isinstance(pipeline, list | tuple) and any(
                "Load" in str(step.get("type")) for step in pipeline if isinstance(step, Mapping)
            ):
                raise UserError(
                    f"--skip-unreadable: {path} is '{kind_of(dataset)}', which cannot leave images out; it is for "
                    f"{', '.join(SKIPPING)}"
                )


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders in ``folder``, as the datasets number them: hidden ones are none."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))


def _own_numbers(dataset: Mapping) -> bool:
    """Whether a dataset numbers its class folders in the order of their names."""
    given = dataset.get("ann_file") or dataset.get("classes") or (dataset.get("metainfo") or {}).get("classes")
    prefix = dataset.get("data_prefix") or ""
    plain = kind_of(dataset) == "CustomDataset" and isinstance(prefix, str)
    return plain and not given and dataset.get("with_label", True)


def _folder(dataset: Mapping) -> Path:
    return Path(str(dataset.get("data_root") or ""), str(dataset.get("data_prefix") or ""))


def _training_names(section: Any) -> list[str]:
    training = [dataset for dataset, _ in _datasets(section, "train_dataloader") if kind_of(dataset) == "CustomDataset"]
    for dataset in training:
        given = dataset.get("classes") or (dataset.get("metainfo") or {}).get("classes")
        names = list(given) if isinstance(given, list | tuple) else []
        return names if given else class_folders(_folder(dataset)) if _own_numbers(dataset) else []
    return []


def _carried_names(checkpoint: str | None) -> list[str]:
    from mmrazor_lite.engine.trained_on import TrainedOn
    from mmrazor_lite.export import read_checkpoint
    from mmrazor_lite.models.said import said_by

    found = TrainedOn.from_dict(said_by(read_checkpoint(checkpoint)).get("data"), checkpoint) if checkpoint else None
    return list((found and (found.folders or found.classes)) or ())


def _check_list(dataset: Mapping, folder: Path, path: str, classes: int | None) -> None:
    """Check a list of images for a model of so many ``classes``."""
    from mmrazor_lite.datasets.image_list import read_list

    file = Path(str(dataset.get("data_root") or ""), dataset["ann_file"])
    images = read_list(file, folder, dataset.get("with_label", True), path, classes)
    missing = [name for name, _ in images if not Path(folder, name).is_file()]
    if missing:
        first = ", ".join(missing[:5])
        raise UserError(f"{path}: {len(missing)} of {len(images)} images of '{file}' are not in '{folder}': {first}")
