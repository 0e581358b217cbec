"""Small configs in the layout of MMRazor 0.x, of networks that are small enough to train."""

from __future__ import annotations

import copy
from typing import Any

from mmrazor_lite.migration import Translated, translate

NORMALIZE = dict(type="Normalize", mean=[120.0, 110.0, 100.0], std=[60.0, 61.0, 62.0], to_rgb=True)
COLLECT = [dict(type="ImageToTensor", keys=["img"]), dict(type="Collect", keys=["img"])]
TRAIN = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", size=32, scale=(0.5, 1.0)),
    dict(type="RandomFlip", flip_prob=0.5, direction="horizontal"),
    NORMALIZE,
    dict(type="ToTensor", keys=["gt_label"]),
    dict(type="ImageToTensor", keys=["img"]),
    dict(type="Collect", keys=["img", "gt_label"]),
]
TEST = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", size=(36, -1)),
    dict(type="CenterCrop", crop_size=32),
    NORMALIZE,
    *COLLECT,
]
RUNTIME = dict(
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
    optimizer_config=dict(grad_clip=None),
    lr_config=dict(policy="poly", power=1.0, min_lr=0.0, by_epoch=False),
    runner=dict(type="EpochBasedRunner", max_epochs=2),
    evaluation=dict(interval=1, metric="accuracy", metric_options=dict(topk=(1,))),
    checkpoint_config=dict(interval=1),
    log_config=dict(interval=5, hooks=[dict(type="TextLoggerHook")]),
    dist_params=dict(backend="gloo"),
    log_level="INFO",
    load_from=None,
    resume_from=None,
    workflow=[("train", 1)],
)
CLASSES = 3


def data(root: str = "images", batch: int = 4) -> dict[str, Any]:
    part = dict(type="CustomDataset", data_prefix=f"{root}/train", pipeline=TRAIN)
    test = dict(type="CustomDataset", data_prefix=f"{root}/val", pipeline=TEST)
    return dict(samples_per_gpu=batch, workers_per_gpu=0, train=part, val=test, test=test)


def classifier(backbone: dict, channels: int) -> dict[str, Any]:
    head = dict(type="LinearClsHead", num_classes=CLASSES, in_channels=channels, topk=(1,))
    head["loss"] = dict(type="CrossEntropyLoss", loss_weight=1.0)
    return dict(type="mmcls.ImageClassifier", backbone=backbone, neck=dict(type="GlobalAveragePooling"), head=head)


def autoslim(**changes: Any) -> dict[str, Any]:
    """A supernet of inverted residuals with widths of 0.x's pruner."""
    settings = [[1, 12, 1, 1], [3, 20, 2, 2]]
    model = classifier(dict(type="InvertedResidualNet", stem_channels=18, settings=settings, last_channels=36), 36)
    loss = dict(type="KLDivergence", name="loss_kd", tau=2, loss_weight=0.5)
    component = dict(student_module="head.fc", teacher_module="head.fc", losses=[loss])
    algorithm = dict(
        type="AutoSlim",
        architecture=dict(type="MMClsArchitecture", model=model),
        distiller=dict(type="SelfDistiller", components=[component]),
        pruner=dict(type="RatioPruner", ratios=(1 / 4, 0.6, 1.0)),
        retraining=False,
        bn_training_mode=True,
        input_shape=(3, 32, 32),
    )
    return copy.deepcopy({**RUNTIME, "data": data(), "algorithm": {**algorithm, **changes}})


def spos(**changes: Any) -> dict[str, Any]:
    """A supernet of ShuffleNetV2 with the operators of the paper, said once more as 0.x says them."""
    blocks = {f"shuffle_{k}x{k}": dict(type="ShuffleBlock", kernel_size=k, norm_cfg=dict(type="BN")) for k in (3, 5, 7)}
    blocks["shuffle_xception"] = dict(type="ShuffleXception", norm_cfg=dict(type="BN"))
    backbone = dict(type="SearchableShuffleNetV2", widen_factor=0.125, norm_cfg=dict(type="BN"))
    algorithm = dict(
        type="SPOS",
        architecture=dict(type="MMClsArchitecture", model=classifier(backbone, 1024)),
        mutator=dict(
            type="OneShotMutator", placeholder_mapping=dict(all_blocks=dict(type="OneShotOP", choices=blocks))
        ),
        distiller=None,
        retraining=False,
        input_shape=(3, 32, 32),
    )
    return copy.deepcopy({**RUNTIME, "data": data(), "algorithm": {**algorithm, **changes}})


def translated(config: dict[str, Any], helpers: tuple[str, ...] = ()) -> Translated:
    return translate(config, "a.py", helpers)


def ours(config: dict[str, Any]) -> dict[str, Any]:
    """The config in our own form, of one that has no problems."""
    found = translated(config)
    assert not found.problems
    return dict(found.config)
