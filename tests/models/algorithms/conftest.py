"""A classifier of mmpretrain that is small enough to differentiate in float64, and batches for it."""

from __future__ import annotations

import pytest
import torch

CLASSES = 5


def tiny_classifier(backbone: dict | None = None) -> dict:
    return {
        "type": "mmpretrain.ImageClassifier",
        "backbone": {
            "type": "mmrazor_lite.InvertedResidualNet",
            "stem_channels": 8,
            "settings": [[2, 8, 1, 1]],
            "last_channels": 24,
            **(backbone or {}),
        },
        "neck": {"type": "GlobalAveragePooling"},
        "head": {
            "type": "LinearClsHead",
            "num_classes": CLASSES,
            "in_channels": 24,
            "loss": {"type": "CrossEntropyLoss"},
        },
    }


@pytest.fixture
def architecture() -> dict:
    return tiny_classifier()


@pytest.fixture
def make():
    """Build an AutoSlim on the tiny classifier, in float64 and with fixed weights."""
    from mmengine.model import BaseDataPreprocessor

    from mmrazor_lite.models.algorithms import AutoSlim

    def build(dtype: torch.dtype = torch.float64, **options) -> AutoSlim:
        torch.manual_seed(0)
        mutator = {"type": "OneShotChannelMutator", "candidate_choices": [0.25, 0.5, 0.75, 1.0], "divisor": 2}
        options = {"data_preprocessor": BaseDataPreprocessor(), "mutator": mutator, **options}
        algorithm = AutoSlim(**{"architecture": tiny_classifier(), "input_shape": (3, 8, 8), **options})
        for parameter in algorithm.parameters():  # norms differ per channel, so that a wrong slice shows
            torch.nn.init.normal_(parameter, 0.3 if parameter.dim() == 1 else 0.0, 0.3)
        return algorithm.to(dtype).train()

    return build


@pytest.fixture
def batch():
    """Build a batch as a data loader gives it: (N, 3, 8, 8) images and labelled samples."""
    from mmpretrain.structures import DataSample

    def build(n: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict:
        images = torch.randn((n, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=dtype)
        return {"inputs": images, "data_samples": [DataSample().set_gt_label(i % CLASSES) for i in range(n)]}

    return build
