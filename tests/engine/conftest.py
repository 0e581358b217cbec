"""A whole training run on random images, small enough for a second."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def random_images():
    """Register a dataset of random images whose transform draws from random, numpy and torch."""
    import random

    import torch
    from mmpretrain.structures import DataSample

    from mmrazor_lite.registry import DATASETS

    @DATASETS.register_module(force=True)
    class RandomImages(torch.utils.data.Dataset):
        METAINFO = {"classes": tuple("abcde")}
        metainfo = METAINFO

        def __init__(self, n: int = 22, noise: float = 0.1) -> None:
            self.noise = noise
            self.images = np.random.default_rng(0).normal(size=(n, 3, 8, 8)).astype(np.float32)

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, i: int) -> dict:
            drawn = random.random() + np.random.rand() + torch.rand(1).item()
            image = torch.from_numpy(self.images[i]) * (1 + self.noise * drawn)
            return {"inputs": image, "data_samples": DataSample().set_gt_label(i % 5)}

    yield RandomImages
    DATASETS.module_dict.pop("RandomImages")


@pytest.fixture
def run_config(tmp_path):
    """Build the config of a run: 3 epochs of 22 images in batches of 4."""

    def build(work_dir: str = "run", workers: int = 0, **overrides) -> dict:
        loader = {"batch_size": 4, "num_workers": workers, "sampler": {"type": "DefaultSampler", "shuffle": True}}
        test = {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}}
        return {
            "default_scope": "mmpretrain",
            "work_dir": str(tmp_path / work_dir),
            "randomness": {"seed": 3},
            "log_level": "ERROR",
            "model": {
                "type": "mmrazor_lite.AutoSlim",
                "input_shape": (3, 8, 8),
                "architecture": {
                    "type": "ImageClassifier",
                    "backbone": {
                        "type": "mmrazor_lite.InvertedResidualNet",
                        "stem_channels": 8,
                        "settings": [],
                        "last_channels": 16,
                    },
                    "neck": {"type": "GlobalAveragePooling"},
                    "head": {
                        "type": "LinearClsHead",
                        "num_classes": 5,
                        "in_channels": 16,
                        "loss": {"type": "CrossEntropyLoss"},
                        "topk": (1,),
                    },
                    "train_cfg": {"augments": {"type": "Mixup", "alpha": 0.8}},
                },
                "mutator": {"type": "OneShotChannelMutator", "candidate_choices": [0.5, 1.0], "divisor": 2},
            },
            "data_preprocessor": {"num_classes": 5, "mean": [0.0] * 3, "std": [1.0] * 3},
            "train_dataloader": {**loader, "dataset": {"type": "mmrazor_lite.RandomImages"}},
            "val_dataloader": {**test, "dataset": {"type": "mmrazor_lite.RandomImages", "n": 8, "noise": 0.0}},
            "val_evaluator": {"type": "Accuracy", "topk": (1,)},
            "val_cfg": {"calibrate_sample_num": 8},
            "train_cfg": {"by_epoch": True, "max_epochs": 3},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}},
            "param_scheduler": {"type": "PolyLR", "eta_min": 1e-4, "by_epoch": True, "convert_to_iter_based": True},
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1}},
            **overrides,
        }

    return build


@pytest.fixture
def runner(tmp_path):
    """Build a runner from a config, under a name of its own: mmengine shares what bears the same name and second."""
    import itertools

    from mmengine.config import Config

    from mmrazor_lite.engine import RazorRunner

    numbers = itertools.count()

    def build(config: dict) -> RazorRunner:
        return RazorRunner.from_cfg(Config({**config, "experiment_name": f"run{next(numbers)}_{tmp_path.name}"}))

    return build
