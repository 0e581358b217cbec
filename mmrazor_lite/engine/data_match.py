"""Look at all data of a run together, before its first step: classes, labels, and which images meet where.

This sees the datasets as they were built, of whatever class they are and through all wrappers.

Letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import nn

from mmrazor_lite.datasets.facts import Facts, facts_of, name_of
from mmrazor_lite.engine.data_overlap import common_images, held_out_as, say, say_common, say_seen, trained_images
from mmrazor_lite.engine.trained_on import TrainedOn
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.calibration import batch_norms, unchanged
from mmrazor_lite.subnet.space import listed


def check_data(
    datasets: Mapping[str, Any], model: nn.Module, before: TrainedOn | None = None, same_classes: bool = True
) -> dict[str, Facts]:
    """Check that labels mean the same in all ``datasets``, and that ``model`` has an output for each.

    Args:
        datasets: By the config key of their loader.
        model: An algorithm; how many outputs it has is looked up, or tried.
        before: What the weights were trained on; its names come first.
        same_classes: Whether other names than those of ``before`` are refused; else they are logged.

    Returns:
        The facts of each.

    Raises:
        UserError: Names that differ, labels beyond the outputs, more class folders than outputs, images without labels
            or with several where the model takes one.
    """
    facts = {where: facts_of(dataset) for where, dataset in datasets.items()}
    named = list(facts.items())
    for index, (where, found) in enumerate(named[1:], start=1):
        for other, first in named[:index]:
            _compare_names(found, where, first, other)
    if before is not None and named:
        try:
            _compare_names(named[0][1], named[0][0], before, "the checkpoint")
        except UserError as error:
            if same_classes:
                raise
            say(f"{error} Going on: weights of other classes are trained further")
    outputs = number_of_outputs(model)
    for where, found in named:
        _check_labels(found, where, datasets[where], outputs, model)
    return facts


def settle_data(loops: Mapping[str, Any], model: nn.Module, resumed: bool) -> None:
    """Check the data of the loops of a run, and write into ``model.data`` what its checkpoints will say of them.

    Args:
        loops: The built ones of ``train``, ``val`` and ``test``.
        model: With its weights.
        resumed: The weights are of this run.

    Raises:
        UserError: See :func:`check_data` and :func:`check_last_batch`.
    """
    loaders = {f"{part}_dataloader": loop.dataloader for part, loop in loops.items()}
    trained = ["train_dataloader"] if "train" in loops else []
    paired = getattr(loops.get("train"), "arch_dataloader", None)
    if paired is not None:
        loaders["train_cfg.arch_dataloader"] = paired
        trained.append("train_cfg.arch_dataloader")
    before = TrainedOn.from_dict(getattr(model, "data", None), "the checkpoint")
    datasets = {where: loader.dataset for where, loader in loaders.items()}
    facts = check_data(datasets, model, before, same_classes=resumed or not trained)
    for where in trained:
        check_last_batch(model, loaders[where], where)
    if trained:
        if "val_dataloader" in facts:
            say_common(facts, "val_dataloader", trained, "its scores are not those of new images")
        if paired is not None:
            say_common(facts, trained[1], trained[:1], "the architecture is chosen on images that the weights know")
        mine = TrainedOn.of(facts[trained[0]], held_out_as(datasets[trained[0]]))
        for where in trained[1:]:
            mine = mine.joined(TrainedOn.of(facts[where]))
        model.data = mine.joined(before).to_dict()
    for where in ("val_dataloader", "test_dataloader"):
        if not trained and where in facts:
            say_seen(facts[where], where, before)


def check_search_data(batches: Any, calibration: Any, model: nn.Module, score_on_trained_images: bool) -> None:
    """Check the images that subnets are scored on and recalibrated with, against each other and the checkpoint.

    Args:
        batches: The ``FixedBatches`` to score on.
        calibration: Those to recalibrate with; None for no recalibration.
        model: The supernet, whose ``data`` says what it was trained on.
        score_on_trained_images: Only log that subnets are scored on images that the supernet was trained on.

    Raises:
        UserError: See :func:`check_data`; images that the supernet was trained on; batches of one image that cannot be
            calibrated on.
    """
    where, other = "search_cfg.dataloader", "search_cfg.calibrate_dataloader"
    before = TrainedOn.from_dict(getattr(model, "data", None), "the checkpoint")
    datasets = {where: batches.dataset}
    if calibration is not None and calibration.dataset is not batches.dataset:
        datasets[other] = calibration.dataset
    facts = check_data(datasets, model, before)
    if told := trained_images(facts[where], where, before, held_out_as(batches.dataset)):
        if not score_on_trained_images:
            raise UserError(
                f"{told}: score on images that it has not seen (HeldOut with part='held_out' and the fraction and seed "
                "of the training, or other images), or set search_cfg.score_on_trained_images=True"
            )
        say(told)
    if before is None:
        print_log("search: the checkpoint does not say which images it was trained on", logger="current")
    if calibration is None:
        return
    if calibration.num_images // len(calibration) < 2:
        _refuse_one_value(model, f"{other}: a batch has one image", "give another batch_size or calibrate_sample_num")
    keys = facts.get(other, facts[where]).keys
    drawn = Facts(keys=None if keys is None else keys[calibration.indices])
    if common := common_images(drawn, [facts[where]]):
        say(
            f"{other}: {common} of {calibration.num_images} images that batch norm is recalibrated on are those that "
            "subnets are scored on, which flatters the scores a little: recalibrate on training images"
        )


def _compare_names(found: Facts | TrainedOn, where: str, first: Facts | TrainedOn, other: str) -> None:
    names = (found.folders, first.folders) if found.folders and first.folders else (found.classes, first.classes)
    mine, theirs = names
    if mine is None or theirs is None or mine == theirs:
        return
    more, fewer = [name for name in mine if name not in theirs], [name for name in theirs if name not in mine]
    parts = [f"{where} has {listed(more)}, which {other} has not"] * bool(more)
    parts += [f"{where} lacks {listed(fewer)} of {other}"] * bool(fewer)
    order = f"{where} has the classes of {other} in another order ({listed(mine)}; {listed(theirs)})"
    what = "; ".join(parts) or order
    raise UserError(
        f"{what}: a label would mean another class there ({len(mine)} and {len(theirs)} classes); give both the same "
        "class folders (one may be empty), or the same names as metainfo=dict(classes=[...])."
    )


def _check_labels(facts: Facts, where: str, dataset: Any, outputs: int | None, model: nn.Module) -> None:
    head = getattr(getattr(model, "architecture", model), "head", None)
    if facts.several and head is not None and not _takes_several(head):
        raise UserError(
            f"{where}: images have several labels each, {type(head).__name__} takes one: give a head for several, such "
            "as MultiLabelLinearClsHead, or a list with one label per image"
        )
    if facts.unlabelled and hasattr(model, "architecture") and "calibrate" not in where:
        raise UserError(f"{where}: the images have no labels (with_label=False, or split='test'); give labelled ones")
    if facts.labels is None or not len(facts.labels):
        return
    highest, lowest = int(facts.labels.max()), int(facts.labels.min())
    place = int(np.argmax(facts.labels) if lowest >= 0 else np.argmin(facts.labels))
    if lowest < 0:
        raise UserError(f"{where}: {name_of(dataset, place)} has label {lowest}, labels count from 0")
    names = facts.folders or facts.classes
    if names is not None and highest >= len(names):
        raise UserError(
            f"{where}: {name_of(dataset, place)} has label {highest}, there are {len(names)} names of classes, 0 to "
            f"{len(names) - 1}"
        )
    if outputs is None:
        return
    if facts.folders is not None and len(facts.folders) > outputs:
        raise UserError(
            f"{where}: {len(facts.folders)} class folders ({listed(facts.folders)}) and {outputs} classes of the "
            "model: set the number of classes of the model and of data_preprocessor, or remove folders"
        )
    if highest >= outputs:
        counted = f"labels are {lowest} to {highest}, they count from 0: " if lowest > 0 else ""
        raise UserError(
            f"{where}: {name_of(dataset, place)} has label {highest}, the model has {outputs} classes, 0 to "
            f"{outputs - 1}: {counted}mend the labels, or set the number of classes of the model"
        )
    if highest == lowest and outputs > 1 and len(facts.labels) > 1:
        say(f"{where}: all {len(facts.labels)} images have label {lowest}")
    if facts.folders is not None and len(facts.folders) < outputs:
        say(f"{where}: {len(facts.folders)} class folders, the model has {outputs} classes: the others have no image")


def _takes_several(head: nn.Module) -> bool:
    return "MultiLabel" in type(head).__name__ or "MultiTask" in type(head).__name__ or not hasattr(head, "loss_module")


@torch.no_grad()
def number_of_outputs(model: nn.Module) -> int | None:
    """How many classes ``model`` tells apart: as its head says, or as one run shows; None where neither does."""
    head = getattr(getattr(model, "architecture", model), "head", None)
    number = getattr(head, "num_classes", None)
    if type(number) is int and number > 0:
        return number
    try:
        outputs = _tried(model, training=False)
    except Exception:  # told where the model is run in earnest
        return None
    return outputs.shape[1] if isinstance(outputs, torch.Tensor) and outputs.dim() == 2 else None


def check_last_batch(model: nn.Module, loader: Any, where: str) -> None:
    """Refuse a last batch of one image where a batch norm would see a single value per channel.

    Raises:
        UserError: It would; found by a run of the model, which is left as it was.
    """
    size, sampler = loader.batch_size, getattr(loader, "sampler", None)
    if size is None or sampler is None or not batch_norms(model):
        return
    endless = getattr(sampler, "infinite", False) or not hasattr(sampler, "__len__")
    last = size if endless else len(sampler) % size or size
    if last != 1 or (getattr(loader, "drop_last", False) and size != 1):
        return
    if size == 1:
        _refuse_one_value(model, f"{where}: batches have one image", "give a larger batch_size")
    fix = f"give another batch_size, or {where}.drop_last=True"
    _refuse_one_value(model, f"{where}: the last batch of an epoch has one image", fix)


@torch.no_grad()
def _refuse_one_value(model: nn.Module, what: str, fix: str) -> None:
    try:
        _tried(model, training=True)
    except Exception as error:  # any other is told where the model is run in earnest
        if "more than 1 value per channel" in str(error):
            raise UserError(f"{what}, and a batch norm of this model then has one value per channel: {fix}") from None


def _tried(model: nn.Module, training: bool) -> Any:
    """What ``model`` gives for one black image; None where its size is not known. The model is left as it was."""
    shape = getattr(model, "input_shape", None)
    parameter = next((item for item in model.parameters() if item.is_floating_point()), None)
    if shape is None or parameter is None:
        return None
    with unchanged(model):
        model.train(training)
        return model(torch.zeros((1, *shape)).to(parameter), mode="tensor")
