"""The images that ``slim`` is given: a folder, read as its library or its config says, or images of a config."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmrazor_lite.cli.command_images import as_tested, images_of
from mmrazor_lite.cli.trained_network import TrainedNetwork
from mmrazor_lite.config import load_config
from mmrazor_lite.errors import UserError

ARGUMENTS = {"data": None, "config": None, "size": None, "mean": None, "std": None, "seed": 0, "tune": None}
ARGUMENTS |= {"images": 500, "skip_unreadable": False}
TESTED = """
test_pipeline = [dict(type="LoadImageFromFile"), dict(type="CenterCrop", crop_size=4), dict(type="PackInputs")]
_set = dict(type="CustomDataset", data_prefix="images")
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=[dict(type="RandomCrop", crop_size=2)], **_set))
val_dataloader = dict(batch_size=2, dataset=dict(pipeline=test_pipeline, **_set))
data_preprocessor = dict(mean=[10.0, 10, 10], std=[2.0, 2, 2], to_rgb=True)
"""


class Three(nn.Module):
    """Tells three classes apart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Three classes of 30 images of 6 x 6 pixels, of which each has a value of its own."""
    monkeypatch.chdir(tmp_path)
    for number in range(90):
        path = tmp_path / "images" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6, 3), number, np.uint8)).save(path)
    (tmp_path / "tested.py").write_text(TESTED)
    return tmp_path


def read(network: TrainedNetwork, **given) -> tuple[torch.Tensor, torch.Tensor | None, list[str]]:
    """All images and labels, and what is said."""
    batches, notes = images_of(network, argparse.Namespace(**{**ARGUMENTS, **given}))
    found = list(batches)
    if isinstance(found[0], torch.Tensor):
        return torch.cat(found), None, notes
    if isinstance(found[0], dict):
        samples = [sample for batch in found for sample in batch["data_samples"]]
        labels = None if "gt_label" not in samples[0] else torch.cat([sample.gt_label for sample in samples])
        return torch.cat([batch["inputs"] for batch in found]), labels, notes
    return *map(torch.cat, zip(*found, strict=True)), notes


def of(text: str | None = None, **given) -> TrainedNetwork:
    return TrainedNetwork(Three(), "Three", cfg=None if text is None else load_config(text), **given)


def test_a_folder_as_given(here):
    images, labels, notes = read(of(), data="images", size=(6,), mean=[0, 0, 0], std=[1, 1, 1])
    numbers = (images[:, 0, 0, 0] * 255).round().long()
    assert images.shape == (90, 3, 6, 6) and torch.equal(numbers % 3, labels) and numbers.unique().numel() == 90
    assert notes[0] == "90 images of 'images' in 3 classes" and "as given: resized to cover 6x6" in notes[1]


def test_a_folder_as_its_config_tests(here):
    """Without augmentation, normalised by the preprocessor, and the labels where the classes are as many."""
    network = of("tested.py", preprocessor=load_config("tested.py").data_preprocessor)
    images, labels, notes = read(network, data="images", config="tested.py")
    numbers = (images[:, 0, 0, 0] * 2 + 10).round().long()
    assert images.shape == (90, 3, 4, 4) and torch.equal(numbers % 3, labels) and numbers.unique().numel() == 90
    assert notes[-1] == "images as 'tested.py' tests them: LoadImageFromFile, CenterCrop, PackInputs"
    (here / "images" / "d").mkdir()
    (here / "images" / "a" / "0.png").rename(here / "images" / "d" / "0.png")
    _, labels, notes = read(network, data="images", config="tested.py")
    assert labels is None and "has 4 class folders, the network tells 3 classes apart" in notes[1]
    assert read(network, data="images", size=(5,), mean=[0, 0, 0], std=[1, 1, 1])[0].shape == (90, 3, 5, 5)


@pytest.mark.parametrize("named", [True, False])
def test_the_training_images_of_a_config_as_it_tests(here, named):
    """Also of a config that is data alone; the first batch is a sample of all classes."""
    network = of() if named else of("tested.py", preprocessor=load_config("tested.py").data_preprocessor)
    images, labels, notes = read(network, **({"data": "tested.py"} if named else {"config": "tested.py"}))
    numbers = (images[:, 0, 0, 0] * 2 + 10).round().long()
    assert images.shape == (90, 3, 4, 4) and torch.equal(numbers % 3, labels)
    assert labels[:50].unique().numel() == 3 and numbers[:5].tolist() != sorted(numbers[:5].tolist())
    assert notes == ["training images of 'tested.py' (90), as it tests: LoadImageFromFile, CenterCrop, PackInputs"]


def test_wrappers_keep_their_choice_and_lose_what_is_random():
    inner = {"type": "Digits", "split": "train", "pipeline": [{"type": "RandomCrop"}]}
    wrapped = {
        "type": "HeldOut",
        "part": "train",
        "dataset": {"type": "DeviceImages", "flip_prob": 1, "dataset": inner},
    }
    joined = {"type": "ConcatDataset", "datasets": [wrapped, {"type": "A"}]}
    pipeline = [{"type": "PackInputs"}]
    tested = {**inner, "pipeline": pipeline}
    assert as_tested(joined, pipeline, "c.py") == {
        "type": "ConcatDataset",
        "datasets": [{"type": "HeldOut", "part": "train", "dataset": tested}, {"type": "A"}],
    }
    assert inner["pipeline"] == [{"type": "RandomCrop"}]
    with pytest.raises(UserError, match="'c.py' has no val_dataloader and no test_dataloader, whose pipeline shows"):
        as_tested(joined, None, "c.py")


@pytest.mark.parametrize("by_pipeline", [True, False])
def test_damaged_images_are_named_or_left_out(here, by_pipeline):
    (here / "images" / "b" / "1.png").write_bytes(b"no image")
    given = {"data": "images", "config": "tested.py"} | (
        {} if by_pipeline else {"size": (4,), "mean": [0, 0, 0], "std": [1, 1, 1]}
    )
    with pytest.raises(UserError, match="images/b/1.png' cannot be read .*--skip-unreadable"):
        read(of("tested.py"), **given)
    images, labels, notes = read(of("tested.py"), **given, skip_unreadable=True)
    assert len(images) == len(labels) == 89 and any("1 images cannot be read and are left out" in n for n in notes)


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        (None, {}, "--data is missing: give a folder of images, or a config"),
        (None, {"data": "nowhere"}, "--data 'nowhere' does not exist: give a folder"),
        (None, {"data": "images/a/0.png"}, "--data 'images/a/0.png' is a file: give a folder"),
        (None, {"data": "nothing.py"}, "--data 'nothing.py' not found"),
        (None, {"data": "images"}, "how images become inputs of Three is not known: give --size, --mean, --std"),
        (None, {"data": "tested.py", "mean": [1]}, "--mean is for a folder of images; a config says"),
        ("empty.py", {"config": "empty.py"}, "'empty.py' has no train_dataloader, whose images would be used"),
        ("tested.py", {"data": "images", "size": (4,)}, "give --mean, --std"),
    ],
)
def test_one_line(here, config, given, message):
    (here / "empty.py").write_text("default_scope = 'mmpretrain'\n")
    with pytest.raises(UserError, match=message):
        read(of(config), **given)
