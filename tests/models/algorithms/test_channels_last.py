"""``channels_last=True`` is a matter of memory: a seed gives the same weights with it and without it."""

from __future__ import annotations

import pytest
import torch
from elastic import RATIOS
from tfnas import OPTIONS

from mmrazor_lite.models.algorithms import OFA, SPOS, TFNAS, AutoSlim, SubModel
from mmrazor_lite.subnet import subnet_document

MUTATOR = {"type": "OneShotChannelMutator", "candidate_choices": [0.5, 1.0], "divisor": 4}
SHUFFLE = {"type": "mmrazor_lite.SearchableShuffleNetV2", "arch_setting": [[24, 2]], "last_channels": 24}
ELASTIC = {
    "type": "mmrazor_lite.OFAMobileNetV3",
    "arch_setting": [[16, 2, 2, "HSwish", True]],
    "depths": [1, 2],
    "kernel_sizes": [3, 5],
    "expand_ratios": list(RATIOS),
    "tail_channels": [24, 32],
}
GRADIENT = {"type": "mmrazor_lite.TFNASNet", **OPTIONS, "arch_setting": [[8, 1, 1, "ReLU"]], "stem_channels": (8, 8)}
PLAIN = {"type": "mmrazor_lite.InvertedResidualNet", "stem_channels": 8, "settings": [[2, 8, 1, 1]]}


def classifier(backbone: dict, channels: int, pool: bool = False) -> dict:
    return {
        "type": "mmpretrain.ImageClassifier",
        "backbone": backbone,
        "neck": {"type": "GlobalAveragePooling"} if pool else None,
        "head": {"type": "LinearClsHead", "num_classes": 5, "in_channels": channels},
    }


def slim(**options) -> AutoSlim:
    plain = classifier({**PLAIN, "last_channels": 24}, 24, pool=True)
    return AutoSlim(plain, MUTATOR, input_shape=(3, 8, 8), **options)


def single() -> SubModel:
    supernet = classifier(SHUFFLE, 24, pool=True)
    algorithm = SPOS(supernet, input_shape=(3, 32, 32))
    subnet = subnet_document(algorithm.search_space.max(), algorithm.search_space)
    return SubModel(supernet, fix_subnet=subnet, input_shape=(3, 32, 32))


BUILT = {
    "AutoSlim": slim,
    "AutoSlim, joint": lambda: slim(channel_cfg=[1.0, 0.5]),
    "AutoSlim, one subnet": lambda: slim(channel_cfg=0.5),
    "SPOS": lambda: SPOS(classifier(SHUFFLE, 24, pool=True), input_shape=(3, 32, 32)),
    "OFA": lambda: OFA(classifier(ELASTIC, 32), input_shape=(3, 16, 16)),
    "TFNAS": lambda: TFNAS(classifier(GRADIENT, 16), input_shape=(3, 16, 16)),
    "SubModel": single,
}


@pytest.mark.parametrize("name", BUILT)
def test_a_seed_gives_the_same_weights(name):
    drawn = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        algorithm = BUILT[name]()
        if channels_last:
            algorithm.use_channels_last()
        torch.manual_seed(1)
        algorithm.init_weights()
        drawn.append(algorithm.state_dict())
        assert all(
            weight.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
            for weight in drawn[-1].values()
            if weight.dim() == 4
        )
    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(weight, drawn[1][key]) for key, weight in drawn[0].items())
