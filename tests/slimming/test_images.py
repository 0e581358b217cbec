"""Images from whatever holds some: the first ones, in order, and what is none in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming.images import read_images

NETWORK = nn.Conv2d(3, 4, 3)
IMAGES = torch.randn(130, 3, 6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(130)


def read(data: Any, count: int = 40, **options: Any):
    found = read_images(data, NETWORK, count, **options)
    parts = [torch.cat([images for images, _ in part]) for part in (found.seen, found.held_out)]
    return found, *parts


@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        IMAGES.numpy(),
        (IMAGES, LABELS),
        {"images": IMAGES, "labels": LABELS},
        [{"img": part, "y": labels} for part, labels in zip(IMAGES.split(7), LABELS.split(7), strict=True)],
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9),
        TensorDataset(IMAGES, LABELS),
        list(zip(IMAGES.split(30), LABELS.split(30), strict=True)),
        (part for part in IMAGES.split(13)),
        [
            [part, {"a": labels, "b": (labels,)}]
            for part, labels in zip(IMAGES.split(64), LABELS.split(64), strict=True)
        ],
    ],
    ids=["tensor", "array", "pair", "dict", "dicts", "loader", "dataset", "list", "generator", "structures"],
)
def test_the_first_images_are_seen_and_the_next_are_held_out(data):
    found, seen, held_out = read(data)
    assert torch.equal(seen, IMAGES[:40]) and torch.equal(held_out, IMAGES[40:80])
    assert found.shape == (3, 6, 5) and not found.notes
    if found.have_targets:
        labels = [targets for _, targets in found.seen]
        labels = [part["b"][0] if isinstance(part, dict) else part for part in labels]
        assert torch.equal(torch.cat(labels), LABELS[:40])


def test_of_few_images_a_fifth_is_held_out():
    found, seen, held_out = read(IMAGES, 500)
    assert torch.equal(seen, IMAGES[:104]) and torch.equal(held_out, IMAGES[104:])
    assert found.notes == ("the data has 130 images: the last 26 are held out",)
    found, seen, held_out = read(IMAGES[:5])
    assert torch.equal(seen, held_out) and "none is held out" in found.notes[0]


def test_a_loader_that_shuffles_gives_the_same_twice():
    def seen() -> torch.Tensor:
        return read(DataLoader(TensorDataset(IMAGES), batch_size=9, shuffle=True))[1]

    assert torch.equal(seen(), seen())


def test_images_have_the_precision_of_the_network():
    found = read_images(IMAGES, nn.Conv2d(3, 4, 3).double())
    assert found.seen[0][0].dtype == torch.float64


def test_a_config_of_a_data_set():
    data = {
        "type": "mmrazor_lite.Digits",
        "split": "train",
        "size": 8,
        "pipeline": [{"type": "PackInputs"}],
        "data_preprocessor": {"mean": [0.0] * 3, "std": [255.0] * 3},
    }
    found, seen, _ = read(data, 60)
    assert found.shape == (3, 8, 8) and len(seen) == 60 and 0 == seen.min() < seen.max() <= 1
    assert found.seen[0][1].dtype == torch.int64
    with pytest.raises(UserError, match="data: it cannot be built: .*Digitz"):
        read({**data, "type": "Digitz"})


NAN = IMAGES.clone()
NAN[17, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([], "data: it yields no image"),
        (IMAGES[:0], "data: it yields no image"),
        (NAN, "data: batch 0: image 17 holds what is no finite number"),
        ((IMAGES * 9).to(torch.uint8), "data: batch 0 is uint8: give floats, normalised"),
        ([IMAGES[:5], IMAGES[:5, :, :4]], r"data: batch 1 has images of \(3, 4, 5\), wanted are \(3, 6, 5\)"),
        ([(IMAGES[:5], LABELS[:5]), IMAGES[:5]], "data: batch 1 has no targets, the first one is other"),
        ((IMAGES, LABELS[:9]), r"data: targets of shape \(9,\) beside 130 images"),
        ([{"pictures": IMAGES}], "data: a batch has .*pictures.*, and no images under images, image"),
        ("photos", "data='photos': give a DataLoader or other batches"),
        (7, "data=7: give a DataLoader"),
        ([7], "data: a batch is 7, a int: give a DataLoader"),
        (torch.zeros(4, 3), r"data: batch 0 has the shape \(4, 3\): give images \(N, C, H, W\)"),
    ],
)
def test_what_is_no_data_is_told_in_one_line(data, problem):
    with pytest.raises(UserError, match=problem) as caught:
        read(data)
    assert "\n" not in str(caught.value)


def test_images_of_another_shape_than_asked_for():
    with pytest.raises(UserError, match=r"images of \(3, 6, 5\), wanted are \(3, 8, 8\)"):
        read(IMAGES, input_shape=(3, 8, 8))
