"""What a checkpoint knows of the images that it was trained on, exactly or as a sample."""

from __future__ import annotations

import numpy as np
import pytest

from mmrazor_lite.engine.trained_on import ALL, KEPT, TrainedOn

KEYS = np.random.default_rng(0).integers(0, ALL, 6 * KEPT, dtype=np.uint64)


def of(keys: np.ndarray) -> TrainedOn:
    keys = np.unique(keys)
    if len(keys) <= KEPT:
        return TrainedOn(keys, ALL, len(keys))
    return TrainedOn(keys[:KEPT], int(keys[KEPT]), len(keys))


@pytest.mark.parametrize("sizes", [(100, 200), (3 * KEPT, 100), (100, 3 * KEPT), (2 * KEPT, 3 * KEPT)])
def test_two_samples_make_that_of_both_sets(sizes):
    first, second = KEYS[: sizes[0]], KEYS[-sizes[1] :]
    joined, both = of(second).joined(of(first)), of(np.concatenate([first, second]))
    assert joined.limit <= both.limit or joined.limit == both.limit == ALL
    known = both.sample[both.sample < np.uint64(joined.limit)] if joined.limit < ALL else both.sample
    assert np.array_equal(joined.sample, known)  # all below the limit, and nothing above it


@pytest.mark.parametrize("size", [200, 4 * KEPT])
def test_how_many_of_others_were_trained_on(size):
    trained = of(KEYS[:size])
    assert trained.seen(KEYS[size : 2 * size] if size < KEPT else KEYS[size:]) == 0
    assert trained.seen(KEYS[:100]) == pytest.approx(100, abs=1 if size < KEPT else 0.1)
    half = np.concatenate([KEYS[: size // 4], KEYS[-(size // 4) :]])
    assert trained.seen(half) == pytest.approx(size // 4, rel=0 if size < KEPT else 0.05)
    assert trained.seen(None) == trained.seen(KEYS[:0]) == 0


def test_images_trained_on_again_say_nothing_of_those_that_are_not_known():
    before = of(KEYS[: 3 * KEPT])
    again = of(KEYS[:100])  # about two thirds of them above the limit
    joined = again.joined(before)
    assert joined.limit == before.limit and np.array_equal(joined.sample, before.sample)
