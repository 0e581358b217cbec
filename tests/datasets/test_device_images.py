"""Images on the device: the same as from the ordinary pipeline, drawn by (seed, epoch, index), never too many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.structures import DataSample

from mmrazor_lite.datasets import DeviceImages, Digits, HeldOut
from mmrazor_lite.datasets.device_images import ImageBatch, uniform, whole_batch
from mmrazor_lite.datasets.resident import ResidentImages
from mmrazor_lite.engine.batches import FixedBatches
from mmrazor_lite.engine.sampler import SeededSampler
from mmrazor_lite.engine.seeding import SeededDataset
from mmrazor_lite.errors import UserError

PIPELINE = [{"type": "mmpretrain.PackInputs"}]


class Images:
    """Random images as a dataset of mmengine gives them."""

    metainfo = {"classes": ("a", "b")}

    def __init__(self, count: int = 10, size: tuple[int, int] = (6, 5), change: dict | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.items = list(torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8))
        for index, item in (change or {}).items():
            self.items[index] = item
        self.reads = 0

    def __len__(self) -> int:
        return len(self.items)

    def get_data_info(self, index: int) -> dict:
        return {"gt_label": index % 2}

    def __getitem__(self, index: int) -> dict:
        self.reads += 1
        return {"inputs": self.items[index], "data_samples": DataSample().set_gt_label(index % 2)}


def epochs_of(count: int, epoch: int = 0) -> np.ndarray:
    return np.full(count, epoch)


def test_without_augmentation_batches_are_those_of_the_ordinary_pipeline(registered):
    preprocessor = ClsDataPreprocessor(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], num_classes=10)
    whole = Digits("test", pipeline=PIPELINE)
    device = DeviceImages(whole)
    chosen = [3, 1, 4, 1, 5]
    ours = preprocessor(whole_batch(device.__getitems__(chosen)))
    theirs = preprocessor(pseudo_collate([whole[index] for index in chosen]))
    assert torch.equal(ours["inputs"], theirs["inputs"])
    assert [s.gt_label.item() for s in ours["data_samples"]] == [s.gt_label.item() for s in theirs["data_samples"]]
    assert len(device) == len(whole)
    assert device.metainfo["classes"] == whole.metainfo["classes"]


def test_any_collate_function_takes_a_batch():
    device = DeviceImages(Images())
    batch = device.__getitems__([1, 2])
    one_by_one, at_once = pseudo_collate(batch), whole_batch(batch)
    assert torch.equal(torch.stack(one_by_one["inputs"]), at_once["inputs"])
    assert whole_batch([{"a": 1}, {"a": 2}]) == {"a": [1, 2]}


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("pad", [1, 4])
def test_every_image_is_a_crop_of_the_padded_image(mode, pad):
    images = Images(count=64)
    device = DeviceImages(images, crop_padding=pad, padding_mode=mode, flip_prob=0.5)
    shown = device.seeded_batch(range(64), seed=1, epochs=epochs_of(64)).inputs
    seen = set()
    for image, crop in zip(images.items, shown, strict=True):
        padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)), mode=mode)
        crops = {
            (top, left, flip): padded[:, top : top + 6, left : left + 5][:, :, :: -1 if flip else 1].tobytes()
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            for flip in (False, True)
        }
        matching = [key for key, value in crops.items() if value == crop.numpy().tobytes()]
        assert matching
        seen.add(matching[0])
    assert len(seen) > (8 if pad == 1 else 40)  # of 18 and of 162
    assert {flip for *_, flip in seen} == {False, True}


@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 10_000),
    order=st.permutations(list(range(20))),
    cut=st.integers(1, 19),
)
@settings(max_examples=30, deadline=None)
def test_draws_depend_on_seed_epoch_and_index_alone(seed, epoch, order, cut):
    whole = uniform(seed, epochs_of(20, epoch), np.arange(20), 3)
    order = np.array(order)
    parts = [uniform(seed, epochs_of(len(part), epoch), part, 3) for part in (order[:cut], order[cut:])]
    assert np.array_equal(np.concatenate(parts), whole[order])
    assert (whole >= 0).all() and (whole < 1).all()


def test_draws_are_uniform_and_differ_in_every_argument():
    draws = uniform(0, epochs_of(100_000), np.arange(100_000), 3)
    counts = np.stack([np.bincount((column * 9).astype(int), minlength=9) for column in draws.T])
    assert (abs(counts / 100_000 - 1 / 9) < 0.005).all()
    assert abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.02
    base = uniform(0, epochs_of(8), np.arange(8), 3)
    for other in (uniform(1, epochs_of(8), np.arange(8), 3), uniform(0, epochs_of(8, 1), np.arange(8), 3)):
        assert (base != other).all()


def test_flip_prob_is_the_share_of_mirrored_images():
    images = Images(count=2000)
    for share in (0.0, 0.25, 1.0):
        device = DeviceImages(images, flip_prob=share)
        shown = device.seeded_batch(range(2000), 0, epochs_of(2000)).inputs
        mirrored = (shown == torch.stack(images.items).flip(-1)).flatten(1).all(1).float().mean()
        assert mirrored == pytest.approx(share, abs=0.04 if 0 < share < 1 else 0)


# in the loaders of training and search ------------------------------------------------------------------------


def loader_of(seed: int, dataset: object, batch_size: int = 4) -> torch.utils.data.DataLoader:
    seeded = SeededDataset(dataset)
    sampler = SeededSampler(seeded, shuffle=True, seed=seed)
    return torch.utils.data.DataLoader(seeded, batch_size, sampler=sampler, collate_fn=whole_batch)


def augmented(**options: object) -> DeviceImages:
    return DeviceImages(Images(20), crop_padding=2, padding_mode="reflect", flip_prob=0.5, **options)


def test_a_resumed_run_sees_the_images_of_an_uninterrupted_one():
    part = HeldOut(augmented(), part="train", fraction=0.2)
    loader = loader_of(3, part)
    epochs = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        epochs.append([batch["inputs"] for batch in loader])
    assert not torch.equal(epochs[0][0], epochs[1][0])
    resumed = loader_of(3, HeldOut(augmented(), part="train", fraction=0.2), batch_size=4)
    resumed.sampler.start_at(1, 8)
    for ours, theirs in zip([batch["inputs"] for batch in resumed], epochs[1][2:], strict=True):
        assert torch.equal(ours, theirs)


def test_single_items_are_those_of_the_batch():
    seeded = SeededDataset(augmented(), seed=5)
    whole = seeded.__getitems__([3, 27, 44])
    for index, item in zip([3, 27, 44], whole, strict=True):
        assert torch.equal(seeded[index]["inputs"], item["inputs"])
        assert seeded[index]["data_samples"].gt_label == item["data_samples"].gt_label


def test_a_search_scores_on_them(registered):
    preprocessor = ClsDataPreprocessor(num_classes=2)
    dataset = HeldOut(augmented(), part="train", fraction=0.2)
    config = {"dataset": dataset, "batch_size": 4, "collate_fn": {"type": "whole_batch"}}
    once, again = (list(FixedBatches(config, preprocessor, num_images=10, seed=1)) for _ in range(2))
    assert sum(len(batch["inputs"]) for batch in once) == 10
    for ours, theirs in zip(once, again, strict=True):
        assert torch.equal(ours["inputs"], theirs["inputs"])


def test_parts_of_it_are_disjoint():
    parts = [HeldOut(DeviceImages(Images(20)), part=part, fraction=0.25) for part in ("train", "held_out")]
    images = [{bytes(part[i]["inputs"].numpy().tobytes()) for i in range(len(part))} for part in parts]
    assert (len(images[0]), len(images[1])) == (15, 5)
    assert not images[0] & images[1]


def test_equal_configs_share_the_images_of_a_process(registered):
    config = {"type": "mmrazor_lite.Digits", "split": "test", "pipeline": PIPELINE}
    first, second = DeviceImages(config, flip_prob=0.5), DeviceImages(dict(config))
    assert first.images is second.images
    assert DeviceImages({**config, "split": "train"}).images is not first.images


# memory ---------------------------------------------------------------------------------------------------------


def free(monkeypatch, **left: int) -> None:
    """Let each device have so many bytes."""
    monkeypatch.setattr("mmrazor_lite.datasets.resident.free_bytes", lambda device: left[device.type])


def test_more_than_memory_is_refused_with_its_size(monkeypatch):
    free(monkeypatch, cpu=2 * 899)
    with pytest.raises(UserError, match=r"10 images of 3x6x5 take 0.00 GiB, cpu has .* memory_fraction=0.5 .*fallback"):
        DeviceImages(Images()).full_init()
    free(monkeypatch, cpu=2 * 900)
    DeviceImages(Images()).full_init()


def test_the_size_is_said_in_full(monkeypatch):
    free(monkeypatch, cpu=3 << 30)
    images = Images(count=2, size=(32, 32))
    monkeypatch.setattr(Images, "__len__", lambda self: 1_000_000)
    with pytest.raises(UserError, match=r"1,000,000 images of 3x32x32 take 2.86 GiB, cpu has 3.00 GiB free"):
        DeviceImages(images).full_init()


def test_fallback_gives_the_same_batches(monkeypatch):
    kept = augmented().seeded_batch(range(20), 7, epochs_of(20)).inputs
    free(monkeypatch, cpu=10)
    device = augmented(fallback=True)
    assert torch.equal(device.seeded_batch(range(20), 7, epochs_of(20)).inputs, kept)
    assert device.images.home is None
    reads = device.dataset.reads
    device.seeded_batch([1, 2], 7, epochs_of(2))
    assert device.dataset.reads == reads + 2
    assert [device.get_data_info(index)["gt_label"] for index in range(3)] == [0, 1, 0]


def test_the_host_comes_before_reading_again(monkeypatch):
    free(monkeypatch, meta=10, cpu=1 << 30)  # a device of no memory stands for a full one
    images = ResidentImages(Images(), torch.device("meta"), 0.5, fallback=True)
    assert images.home == torch.device("cpu")
    with pytest.raises(UserError, match="meta has"):
        ResidentImages(Images(), torch.device("meta"), 0.5, fallback=False)


# refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_padding": -1}, "crop_padding=-1"),
        ({"crop_padding": 1.5}, "crop_padding=1.5"),
        ({"padding_mode": "edge"}, "constant and reflect"),
        ({"flip_prob": 1.1}, "flip_prob=1.1"),
        ({"memory_fraction": -0.1}, "memory_fraction=-0.1"),
        ({"crop_padding": 5, "padding_mode": "reflect"}, "these have 6x5"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        DeviceImages(Images(), **options).full_init()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(3, 6, 5), "image 2 is torch.float32 of 3 dimensions, needed is a uint8"),
        (torch.zeros(3, 7, 5, dtype=torch.uint8), "image 2 has 3x7x5, image 0 has 3x6x5"),
        (None, "image 2 is NoneType"),
    ],
)
def test_images_that_do_not_fit_are_named(item, message):
    with pytest.raises(UserError, match=message):
        DeviceImages(Images(change={2: item})).full_init()


def test_no_images_are_refused():
    with pytest.raises(UserError, match="no images"):
        DeviceImages(Images(count=0)).full_init()


def test_a_batch_is_a_sequence():
    batch = ImageBatch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([1, 0]))
    assert [item["data_samples"].gt_label.item() for item in batch] == [1, 0]
