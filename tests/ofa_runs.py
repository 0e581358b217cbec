"""A tiny Once-for-All in each of its phases, and files of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from elastic import randomised

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.export import read_checkpoint, save_checkpoint
from mmrazor_lite.models.algorithms import OFA
from mmrazor_lite.models.algorithms.loading import load_checked
from mmrazor_lite.registry import SCOPE

CLASSES, LR, SIZES = 5, 0.1, (6, 8)
PHASES = ["teacher", "kernel", "depth_1", "expand_1", "expand_2"]
NUMBER = {"teacher": 1, "kernel": 1, "depth_1": 2, "expand_1": 4, "expand_2": 4}
SHRINKING = pytest.mark.parametrize("phase", PHASES[1:])


def architecture(**backbone) -> dict:
    return {
        "type": "mmpretrain.ImageClassifier",
        "backbone": {
            "type": "mmrazor_lite.OFAMobileNetV3",
            "arch_setting": [[16, 2, 2, "HSwish", True], [24, 1, 1, "ReLU", False]],
            "depths": [1, 2],
            "kernel_sizes": [3, 5],
            "expand_ratios": [2, 3, 4],
            "tail_channels": [24, 32],
            "stem_stride": 1,
            "dropout": 0.0,
            **backbone,
        },
        "head": {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 32},
    }


def make(architecture: dict | None = None, seed: int = 0, **options) -> OFA:
    """In float64, with random norms and kernel matrices."""
    from mmengine.model import BaseDataPreprocessor

    torch.manual_seed(seed)
    options = {"mutator": {"type": "NasMutator", "resolutions": list(SIZES)}, "input_shape": (3, 8, 8), **options}
    algorithm = OFA(architecture or globals()["architecture"](), data_preprocessor=BaseDataPreprocessor(), **options)
    randomised(algorithm)
    return algorithm.double().train()


def batch(seed: int = 0, n: int = 4) -> dict:
    from mmpretrain.structures import DataSample

    images = torch.randn((n, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {"inputs": images, "data_samples": [DataSample().set_gt_label(i % CLASSES) for i in range(n)]}


def labels(data: dict) -> torch.Tensor:
    return torch.cat([sample.gt_label for sample in data["data_samples"]])


def sgd(algorithm: OFA, **options) -> SubnetOptimWrapper:
    return SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=LR), **options)


def save(algorithm: OFA, path) -> str:
    meta = {SCOPE: algorithm.checkpoint_meta()}
    save_checkpoint({"state_dict": algorithm.state_dict(), "meta": meta}, path)
    return str(path)


def start(algorithm: OFA, file: str) -> OFA:
    load_checked(algorithm, read_checkpoint(file), file)
    return algorithm


def at(images: torch.Tensor, size: int) -> torch.Tensor:
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
