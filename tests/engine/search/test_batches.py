from __future__ import annotations

import pytest
import torch

from mmrazor_lite.engine.batches import CALIBRATION_IMAGES, FixedBatches
from mmrazor_lite.errors import UserError


@pytest.fixture
def make(tiny, algorithm):
    def make(config, **options):
        return FixedBatches(config, algorithm.data_preprocessor, **options)

    return make


def _inputs(batches):
    return [batch["inputs"] for batch in batches]


def test_batches_are_equal_in_size_and_complete(tiny, make):
    batches = make(tiny.loader("test", 130))
    assert [len(inputs) for inputs in _inputs(batches)] == [44, 43, 43]
    assert len(batches) == 3 and batches.num_images == 130


@pytest.mark.parametrize("changes", [{"num_workers": 2}, {"sampler": {"type": "DefaultSampler", "shuffle": True}}])
def test_the_same_images_however_they_are_read(tiny, make, changes):
    plain = _inputs(make(tiny.loader("train"), num_images=100, seed=1))
    torch.manual_seed(9)
    other = _inputs(make({**tiny.loader("train"), **changes}, num_images=100, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_seed_chooses_images_and_augmentation(tiny, make):
    one, two = (torch.cat(_inputs(make(tiny.loader("train"), seed=seed))) for seed in (1, 2))
    flipped = [not torch.equal(a, b) for a, b in zip(one, two, strict=True)]
    assert 0.2 < sum(flipped) / len(flipped) < 0.8
    chosen = [torch.cat(_inputs(make(tiny.loader("test"), num_images=20, seed=seed))) for seed in (1, 2)]
    assert not torch.equal(*chosen)


def test_cache_keeps_what_fits(tiny, make):
    kept, read = make(tiny.loader("train")), make(tiny.loader("train"), cache_bytes=1000)
    first, second = _inputs(kept), _inputs(kept)
    assert all(a is b for a, b in zip(first, second, strict=True))
    again, once_more = _inputs(read), _inputs(read)
    assert all(a is not b and torch.equal(a, b) for a, b in zip(again, once_more, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 3}, "unknown key 'batchsize'"),
        ({"batch_size": 0}, "batch_size=0: give a whole number of 1 or more"),
    ],
)
def test_refusals(tiny, make, changes, message):
    with pytest.raises(UserError, match=message):
        make({**tiny.loader("test"), **changes})


def test_more_images_than_there_are_are_refused(tiny, make):
    """Unless the number is the default: that is as many as there are, up to it."""
    loader = tiny.loader("test", 130)
    assert make(loader, num_images=130).num_images == make(loader, num_images=CALIBRATION_IMAGES).num_images == 130
    with pytest.raises(UserError, match="^images: calibrate_sample_num=131, the dataset has 130 images; give so many"):
        make(loader, num_images=131, where="images")
