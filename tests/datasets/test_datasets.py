"""Digits, and the held-out part of a training set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrazor_lite.datasets import Digits, HeldOut
from mmrazor_lite.datasets.held_out import held_out_mask
from mmrazor_lite.errors import UserError


def labels_of(dataset) -> list[int]:
    return [dataset.get_data_info(index)["gt_label"] for index in range(len(dataset))]


def test_digits_are_split_once_and_stratified():
    train, test = Digits("train"), Digits("test")
    assert (len(train), len(test)) == (1347, 450)
    shares = np.bincount(labels_of(test)) / (np.bincount(labels_of(train)) + np.bincount(labels_of(test)))
    assert np.all(abs(shares - 0.25) < 0.005)
    images = {info["img"].tobytes() for info in (test.get_data_info(i) for i in range(len(test)))}
    assert not images & {train.get_data_info(i)["img"].tobytes() for i in range(len(train))}


@pytest.mark.parametrize("size", [8, 16])
def test_digits_are_rgb_images(size):
    image = Digits("test", size=size).get_data_info(0)["img"]
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.max() > 200


def test_digits_pipeline_starts_from_the_image(registered):
    dataset = Digits("train", pipeline=[{"type": "mmpretrain.PackInputs"}])
    item = dataset[0]
    assert item["inputs"].shape == (3, 8, 8)
    assert item["data_samples"].gt_label.item() == dataset.get_data_info(0)["gt_label"]


@pytest.mark.parametrize(("kwargs", "message"), [({"split": "val"}, "train and test"), ({"size": 4}, "8 x 8")])
def test_digits_refuse(kwargs, message):
    with pytest.raises(UserError, match=message):
        Digits(**kwargs)


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=300),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_held_out_is_stratified_and_pure(labels, fraction, seed):
    labels = np.array(labels)
    mask = held_out_mask(labels, fraction, seed)
    assert np.array_equal(mask, held_out_mask(labels, fraction, seed))
    for label in np.unique(labels):
        mine = labels == label
        assert abs(mask[mine].sum() - fraction * mine.sum()) < 1 + 1e-6


def test_held_out_works_with_one_image_per_class():
    mask = held_out_mask(np.arange(1000), 0.04, seed=0)
    assert mask.sum() == 40


def test_parts_are_disjoint_and_complete():
    parts = {}
    for part in ("train", "held_out", "all"):
        dataset = HeldOut(Digits("train"), part=part, fraction=0.2, seed=1)
        dataset.full_init()
        parts[part] = dataset
    chosen = [set(parts[part].indices.tolist()) for part in ("train", "held_out")]
    assert not chosen[0] & chosen[1]
    assert chosen[0] | chosen[1] == set(parts["all"].indices.tolist()) == set(range(1347))
    other = HeldOut(Digits("train"), part="held_out", fraction=0.2, seed=2)
    other.full_init()
    assert set(other.indices.tolist()) != chosen[1]


def test_held_out_items_are_those_of_the_dataset():
    whole = Digits("train")
    part = HeldOut(whole, part="held_out", fraction=0.1)
    assert len(part) == pytest.approx(135, abs=1)
    assert part.metainfo["classes"] == whole.metainfo["classes"]
    index = int(part.indices[3])
    assert np.array_equal(part.get_data_info(3)["img"], whole.get_data_info(index)["img"])
    assert part[3]["gt_label"] == whole[index]["gt_label"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"part": "val"}, "part is 'val'"), ({"fraction": 1.0}, "between 0 and 1"), ({"fraction": 0}, "between 0 and 1")],
)
def test_held_out_refuses(kwargs, message):
    with pytest.raises(UserError, match=message):
        HeldOut(Digits("train"), **kwargs)


def test_empty_part_is_refused():
    dataset = HeldOut(Digits("train", indices=2), part="held_out", fraction=0.01, seed=0)
    with pytest.raises(UserError, match="no image in part 'held_out' of 2 images"):
        len(dataset)
