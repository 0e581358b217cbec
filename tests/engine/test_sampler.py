"""The order and the transforms of training images depend on (seed, epoch, index) alone."""

from __future__ import annotations

import logging
import random
from contextlib import nullcontext
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mmrazor_lite.engine.resume import check_repeats, seeded_dataloader
from mmrazor_lite.engine.sampler import SeededSampler
from mmrazor_lite.engine.seeding import SeededDataset
from mmrazor_lite.errors import UserError


@pytest.fixture
def dataset(random_images):
    return SeededDataset(random_images(10))


def test_epochs_are_permutations_that_differ(dataset):
    sampler = SeededSampler(dataset, seed=1)
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        assert sorted(indices) == list(range(10 * epoch, 10 * epoch + 10))
        orders.append([index % 10 for index in indices])
    assert orders[0] != orders[1] != list(range(10))
    assert list(SeededSampler(dataset, shuffle=False, seed=1)) == list(range(10))
    assert list(SeededSampler(dataset, seed=2)) != list(SeededSampler(dataset, seed=1))


@pytest.mark.parametrize("infinite", [False, True])
@pytest.mark.parametrize("start", [0, 3, 10, 14])
def test_skip_goes_on_where_an_uninterrupted_run_would_be(dataset, infinite, start):
    whole = SeededSampler(dataset, seed=1, infinite=True)
    expected = list(islice(whole, 25))
    sampler = SeededSampler(dataset, seed=1, infinite=infinite)
    sampler.skip(start)
    if infinite:
        assert list(islice(sampler, 25 - start)) == expected[start:]
        return
    sampler.set_epoch(start // 10)  # as mmengine's hook does before the epoch that is resumed
    assert list(sampler) == expected[start : (start // 10 + 1) * 10]
    assert len(list(sampler)) == 10  # a start in the middle is for the first pass only
    sampler.set_epoch(start // 10 + 1)
    assert [index % 10 for index in sampler] != list(range(10)) and len(list(sampler)) == 10


@pytest.mark.parametrize("size", [10, 11, 1])
def test_ranks_share_an_epoch(random_images, monkeypatch, size):
    dataset = SeededDataset(random_images(size))
    parts = {True: [], False: []}
    for rank in range(3):
        monkeypatch.setattr("mmrazor_lite.engine.sampler.get_dist_info", lambda rank=rank: (rank, 3))
        for round_up, found in parts.items():
            sampler = SeededSampler(dataset, seed=1, round_up=round_up)
            found.append(list(sampler))
            assert len(found[-1]) == len(sampler)
    assert sorted(chain(*parts[False])) == list(range(size))
    assert {len(part) for part in parts[True]} == {-(-size // 3)} and set(chain(*parts[True])) == set(range(size))


def test_items_depend_on_seed_epoch_and_index_and_leave_the_random_states(dataset):
    def item(index: int) -> torch.Tensor:
        return dataset[index]["inputs"]

    dataset.seed = 5
    first = item(3)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    assert torch.equal(item(3), first)
    after = random.getstate(), np.random.get_state()[1], torch.get_rng_state()
    assert before[0] == after[0] and (before[1] == after[1]).all() and torch.equal(before[2], after[2])
    assert not torch.equal(item(13), first)  # the same image, one epoch later
    dataset.seed = 6
    assert not torch.equal(item(3), first)


def test_the_sampler_seeds_its_dataset_and_passes_metainfo_on(dataset):
    sampler = SeededSampler(dataset, seed=4)
    assert dataset.seed == sampler.seed == 4
    assert dataset.metainfo == {"classes": tuple("abcde")}


def test_a_dataset_that_cannot_read_the_indices_is_refused(random_images):
    with pytest.raises(UserError, match="SeededSampler needs its dataset wrapped"):
        SeededSampler(random_images(3))


def test_no_images_is_an_error(random_images):
    with pytest.raises(UserError, match="has no images"):
        SeededSampler(SeededDataset(random_images(0)))


@pytest.mark.parametrize(
    ("images", "size", "infinite", "refused"), [(5, 6, True, True), (6, 6, True, False), (5, 6, False, False)]
)
def test_a_batch_larger_than_all_images_is_refused_where_the_loader_never_ends(
    random_images, images, size, infinite, refused
):
    """It would be filled with the same images again and again: 100,000 of 16 took minutes."""
    dataset = SeededDataset(random_images(images))
    loader = DataLoader(dataset, size, sampler=SeededSampler(dataset, infinite=infinite))
    with pytest.raises(UserError, match=f"where: 5 images make no batch of {size}") if refused else nullcontext():
        check_repeats(loader, "where")


@pytest.mark.parametrize("config", [{"sampler": {"type": "RepeatAugSampler"}}, {"num_batch_per_epoch": 3}])
def test_a_sampler_that_cannot_be_replaced_is_told_with_its_place(config, caplog):
    config = {"sampler": {"type": "DefaultSampler"}, **config}
    with caplog.at_level(logging.WARNING):
        assert seeded_dataloader(config, True, logging.getLogger("here"), "train_cfg.arch_dataloader") == config
    (said,) = caplog.messages
    assert said.startswith("train_cfg.arch_dataloader: with this sampler a resumed run reads other data")
