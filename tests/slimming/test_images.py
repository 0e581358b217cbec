"""Images from whatever holds some: a sample, or the first batches, and what is none in one line."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming import image_folder, read_images
from mmrazor_lite.slimming.images import as_batches

NETWORK = nn.Conv2d(3, 4, 3)
IMAGES = torch.randn(130, 3, 6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(130)


def read(data: Any, count: int = 40, **options: Any):
    found = read_images(data, NETWORK, count, **options)
    parts = [torch.cat([images for images, _ in part]) for part in (found.seen, found.held_out)]
    return found, *parts


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(IMAGES, LABELS, strict=True))


class Sequence(SequentialSampler):
    """An order that somebody has chosen, though it is that of the dataset."""

    def __init__(self):
        super().__init__(LABELS)


BATCHES = {
    "dicts": [{"img": part, "y": labels} for part, labels in zip(IMAGES.split(7), LABELS.split(7), strict=True)],
    "loader of a stream": DataLoader(Stream(), batch_size=9),
    "loader in an order": DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, sampler=Sequence()),
    "list": list(zip(IMAGES.split(30), LABELS.split(30), strict=True)),
    "generator": (part for part in IMAGES.split(13)),
    "structures": [
        [part, {"a": labels, "b": (labels,)}] for part, labels in zip(IMAGES.split(64), LABELS.split(64), strict=True)
    ],
}
HELD = {
    "tensor": IMAGES,
    "array": IMAGES.numpy(),
    "pair": (IMAGES, LABELS),
    "dict": {"images": IMAGES, "labels": LABELS},
    "dataset": TensorDataset(IMAGES, LABELS),
    "loader": DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9),
}


def labels_of(batches: Any) -> torch.Tensor:
    found = [targets["b"][0] if isinstance(targets, dict) else targets for _, targets in batches]
    return torch.cat(found)


@pytest.mark.parametrize("kind", BATCHES)
def test_batches_are_taken_as_they_come(kind):
    found, seen, held_out = read(BATCHES[kind])
    assert torch.equal(seen, IMAGES[:40]) and torch.equal(held_out, IMAGES[40:80])
    assert found.shape == (3, 6, 5) and not found.notes
    if found.have_targets:
        assert torch.equal(labels_of(found.seen), LABELS[:40])


@pytest.mark.parametrize("kind", HELD)
def test_of_data_in_the_order_of_its_classes_a_sample_is_drawn(kind):
    found, seen, held_out = read(HELD[kind])
    places = [int((image == IMAGES).flatten(1).all(1).nonzero()) for image in torch.cat([seen, held_out])]
    assert len(set(places)) == 80 and max(places[:40]) > 100 and max(places[40:]) > 100
    assert torch.equal(read(HELD[kind])[1], seen) and not torch.equal(read(HELD[kind], seed=1)[1], seen)
    if found.have_targets:
        assert labels_of(found.seen).tolist() + labels_of(found.held_out).tolist() == places


def places(images: torch.Tensor) -> list[int]:
    return [int((image == IMAGES).flatten(1).all(1).nonzero()) for image in images]


def numbers(targets: Any) -> list[int]:
    return [int(number) for leaf in tree_leaves(targets) for number in torch.as_tensor(leaf).flatten()]


TARGETS = {
    "tensor": LABELS,
    "list of numbers": LABELS.tolist(),
    "list of dicts": [{"label": label} for label in LABELS.tolist()],
    "list of tensors": list(LABELS[:, None]),
    "dict with a list": {"a": LABELS, "b": LABELS.tolist()},
    "tuple with a list": (LABELS.tolist(), {"b": LABELS}),
    "list for all": [LABELS, {"b": LABELS}],
}


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_stay_beside_their_images(kind):
    """What is one target for each image in one step is so in all of them."""
    found = read((IMAGES, TARGETS[kind]))[0]
    every = [*found.seen, *found.held_out]
    heads = len(numbers(TARGETS[kind])) // 130
    assert sum(len(images) for images, _ in every) == 80
    for images, targets in every:
        assert type(targets) is type(TARGETS[kind]) and numbers(targets) == places(images) * heads


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_list_of_torchs_loader_is_of_all_images_of_its_batch(size):
    """It makes a list of samples (image, (a, b)): N images of two targets and two images of one look alike."""
    samples = [(image, (label, {"b": -label})) for image, label in zip(IMAGES, LABELS, strict=True)]
    found = read(DataLoader(samples, batch_size=size))[0]
    for images, targets in [*found.seen, *found.held_out]:
        a, b = targets
        assert isinstance(targets, list) and a.tolist() == places(images) == [-x for x in b["b"].tolist()]


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_list_of_what_each_image_has_of_its_own(size):
    def collate(samples):
        return torch.stack([image for image, _ in samples]), [target for _, target in samples]

    samples = [(image, {"boxes": torch.full((n % 3 + 1, 4), n)}) for n, image in enumerate(IMAGES)]
    found = read(DataLoader(samples, batch_size=size, collate_fn=collate))[0]
    for images, targets in [*found.seen, *found.held_out]:
        assert [int(target["boxes"][0, 0]) for target in targets] == places(images)
        assert [len(target["boxes"]) for target in targets] == [place % 3 + 1 for place in places(images)]


class Shuffled(SequentialSampler):
    def __iter__(self):
        return iter(torch.randperm(130))  # tensors


NUMBERED = {
    **{kind: data for kind, data in HELD.items() if kind != "array"},
    "loader in an order": BATCHES["loader in an order"],
    "loader that shuffles": DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, shuffle=True),
    "loader with a sampler": DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, sampler=Shuffled(LABELS)),
    "loader of batches": DataLoader(TensorDataset(IMAGES, LABELS), batch_sampler=LABELS.flip(0).split(7)),
    "loader with workers": DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, shuffle=True, num_workers=1),
}


@pytest.mark.parametrize("kind", NUMBERED)
def test_images_held_out_have_their_numbers_in_the_data(kind):
    found, _, held_out = read(NUMBERED[kind])
    assert list(found.places) == places(held_out) and len(held_out) == 40


def test_what_has_no_numbers_is_said_to_have_none():
    def collate(samples):
        return torch.stack([image for image, label in samples if label % 5])

    left_out = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, collate_fn=collate)
    for data in (left_out, BATCHES["loader of a stream"], BATCHES["list"]):
        assert read(data)[0].places is None


TWICE = {
    "sampler with replacement": lambda: DataLoader(
        TensorDataset(IMAGES, LABELS),
        batch_size=9,
        sampler=WeightedRandomSampler(torch.ones(130), 400, generator=torch.Generator().manual_seed(0)),
    ),
    "loader that begins anew": lambda: cycle(zip(IMAGES[:60].split(9), LABELS[:60].split(9), strict=True)),
    "dataset beside itself": lambda: ConcatDataset([TensorDataset(IMAGES[:30], LABELS[:30])] * 3),
    "tensors": lambda: (torch.cat([IMAGES[:50], IMAGES[:50]]), torch.cat([LABELS[:50], LABELS[:50]])),
    "list for all": lambda: (torch.cat([IMAGES[:50], IMAGES[:50]]), [*LABELS[:50].tolist(), *LABELS[:50].tolist()]),
}


@pytest.mark.parametrize("kind", TWICE)
def test_no_image_is_seen_and_held_out(kind):
    found, seen, held_out = read(TWICE[kind]())
    every = places(torch.cat([seen, held_out]))
    assert len(set(every)) == len(every) >= 30 and len(held_out) and found.is_held_out
    assert numbers([targets for _, targets in [*found.seen, *found.held_out]]) == every
    assert "came more than once: each is taken once" in found.notes[0]


def test_an_image_that_is_drawn_otherwise_each_time_is_one_image():
    """A crop, by a sampler with replacement: its number tells."""

    class Crops(TensorDataset):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image + torch.rand(()), label

    sampler = WeightedRandomSampler(torch.ones(130), 400, generator=torch.Generator().manual_seed(0))
    found = read(DataLoader(Crops(IMAGES, LABELS), batch_size=9, sampler=sampler))[0]
    labels = labels_of([*found.seen, *found.held_out]).tolist()
    assert len(set(labels)) == len(labels) and set(found.places) == set(labels_of(found.held_out).tolist())


class Normalised(DataLoader):
    """Does something with what it has read."""

    def __iter__(self):
        for images, labels in super().__iter__():
            yield (images - 3) / 2, labels


def test_a_loader_that_makes_its_own_batches_is_asked_for_them():
    found, seen, held_out = read(Normalised(TensorDataset(IMAGES, LABELS), batch_size=9))
    assert torch.equal(torch.cat([seen, held_out]), (IMAGES[:80] - 3) / 2) and found.places is None


def test_of_few_images_a_fifth_is_held_out():
    found, seen, held_out = read(IMAGES, 500)
    assert len(seen) == 104 and len(held_out) == 26
    assert sorted(torch.cat([seen, held_out]).flatten(1).sum(1).tolist()) == sorted(IMAGES.flatten(1).sum(1).tolist())
    assert found.notes == ("the data has 130 images: 26, drawn at random, are held out",) and found.is_held_out
    found, seen, held_out = read(list(IMAGES.split(30)), 500)
    assert torch.equal(held_out, IMAGES[104:])
    assert found.notes == ("the data has 130 images: 26, the last of them, are held out",)
    found, seen, held_out = read(IMAGES[:5])
    assert torch.equal(seen, held_out) and "none is held out" in found.notes[0] and not found.is_held_out


@pytest.mark.parametrize(
    ("count", "seen"), [(9, 9), (11, 9), (49, 40), (50, 40), (51, 41), (59, 49), (60, 50), (61, 50), (130, 50)]
)
def test_more_images_never_leave_fewer_to_judge(count, seen):
    """Of 51 to 59 where 50 are asked for there were 1 to 9 once, where 49 left 9."""
    found, first, held_out = read(list(IMAGES[:count].split(30)), 50)
    assert (len(first), len(held_out)) == (seen, min(count - seen, 50) or count)
    assert bool(found.notes) == (seen != 50)


def test_a_loader_that_is_redrawn_stays_what_it_is():
    def collate(parts):
        return torch.stack([image for image, _ in parts]).double(), torch.tensor([label for _, label in parts])

    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, collate_fn=collate, num_workers=1)
    ((images, labels), *_) = as_batches(loader, 80)
    assert images.dtype == torch.float64 and len(images) == 9
    assert torch.equal(images.float(), IMAGES[labels]) and not torch.equal(labels, LABELS[:9])
    assert as_batches(loader) is loader  # all of it
    shuffled = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=9, shuffle=True)
    assert as_batches(shuffled, 80) is shuffled


def test_a_folder_is_read_as_a_network_takes_its_images(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.new("RGB", (40, 30), (20 * number, 0, 0)).save(tmp_path / name / f"{number}.png")
    with pytest.raises(UserError, match="image_folder"):
        read(str(tmp_path))
    data = image_folder(tmp_path, size=[8], mean=[0.5] * 3, std=[0.5] * 3, outputs=2)
    found, seen, _ = read(data, 6)
    assert seen.shape == (6, 3, 8, 8) and set(labels_of(found.seen).tolist()) <= {0, 1}


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
        (IMAGES[:1], "data: it yields one image, .*; give 2 different ones"),
        (torch.zeros(12, 3, 6, 5), "data: it yields 12 times the same image, .*; give 2 different ones"),
        (NAN, "data: batch 0: image 17 holds what is no finite number"),
        ((IMAGES * 9).to(torch.uint8), "data: batch 0 is uint8: give floats, normalised"),
        ([IMAGES[:5], IMAGES[:5, :, :4]], r"data: batch 1 has images of \(3, 4, 5\), wanted are \(3, 6, 5\)"),
        ([(IMAGES[:5], LABELS[:5]), IMAGES[:5]], "data: batch 1 has no targets, the first one is other"),
        ((IMAGES, LABELS[:9]), r"data: targets of shape \(9,\) beside 130 images"),
        ([{"pictures": IMAGES}], "data: a batch has .*pictures.*, and no images under images, image"),
        ("photos", "data='photos': of a folder give image_folder"),
        (7, "data=7: give a DataLoader"),
        (list(zip(IMAGES, range(130), strict=True)), r"data: targets are 0, of a single sample: .* DataLoader\("),
        (list(zip(IMAGES, LABELS, strict=True)), r"data: targets are tensor\(0\), of a single sample: "),
        ([7], "data: a batch is 7, a int: give a DataLoader"),
        ([(IMAGES[:5], [LABELS[:5]]), (IMAGES[:5], [LABELS[:5]] * 2)], "data: targets of batches do not fit together"),
        ([(IMAGES[:5], {"a": LABELS[:5]}), (IMAGES[:5], {"b": LABELS[:5]})], "data: targets of batches do not fit tog"),
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
