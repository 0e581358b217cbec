"""All data of a run looked at together, and what a checkpoint remembers of the images it was trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from torch import nn

from mmrazor_lite.datasets.facts import Facts
from mmrazor_lite.engine.data_match import check_data, check_last_batch, number_of_outputs
from mmrazor_lite.engine.trained_on import KEPT, TrainedOn
from mmrazor_lite.errors import UserError


class Records(BaseDataset):
    """Images that are nowhere, with given labels."""

    def __init__(self, labels, classes=None, split="train") -> None:
        self.labels, self.split = labels, split
        super().__init__(metainfo={"classes": classes} if classes else None)

    def load_data_list(self):
        return [{"gt_label": label} for label in self.labels]


class Own(nn.Module):
    """A network whose last maps have one place where images have ``side`` of 4."""

    input_shape = (3, 4, 4)

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 4), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, outputs))

    def forward(self, inputs, mode="tensor"):
        return self.net(inputs)


def test_the_number_of_outputs_of_any_network():
    assert number_of_outputs(Own(7)) == 7
    model = Own()
    model.head = type("Head", (nn.Module,), {"num_classes": 12})()
    assert number_of_outputs(model) == 12
    model = Own()
    model.input_shape = (3, 2, 2)  # it cannot run so: told where it is run in earnest
    assert number_of_outputs(model) is None
    assert number_of_outputs(nn.Linear(2, 2)) is None


def test_looking_changes_nothing():
    model = Own().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    check_last_batch(model, loader(batch_size=2, images=4), "train_dataloader")
    number_of_outputs(model)
    assert model.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("labels", "classes", "problem"),
    [
        ([0, 1, 3], None, "item 2 of Records has label 3, the model has 3 classes, 0 to 2: mend"),
        ([1, 2, 3], None, "labels are 1 to 3, they count from 0"),
        ([0, -1, 1], None, "item 1 of Records has label -1, labels count from 0"),
        ([0, 2], ("a", "b"), "has label 2, there are 2 names of classes"),
    ],
)
def test_labels_that_mean_nothing(labels, classes, problem):
    with pytest.raises(UserError, match=problem):
        check_data({"train_dataloader": Records(labels, classes)}, Own())


def test_good_labels():
    found = check_data({"train_dataloader": Records([0, 1, 2]), "val_dataloader": Records([1], split="test")}, Own())
    assert found["train_dataloader"].labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("a", "c"), "val_dataloader lacks 'b' of train_dataloader: a label would mean another class"),
        (("a", "b", "d"), "val_dataloader has 'd', which train_dataloader has not; val_dataloader lacks 'c'"),
        (("b", "a", "c"), "val_dataloader has the classes of train_dataloader in another order"),
    ],
)
def test_names_that_differ(names, problem):
    with pytest.raises(UserError, match=problem):
        train = Records([0, 1], ("a", "b", "c"))
        check_data({"train_dataloader": train, "val_dataloader": Records([0], names)}, Own())


def test_names_of_the_checkpoint(caplog):
    before = TrainedOn.of(Facts(classes=("a", "x")))
    data = {"test_dataloader": Records([0, 1], ("a", "b"))}
    with pytest.raises(UserError, match="test_dataloader has 'b', which the checkpoint has not"):
        check_data(data, Own(), before)
    check_data(data, Own(), before, same_classes=False)  # other classes are trained further
    check_data(data, Own(), TrainedOn.of(Facts(classes=("a", "b"))))
    check_data({"test_dataloader": Records([0, 1])}, Own(), before)  # no names, nothing to compare


def test_several_labels_for_a_head_that_takes_one():
    from mmpretrain.models.heads import LinearClsHead, MultiLabelLinearClsHead

    data = {"train_dataloader": Records([[0, 1], [2]])}
    model = Own()
    model.head = LinearClsHead(3, 4)
    with pytest.raises(UserError, match="images have several labels each, LinearClsHead takes one"):
        check_data(data, model)
    model.head = MultiLabelLinearClsHead(3, 4)
    check_data(data, model)


def loader(batch_size: int, images: int, drop_last: bool = False):
    return torch.utils.data.DataLoader(list(range(images)), batch_size=batch_size, drop_last=drop_last)


@pytest.mark.parametrize(
    ("size", "images", "drop_last", "problem"),
    [
        (2, 5, False, "train_dataloader: the last batch of an epoch has one image.*train_dataloader.drop_last=True"),
        (1, 5, True, "train_dataloader: batches have one image"),
        (2, 5, True, None),
        (2, 4, False, None),
    ],
)
def test_a_batch_of_one_image(size, images, drop_last, problem):
    if problem is None:
        check_last_batch(Own(), loader(size, images, drop_last), "train_dataloader")
        return
    with pytest.raises(UserError, match=problem):
        check_last_batch(Own(), loader(size, images, drop_last), "train_dataloader")
    model = Own()
    model.input_shape = (3, 5, 5)  # four places in the last map
    model.net[3] = nn.Linear(16, 3)
    check_last_batch(model, loader(size, images, drop_last), "train_dataloader")


# What a checkpoint remembers


def facts(keys) -> Facts:
    return Facts(keys=np.asarray(keys, dtype=np.uint64), classes=("a", "b"))


def keys_of(first: int, last: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**64, last, dtype=np.uint64)[first:]


def test_few_images_are_known_exactly():
    trained = TrainedOn.of(facts(keys_of(0, 100)), "fraction=0.1, seed=0")
    again = TrainedOn.from_dict(trained.to_dict(), "it")
    assert again.to_dict() == trained.to_dict() and again.images == 100 and again.classes == ("a", "b")
    for first, last, seen in ((0, 100, 100), (99, 130, 1), (100, 200, 0)):
        assert again.seen(keys_of(first, last)) == seen


def test_many_images_are_known_by_a_sample():
    images = 10 * KEPT
    trained = TrainedOn.from_dict(TrainedOn.of(facts(keys_of(0, images))).to_dict(), "it")
    assert len(trained.sample) == KEPT and len(trained.to_dict()["keys"]) < 180_000
    assert trained.seen(keys_of(images, images + 20_000)) == 0
    assert trained.seen(keys_of(images - 10_000, images)) == pytest.approx(10_000, rel=0.1)
    assert trained.seen(keys_of(images - 10_000, images + 10_000)) == pytest.approx(10_000, rel=0.1)


@pytest.mark.parametrize("sizes", [(50, 80), (KEPT - 5, 100), (3 * KEPT, 2 * KEPT), (KEPT + 1, 10)])
def test_two_trainings_are_joined_as_one(sizes):
    first, second = sizes
    whole = TrainedOn.of(facts(keys_of(0, first + second)))
    a, b = TrainedOn.of(facts(keys_of(0, first))), TrainedOn.of(facts(keys_of(first, first + second)))
    joined = b.joined(a)
    assert joined.sample.tolist() == whole.sample[: len(joined.sample)].tolist()
    assert joined.limit <= whole.limit and len(joined.sample) >= min(KEPT // 2, first + second)
    assert a.joined(a).to_dict() == a.to_dict()
    unknown = TrainedOn.of(Facts(classes=("x",)))
    assert unknown.joined(a).seen(keys_of(0, 20)) > 0 and a.joined(unknown).to_dict() == a.to_dict()
    assert unknown.seen(keys_of(0, 20)) == 0


@pytest.mark.parametrize(
    "data",
    [
        [],
        {},
        "x",
        {"keys": "?", "limit": 1, "images": 1},
        {"keys": "AAAA", "limit": 1, "images": 1},
        {"keys": "", "limit": -1, "images": 1},
        {"keys": "", "limit": 1 << 65, "images": 1},
        {"keys": "", "limit": 1, "images": 1, "classes": "ab"},
        {"keys": "", "limit": 1, "images": 1, "classes": [1]},
    ],
)
def test_a_damaged_record(data):
    with pytest.raises(UserError, match="a.pth: what it says of the images it was trained on is damaged"):
        TrainedOn.from_dict(data, "a.pth")
