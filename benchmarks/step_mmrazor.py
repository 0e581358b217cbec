"""MMRazor 1.0.0's own training step, from a checkout of it, on the torch that is installed here.

It asks for packages of 2023: mmcls is answered by mmpretrain, its later name, and mmcv says that it is the newest that
MMRazor takes. Nothing of the step is touched: network, mutator, distiller and ``train_step`` are MMRazor's.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

NEWEST_MMCV = "2.1.0"  # mmrazor/__init__.py
LATER_NAMES = {"ClsDataSample": "DataSample", "PackClsInputs": "PackInputs"}


def _classifier(backbone: dict[str, Any], channels: int, loss: dict[str, Any]) -> dict[str, Any]:
    return {
        "_scope_": "mmpretrain",
        "type": "ImageClassifier",
        "backbone": backbone,
        "neck": {"type": "GlobalAveragePooling"},
        "head": {
            "type": "LinearClsHead",
            "num_classes": 1000,
            "in_channels": channels,
            "loss": loss,
            "topk": (1, 5),
        },
    }


# configs/nas/mmcls/autoslim/autoslim_mbv2_1.5x_supernet_8xb256_in1k.py
AUTOSLIM = {
    "type": "mmrazor.AutoSlim",
    "num_random_samples": 2,
    "architecture": _classifier(
        {"type": "MobileNetV2", "widen_factor": 1.5},
        1920,
        {"type": "CrossEntropyLoss", "loss_weight": 1.0},
    ),
    "distiller": {
        "type": "mmrazor.ConfigurableDistiller",
        "teacher_recorders": {"fc": {"type": "ModuleOutputs", "source": "head.fc"}},
        "student_recorders": {"fc": {"type": "ModuleOutputs", "source": "head.fc"}},
        "distill_losses": {"loss_kl": {"type": "KLDivergence", "tau": 1, "loss_weight": 1}},
        "loss_forward_mappings": {
            "loss_kl": {
                "preds_S": {"recorder": "fc", "from_student": True},
                "preds_T": {"recorder": "fc", "from_student": False},
            }
        },
    },
    "mutator": {
        "type": "mmrazor.OneShotChannelMutator",
        "channel_unit_cfg": {
            "type": "OneShotMutableChannelUnit",
            "default_args": {
                "candidate_choices": [i / 12 for i in range(2, 13)],
                "choice_mode": "ratio",
                "divisor": 8,
            },
        },
        "parse_cfg": {
            "type": "ChannelAnalyzer",
            "demo_input": (1, 3, 224, 224),
            "tracer_type": "BackwardTracer",
        },
    },
}
# configs/nas/mmcls/spos/spos_shufflenet_supernet_8xb128_in1k.py, _base_/nas_backbones/spos_shufflenet_supernet.py
_OPERATORS = {
    "type": "mmrazor.OneShotMutableOP",
    "candidates": {
        "shuffle_3x3": {"type": "mmrazor.ShuffleBlock", "kernel_size": 3},
        "shuffle_5x5": {"type": "mmrazor.ShuffleBlock", "kernel_size": 5},
        "shuffle_7x7": {"type": "mmrazor.ShuffleBlock", "kernel_size": 7},
        "shuffle_xception": {"type": "mmrazor.ShuffleXception"},
    },
}
SPOS = {
    "type": "mmrazor.SPOS",
    "architecture": _classifier(
        {
            "type": "mmrazor.SearchableShuffleNetV2",
            "widen_factor": 1.0,
            "arch_setting": [[64, 4, _OPERATORS], [160, 4, _OPERATORS], [320, 8, _OPERATORS], [640, 4, _OPERATORS]],
        },
        1024,
        {
            "type": "LabelSmoothLoss",
            "num_classes": 1000,
            "label_smooth_val": 0.1,
            "mode": "original",
            "loss_weight": 1.0,
        },
    ),
    "mutator": {"type": "mmrazor.NasMutator"},
}
MODELS_OF = {"autoslim": AUTOSLIM, "spos": SPOS}


class _Answered(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``mmcls``, and what is in it, in ``mmpretrain``."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name.split(".")[0] == "mmcls" else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = lambda name: _named(spec.name.replace("mmcls", "mmpretrain", 1), name)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: names are looked up when they are asked for."""


def _named(module: str, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(importlib.import_module(module), LATER_NAMES.get(name, name))


def build(folder: str, name: str) -> nn.Module:
    """The algorithm of MMRazor's config, from the checkout in ``folder``, with random weights, in train mode."""
    import mmcv
    import mmpretrain.models  # noqa: F401
    from mmengine.registry import MODELS, init_default_scope

    sys.path.insert(0, folder)
    sys.meta_path.insert(0, _Answered())
    version, mmcv.__version__ = mmcv.__version__, NEWEST_MMCV
    import mmrazor

    mmcv.__version__ = version
    import mmrazor.models  # noqa: F401

    init_default_scope("mmrazor")
    torch.manual_seed(0)
    algorithm = MODELS.build(MODELS_OF[name])
    algorithm.init_weights()
    algorithm.train()  # returns None
    return algorithm


def step_of(algorithm: nn.Module, amp: bool, nesterov: bool) -> Callable[[Tensor, list[Any]], None]:
    """Its training step, through mmengine's optimizer wrapper, as ``tools/train.py`` and ``--amp`` choose it."""
    from mmengine.optim import AmpOptimWrapper, OptimWrapper

    optimizer = torch.optim.SGD(algorithm.parameters(), 1e-3, momentum=0.9, nesterov=nesterov)
    wrapper = AmpOptimWrapper(optimizer=optimizer) if amp else OptimWrapper(optimizer)
    wrapper.initialize_count_status(algorithm, 0, 1 << 40)
    wrapper.message_hub.update_info_dict({"iter": 0, "max_iters": 1 << 40})  # as a runner tells it

    class Passed(nn.Module):
        def forward(self, data: Any, training: bool = False) -> Any:
            return data

    algorithm.data_preprocessor = Passed()

    def step(images: Tensor, samples: list[Any]) -> None:
        algorithm.train_step({"inputs": images, "data_samples": samples}, wrapper)

    return step
