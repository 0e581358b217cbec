"""The authors' model.config, read and written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tfnas import prepared

from mmrazor_lite.errors import UserError
from mmrazor_lite.export.tfnas_model_config import model_config
from mmrazor_lite.subnet import parse_document, read_subnet


@pytest.fixture(scope="module")
def mutator():
    return prepared()[2]


def document(mutator, subnet) -> dict:
    return model_config(mutator.export(subnet), num_classes=5)


def test_what_is_written_is_read(mutator, tmp_path):
    space = mutator.search_space
    for row in space.sample_indices(np.random.default_rng(0), 20):
        subnet = space.subnet(row)
        (tmp_path / "model.config").write_text(json.dumps(document(mutator, subnet), indent=4))
        there = read_subnet(tmp_path / "model.config", space).subnet
        assert mutator.cost_model.of(there) == mutator.cost_model.of(subnet)
        if there != subnet:  # 4 times as many channels inside: both expansions have them, without a difference
            same = {key for key in subnet if key.endswith("depth")}
            assert all(there[key] == subnet[key] for key in same)


def test_the_authors_keys(mutator):
    config = document(mutator, mutator.search_space.min())
    assert list(config) == [
        "first_stem", "second_stem", "stage1", "stage2", "stage3", "feature_mix_layer", "classifier",
    ]  # fmt: skip
    assert config["stage1"][0] == {
        "name": "MBInvertedResBlock", "in_channels": 6, "mid_channels": 12, "se_channels": 0, "out_channels": 8,
        "kernel_size": 3, "stride": 2, "groups": 1, "has_shuffle": False, "bias": False, "use_bn": True,
        "affine": True, "act_func": "relu",
    }  # fmt: skip
    assert config["classifier"]["in_features"] == 16 and config["classifier"]["out_features"] == 5


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c.pop("stage3"), "has the stages stage1, stage2, the space has 3"),
        (lambda c: c["stage1"].clear(), "stage1 has 0 blocks, the space has 1 to 2"),
        (lambda c: c["stage1"].append(c["stage1"][0]), "stage1 has 3 blocks, the space has 1 to 2"),
        (lambda c: c["stage1"][0].update(se_channels=5), "stage1 block 1: se_channels 5, allowed are 0, 6 and 12"),
        (lambda c: c["stage2"][1].update(kernel_size=7), "stage2 block 2: .*'MBI_k7_e6_se' is not a candidate"),
        (lambda c: c["stage2"][0].update(mid_channels=3), "3 is not a candidate"),
        (lambda c: c["stage2"][0].update(mid_channels="3"), "stage2 block 1 is no block with"),
        (lambda c: c["stage2"][0].update(out_channels=99), "stage2 block 1 gives 99 channels, in this model 12"),
    ],
)
def test_what_does_not_fit(mutator, change, problem):
    config = json.loads(json.dumps(document(mutator, mutator.search_space.max())))
    change(config)
    with pytest.raises(UserError, match=problem):
        parse_document(config, mutator.search_space, "model.config")
