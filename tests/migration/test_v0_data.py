"""Data of MMRazor 0.x: which images come, in which batches, and with which pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from migration.v0_layout import CLASSES, NORMALIZE, TEST, TRAIN, autoslim, data, ours, translated
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from mmrazor_lite.config.build import register_quietly
from mmrazor_lite.engine.batches import without_worker_options

IMAGES = 9  # three of each class
HIGH, WIDE = 40, 52


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    register_quietly()
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for number in range(IMAGES):
            path = folder / part / f"class_{number % CLASSES}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), generator.integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8))
    return folder


def batches(loader: dict) -> list[dict]:
    init_default_scope("mmpretrain")
    return list(Runner.build_dataloader(without_worker_options(loader), seed=0))


def config(root, **changes) -> dict:
    return {**autoslim(), "data": {**data(str(root)), **changes}}


def test_an_epoch_has_all_images_in_another_order_and_a_smaller_last_batch(root):
    found = batches(ours(config(root))["train_dataloader"])
    assert [len(batch["inputs"]) for batch in found] == [4, 4, 1]
    names = [sample.img_path for batch in found for sample in batch["data_samples"]]
    assert len(set(names)) == IMAGES and names != sorted(names)
    dropped = batches(ours(config(root, train_dataloader=dict(drop_last=True)))["train_dataloader"])
    assert [len(batch["inputs"]) for batch in dropped] == [4, 4]
    ordered = batches(ours(config(root, train_dataloader=dict(shuffle=False, samples_per_gpu=9)))["train_dataloader"])
    assert [sample.img_path for sample in ordered[0]["data_samples"]] == sorted(names)


def test_images_of_a_test_have_the_pixels_that_mmcls_gives_them(root):
    found = ours(config(root))
    (batch,) = batches({**found["test_dataloader"], "batch_size": IMAGES})
    preprocessor = MODELS.build(found["data_preprocessor"])
    given = preprocessor(batch)
    for image, sample in zip(given["inputs"], given["data_samples"], strict=True):
        pixels = cv2.imread(sample.img_path)
        pixels = cv2.resize(pixels, (int(36 * WIDE / HIGH), 36), interpolation=cv2.INTER_LINEAR)
        top, left = (36 - 32) // 2, round((pixels.shape[1] - 32) / 2)
        rgb = pixels[top : top + 32, left : left + 32, ::-1].astype(np.float32)
        expected = (rgb - np.float32(NORMALIZE["mean"])) / np.float32(NORMALIZE["std"])
        assert torch.allclose(image, torch.from_numpy(expected.transpose(2, 0, 1).copy()), atol=1e-5)
        assert sample.img_path.split("class_")[1][0] == str(int(sample.gt_label))


def steps(*transforms: dict) -> list[dict]:
    config = autoslim()
    for part in ("train", "val", "test"):
        config["data"][part]["pipeline"] = [*transforms, NORMALIZE, *TEST[-2:]]
    return ours(config)["train_dataloader"]["dataset"]["pipeline"]


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (dict(type="Resize", size=64), dict(type="Resize", scale=64)),
        (dict(type="Resize", size=(48, 64)), dict(type="Resize", scale=(64, 48))),
        (
            dict(type="Resize", size=(256, -1), adaptive_side="long", backend="pillow"),
            dict(type="ResizeEdge", scale=256, edge="long", backend="pillow"),
        ),
        (dict(type="CenterCrop", crop_size=(24, 32)), dict(type="CenterCrop", crop_size=(32, 24))),
        (
            dict(type="CenterCrop", crop_size=32, efficientnet_style=True, crop_padding=8),
            dict(type="EfficientNetCenterCrop", crop_size=32, crop_padding=8, interpolation="bilinear"),
        ),
        (
            dict(type="RandomResizedCrop", size=224, scale=(0.2, 1.0), ratio=(0.5, 2.0), backend="pillow"),
            dict(
                type="RandomResizedCrop",
                scale=224,
                crop_ratio_range=(0.2, 1.0),
                aspect_ratio_range=(0.5, 2.0),
                backend="pillow",
            ),
        ),
        (
            dict(type="RandomResizedCrop", size=224, efficientnet_style=True, interpolation="bicubic"),
            dict(type="EfficientNetRandomCrop", scale=224, interpolation="bicubic"),
        ),
        (dict(type="RandomCrop", size=32, padding=4), dict(type="RandomCrop", crop_size=32, padding=4)),
        (dict(type="mmcls.RandomFlip"), dict(type="RandomFlip", prob=0.5)),
        (
            dict(type="ColorJitter", brightness=0.4, contrast=0.3, saturation=0.2),
            dict(type="ColorJitter", brightness=0.4, contrast=0.3, saturation=0.2, backend="cv2"),
        ),
        (dict(type="Pad", size=(40, 48)), dict(type="Pad", size=(48, 40))),
        (dict(type="Albu", transforms=[]), dict(type="Albumentations", transforms=[])),
        (dict(type="MyOwn", level=3), dict(type="MyOwn", level=3)),
    ],
)
def test_transforms_have_their_names_and_sizes_here(theirs, mine):
    assert steps(theirs) == [mine, dict(type="PackInputs")]


def test_sets_around_sets_and_lists_of_them(root):
    inner = dict(type="CustomDataset", data_prefix=f"{root}/train", pipeline=TRAIN)
    changes = dict(train=[dict(type="RepeatDataset", times=2, dataset=inner), inner], samples_per_gpu=3 * IMAGES)
    (batch,) = batches(ours(config(root, **changes))["train_dataloader"])
    assert len(batch["inputs"]) == 3 * IMAGES


def test_a_set_in_files_of_its_own_is_read_by_its_split():
    config = autoslim()
    for part in ("train", "val", "test"):
        config["data"][part] = dict(type="CIFAR10", data_prefix="data/cifar10", pipeline=TEST[2:])
    found = ours(config)
    for part, split in (("train", "train"), ("val", "test"), ("test", "test")):
        dataset = found[f"{part}_dataloader"]["dataset"]
        assert (dataset["type"], dataset["data_root"], dataset["split"]) == ("Cifar10Images", "data/cifar10", split)


@pytest.mark.parametrize(
    ("metric", "options", "evaluator"),
    [
        ("accuracy", None, dict(type="Accuracy", topk=(1, 5))),
        (["accuracy"], dict(topk=(1,)), dict(type="Accuracy", topk=(1,))),
        (
            ["accuracy", "f1_score", "recall"],
            dict(average_mode="none"),
            [
                dict(type="Accuracy", topk=(1, 5)),
                dict(type="SingleLabelMetric", items=["f1-score", "recall"], average=None),
            ],
        ),
    ],
)
def test_metrics(metric, options, evaluator):
    config = autoslim()
    config["evaluation"] = dict(metric=metric, metric_options=options)
    assert ours(config)["val_evaluator"] == evaluator == ours(config)["test_evaluator"]


def pipelines(*changed: str, **pipeline) -> dict:
    config = autoslim()
    for part in changed:
        config["data"][part] = {**config["data"][part], **pipeline}
    return config


OTHER = [*TEST[:3], {**NORMALIZE, "to_rgb": False}, *TEST[-2:]]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (pipelines("val", "test", pipeline=OTHER), "data.val.pipeline: Normalize is not as in data.train.pipeline"),
        (
            pipelines("train", pipeline=[*TRAIN[:4], dict(type="ColorJitter"), *TRAIN[4:]]),
            "data.train.pipeline.4.type='ColorJitter': stands behind Normalize",
        ),
        (
            pipelines("val", pipeline=[*TEST[:-1], dict(type="Collect", keys=["img", "depth"])]),
            "data.val.pipeline.5 (Collect).keys=['depth']",
        ),
        (pipelines("train", pipeline=3), "data.train.pipeline=3: give a list"),
        ({**autoslim(), "evaluation": dict(metric="mAP")}, "evaluation.metric='mAP'"),
        (
            {**autoslim(), "evaluation": dict(intervall=3)},
            "evaluation.intervall: unknown key (did you mean 'interval'?)",
        ),
        ({**autoslim(), "data": {**data(), "samples_per_gpus": 3}}, "data.samples_per_gpus: unknown key (did you mean"),
        ({**autoslim(), "data": {**data(), "split": True}}, "data.split=True"),
    ],
)
def test_what_has_no_counterpart_is_told_by_its_key(config, said):
    problems = translated(config).problems
    assert problems and problems[0].startswith(said)
