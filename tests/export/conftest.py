from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmrazor_lite.config.build import register_quietly
from mmrazor_lite.export import save_checkpoint
from mmrazor_lite.subnet import write_subnet


@pytest.fixture(scope="session")
def make_algorithm():
    """Build an AutoSlim around two stages of mmpretrain's ResNet-18 for images of 32 x 32."""
    from mmengine.registry import DefaultScope

    register_quietly()
    DefaultScope.get_instance("mmrazor_lite_tests", scope_name="mmpretrain")
    from mmrazor_lite.models.algorithms import AutoSlim

    stages = {"num_stages": 2, "out_indices": (1,), "strides": (1, 2), "dilations": (1, 1)}
    stages["init_cfg"] = {"type": "Pretrained", "checkpoint": "nowhere.pth"}

    def make(**options):
        return AutoSlim(
            architecture={
                "type": "mmpretrain.ImageClassifier",
                "backbone": {"type": "ResNet", "depth": 18, "stem_channels": 16, "base_channels": 16, **stages},
                "neck": {"type": "GlobalAveragePooling"},
                "head": {"type": "LinearClsHead", "num_classes": 5, "in_channels": 32, "topk": (1,)},
                "train_cfg": {"augments": {"type": "Mixup", "alpha": 0.2}},
            },
            mutator={"type": "OneShotChannelMutator", "divisor": 2},
            data_preprocessor={"num_classes": 5, "mean": [120.0] * 3, "std": [60.0] * 3},
            input_shape=(3, 32, 32),
            **options,
        )

    return make


@pytest.fixture(scope="session")
def joint(make_algorithm, tmp_path_factory):
    """A joint model of three subnets with random weights and statistics: algorithm, checkpoint, subnet files."""
    folder = tmp_path_factory.mktemp("joint")
    space = make_algorithm().search_space
    rng = np.random.default_rng(0)
    files = [folder / f"{name}.yaml" for name in "abc"]
    for file in files:
        write_subnet(file, space.sample(rng), space)
    algorithm = make_algorithm(channel_cfg=[str(file) for file in files])
    generator = torch.Generator().manual_seed(0)
    for module in algorithm.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            torch.nn.init.normal_(module.weight, 1, 0.1, generator=generator)
    checkpoint = folder / "joint.pth"
    meta = {"mmrazor_lite": algorithm.checkpoint_meta()}
    save_checkpoint({"state_dict": algorithm.state_dict(), "meta": meta}, checkpoint)
    return SimpleNamespace(algorithm=algorithm, checkpoint=checkpoint, files=files)


@pytest.fixture(scope="session")
def parts(joint, tmp_path_factory):
    """The files split from ``joint``, asked for in reverse order."""
    from mmrazor_lite.export import split

    return split(joint.algorithm, joint.checkpoint, joint.files[::-1], tmp_path_factory.mktemp("parts"))
