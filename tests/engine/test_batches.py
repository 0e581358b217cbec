"""The images that batch norm is recalibrated on: drawn by the seed, in batches of one size."""

from __future__ import annotations

import numpy as np

from mmrazor_lite.engine.batches import FixedBatches


def batches(dataset, **options) -> FixedBatches:
    return FixedBatches({"dataset": dataset, "batch_size": 5}, lambda raw, training: raw, **options)


def test_images_are_drawn_by_the_seed_from_all_of_them(random_images):
    dataset = random_images(40)
    drawn = [batches(dataset, num_images=12, seed=seed).indices.tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    for indices in drawn:
        assert indices == sorted(set(indices)) and len(indices) == 12 and indices[-1] > 20
    assert batches(dataset).indices.tolist() == list(range(40))


def test_batches_differ_by_one_image_at_most(random_images):
    made = batches(random_images(40), num_images=12)
    assert [len(batch["inputs"]) for batch in made] == [4, 4, 4] and len(made) == 3
    first, again = ([np.asarray(image) for batch in made for image in batch["inputs"]] for _ in range(2))
    assert np.array_equal(first, again)
