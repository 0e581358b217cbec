"""The images of a command: a folder, the training images of a config, or those of another config.

Whatever they are, they come as a test shows them, without random augmentation, in an order that is drawn once.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrazor_lite.errors import UserError, building
from mmrazor_lite.fileio import require_file

from .trained_network import TrainedNetwork

if TYPE_CHECKING:
    from mmrazor_lite.slimming.folder_of_images import Found

BATCH = 50  # images at once
_AS_TESTED = ("val_dataloader", "test_dataloader")
_ALLOWED = "give a folder of images, or a config (.py) with train_dataloader"


def check_images(args: argparse.Namespace, flag: str = "--data") -> list[str]:
    """Refuse images that a command names, and that are not there or of no kind that is read; needs no network.

    Args:
        args: As for :func:`images_of`, and ``config``.
        flag: What names them, for errors.

    Returns:
        Which of ``--size``, ``--mean`` and ``--std`` are given: they are for a folder.
    """
    own = [flag for flag in ("size", "mean", "std") if getattr(args, flag) is not None]
    if args.data is None and args.config is None:
        raise UserError(f"{flag} is missing: {_ALLOWED}")
    if args.data is not None and not Path(args.data).is_dir():
        if not str(args.data).endswith(".py"):
            found = "is a file" if Path(args.data).exists() else "does not exist"
            raise UserError(f"{flag} '{args.data}' {found}: {_ALLOWED}")
        require_file(args.data, flag)
    if own and (args.data is None or not Path(args.data).is_dir()):
        raise UserError(f"--{own[0]} is for a folder of images; a config says how its own are read")
    return own


def images_of(
    network: TrainedNetwork, args: argparse.Namespace, flag: str = "--data"
) -> tuple[Iterable[Any], list[str]]:
    """Batches of the images that a command names, and what is to be said of them, a line each.

    Args:
        network: Says how it reads images.
        args: ``data``, ``size``, ``mean``, ``std``, ``seed``, ``skip_unreadable``, and ``images`` and ``tune``, which
            say how many images are used.
        flag: What names them, for errors.

    Raises:
        UserError: There are none, or nothing says how the network reads them.
    """
    own = check_images(args, flag)
    if args.data is not None and Path(args.data).is_dir():
        pipeline = None if own or network.cfg is None else _pipeline(network.cfg)
        if pipeline and str(pipeline[0].get("type")).rpartition(".")[2].startswith("Load"):
            return _by_pipeline(network, pipeline, args)
        return _by_transform(network, args)
    if args.data is None:
        return _of_config(network.cfg, args.config, network.preprocessor, args)
    from mmrazor_lite.config import load_config

    cfg = load_config(args.data)
    preprocessor = cfg.get("data_preprocessor") or (cfg.get("model") or {}).get("data_preprocessor")
    return _of_config(cfg, args.data, preprocessor or network.preprocessor, args)


def _by_transform(network: TrainedNetwork, args: argparse.Namespace) -> tuple[Iterable[Any], list[str]]:
    """A folder, read as the library of the network says, or the flags."""
    from mmrazor_lite.slimming.folder_of_images import loader
    from mmrazor_lite.slimming.image_transform import image_transform

    transform = image_transform(network.name or network.title, args.size, args.mean, args.std)
    outputs = _classes(network.module, transform.shape)
    batches, notes = loader(args.data, transform, outputs, args.seed, _wanted(args), _labelled(args))
    return batches, [*notes, transform.said]


def _wanted(args: argparse.Namespace) -> int | None:
    """How many readable images to look for: as many again are held out, and tuning takes all."""
    return 0 if not args.skip_unreadable else None if args.tune else 2 * args.images


def _labelled(args: argparse.Namespace) -> bool:
    """Whether the command asks for an accuracy: agreement is no answer where there are class folders."""
    return any(getattr(args, name, None) is not None for name in ("min_accuracy", "max_drop"))


def _classes(module: Any, shape: Sequence[int]) -> int | None:
    """How many classes a network tells apart; None where it gives no scores (N, K) of classes."""
    import torch

    like = next(module.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            outputs = module(torch.zeros(1, *shape).to(like))
    except Exception:  # whatever it raises is told when it is traced
        return None
    return outputs.shape[1] if isinstance(outputs, torch.Tensor) and outputs.dim() == 2 else None


def _by_pipeline(
    network: TrainedNetwork, pipeline: Sequence[Mapping], args: argparse.Namespace
) -> tuple[Iterable[Any], list[str]]:
    """A folder, read by the pipeline with which the config tests."""
    from mmengine.dataset import Compose
    from mmengine.registry import init_default_scope

    from mmrazor_lite.datasets.unreadable import without_unreadable
    from mmrazor_lite.slimming.folder_of_images import find_images, labels_for

    init_default_scope(network.cfg.get("default_scope", "mmpretrain"))
    found = find_images(args.data)
    with building("the pipeline of the config"):
        compose = Compose(copy.deepcopy(list(pipeline)))
    records = _records(found, None)
    skipped: list[str] = []
    if args.skip_unreadable:
        records, skipped = without_unreadable(records, compose.transforms)
    batches = _batches(_Records(records, compose), network.preprocessor, args, "--data")
    probe = batches.probe()["inputs"]
    labels, notes = labels_for(found, args.data, _classes(network.module, probe.shape[1:]), _labelled(args))
    if labels is not None:
        numbers = dict(zip(found.paths, labels, strict=True))
        records = [{**record, "gt_label": numbers[record["img_path"]]} for record in records]
        batches = _batches(_Records(records, compose), network.preprocessor, args, "--data")
    if skipped:
        notes.append(f"{len(skipped)} images cannot be read and are left out: {', '.join(skipped[:100])}")
    return batches, [*notes, f"images as '{args.config}' tests them: {_named(pipeline)}"]


class _Records:
    """Records of images through a pipeline, as a dataset."""

    def __init__(self, records: Sequence[Mapping[str, Any]], pipeline: Any) -> None:
        self.records, self.pipeline = records, pipeline

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        return self.pipeline(dict(self.records[index]))

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Names an image for errors."""
        return dict(self.records[index])


def _records(found: Found, labels: Sequence[int] | None) -> list[dict[str, Any]]:
    numbers = [{}] * len(found.paths) if labels is None else [{"gt_label": label} for label in labels]
    return [{"img_path": path, **number} for path, number in zip(found.paths, numbers, strict=True)]


def _of_config(
    cfg: Any, path: Any, preprocessor: Mapping[str, Any] | None, args: argparse.Namespace
) -> tuple[Iterable[Any], list[str]]:
    """The training images of a config, as it shows those that it tests with."""
    from mmengine.registry import init_default_scope

    from mmrazor_lite.registry import DATASETS

    from .data_check import check_data, skip_unreadable

    init_default_scope(cfg.get("default_scope", "mmpretrain"))
    if args.skip_unreadable:
        skip_unreadable(cfg)
    check_data(cfg, "train_dataloader")
    loader = cfg.get("train_dataloader")
    if not loader or not loader.get("dataset"):
        raise UserError(f"'{path}' has no train_dataloader, whose images would be used: {_ALLOWED} as --data")
    pipeline, dataset = _pipeline(cfg), as_tested(loader["dataset"], _pipeline(cfg), str(path))
    with building("train_dataloader"):
        built = DATASETS.build(dataset)
        if hasattr(built, "full_init"):
            built.full_init()
    batches = _batches(built, preprocessor, args, "train_dataloader")
    how = f": {_named(pipeline)}" if pipeline else ""
    return batches, [f"training images of '{path}' ({len(built)}), as it tests{how}"]


def as_tested(dataset: Mapping[str, Any], pipeline: Sequence[Mapping] | None, path: str) -> dict[str, Any]:
    """The config of a dataset with the pipeline of a test in the place of its own, through all wrappers.

    Args:
        dataset: Config of the training images.
        pipeline: That of a test; None where there is none, then the dataset must have none either.
        path: Names its config in errors.

    Raises:
        UserError: There is a pipeline that may draw at random, and none of a test.
    """
    if str(dataset.get("type")).rpartition(".")[2] == "DeviceImages":  # crops and flips by itself
        return as_tested(dataset["dataset"], pipeline, path)
    result = {}
    for key, value in dataset.items():
        if key == "pipeline" and value is not None:
            if pipeline is None:
                raise UserError(
                    f"'{path}' has no {' and no '.join(_AS_TESTED)}, whose pipeline shows images without random "
                    "augmentation: give one, or a folder of images as --data"
                )
            value = copy.deepcopy(list(pipeline))
        elif key == "dataset" and isinstance(value, Mapping):
            value = as_tested(value, pipeline, path)
        elif key == "datasets" and isinstance(value, list | tuple):
            value = [as_tested(part, pipeline, path) for part in value]
        result[key] = value
    return result


def _pipeline(cfg: Mapping) -> list[Mapping] | None:
    """The pipeline of the first test of a config."""
    from mmrazor_lite.walk import mappings

    for section in _AS_TESTED:
        for _, node in mappings(cfg.get(section) or {}, section):
            if node.get("pipeline"):
                return list(node["pipeline"])
    return None


def _named(pipeline: Sequence[Mapping]) -> str:
    return ", ".join(str(step.get("type")).rpartition(".")[2] for step in pipeline)


def _batches(dataset: Any, preprocessor: Mapping[str, Any] | None, args: argparse.Namespace, where: str) -> Any:
    """Preprocessed batches of a dataset, in an order that is drawn once: its first images are a sample of all."""
    import numpy as np
    from mmengine.registry import MODELS
    from torch.utils.data import Subset

    from mmrazor_lite.engine.batches import FixedBatches

    order = np.random.default_rng(args.seed).permutation(len(dataset))
    with building("data_preprocessor"):
        prepare = MODELS.build({"type": "mmpretrain.ClsDataPreprocessor", **(preprocessor or {})})
    config = {"dataset": Subset(dataset, order.tolist()), "batch_size": BATCH}
    return FixedBatches(config, prepare, seed=args.seed, where=where)
