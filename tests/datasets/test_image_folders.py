"""Labels of class folders and of lists; what is known of any dataset."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmrazor_lite.datasets.facts import facts_of, name_of
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import DATASETS

LOAD = {"type": "mmpretrain.LoadImageFromFile"}


def make(root, *names: str) -> str:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            Image.new("RGB", (8, 8)).save(path)
        else:
            path.mkdir()
    return str(root)


def build(root, kind: str = "CustomDataset", **options):
    return DATASETS.build({"type": f"mmrazor_lite.{kind}", "data_root": str(root), **options})


def labels(dataset) -> dict[str, int]:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return {"/".join(info["img_path"].split("/")[-2:]): info["gt_label"] for info in infos}


def test_hidden_folders_are_no_classes(tmp_path):
    make(tmp_path, "b/0.png", "a/0.png", ".ipynb_checkpoints/0.png", "__MACOSX/0.png", "a/.ipynb_checkpoints/1.png")
    dataset = build(tmp_path)
    assert labels(dataset) == {"a/0.png": 0, "b/0.png": 1}
    assert dataset.metainfo["classes"] == ("a", "b") == dataset.folders


@pytest.mark.parametrize("key", ["classes", "metainfo"])
def test_folders_are_numbered_by_given_names(tmp_path, key):
    make(tmp_path, "c/0.png", "a/0.png")
    names = ["c", "b", "a"]
    dataset = build(tmp_path, **({"classes": names} if key == "classes" else {"metainfo": {"classes": names}}))
    assert labels(dataset) == {"a/0.png": 2, "c/0.png": 0}


def test_other_names_for_as_many_folders_are_in_their_order(tmp_path):
    make(tmp_path, "n02/0.png", "n01/0.png")
    dataset = build(tmp_path, classes=["cat", "dog"])
    assert labels(dataset) == {"n01/0.png": 0, "n02/0.png": 1}
    assert (dataset.metainfo["classes"], dataset.folders) == (("cat", "dog"), ("n01", "n02"))


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        (["a", "x"], "class folders that are none of the 2 classes: b"),
        (["x", "y", "z"], "has 2 class folders .a, b., the dataset has 3 classes of other names"),
    ],
)
def test_folders_that_are_not_the_classes(tmp_path, classes, problem):
    make(tmp_path, "a/0.png", "b/0.png")
    with pytest.raises(UserError, match=problem):
        build(tmp_path, classes=classes)


def test_an_empty_class_keeps_its_number_and_is_said(tmp_path, capfd):
    from mmengine.logging import MMLogger

    MMLogger.get_instance("empty_class", log_level="WARNING")
    make(tmp_path, "a/0.png", "b", "c/0.png")
    assert labels(build(tmp_path)) == {"a/0.png": 0, "c/0.png": 2}
    assert "no image of b (1 of 3 classes)" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("names", "problem"), [((), "has no class folders"), (("a", "b"), "has 2 class folders and no")]
)
def test_no_image_at_all(tmp_path, names, problem):
    make(tmp_path, *names)
    with pytest.raises(UserError, match=problem):
        build(tmp_path)


def test_the_dataset_reads_a_list_as_the_check_does(tmp_path):
    make(tmp_path, "train/a 1.png", "train/sub/b.png")
    (tmp_path / "l.txt").write_bytes("\ufeffa 1.png\t1\r\n\r\nsub\\b.png 0\r\n".encode())
    dataset = build(tmp_path, data_prefix="train", ann_file="l.txt")
    assert labels(dataset) == {"train/a 1.png": 1, "sub/b.png": 0}
    (tmp_path / "l.txt").write_text("a 1.png,1\n")
    with pytest.raises(UserError, match="line 1 is"):
        build(tmp_path, data_prefix="train", ann_file="l.txt")


def test_imagenet_finds_its_list_and_its_names(tmp_path):
    make(tmp_path, "train/x.png", "test/x.png")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/train.txt").write_text("x.png 7\n")
    dataset = build(tmp_path, "ImageNet", split="train")
    assert labels(dataset) == {"train/x.png": 7} and len(dataset.metainfo["classes"]) == 1000
    assert "gt_label" not in build(tmp_path, "ImageNet", split="test").get_data_info(0)
    with pytest.raises(UserError, match="split is 'valid', allowed are train, val and test"):
        build(tmp_path, "ImageNet", split="valid")


# Facts


def wrapped(root) -> dict:
    return {"type": "mmrazor_lite.CustomDataset", "data_root": str(root), "data_prefix": "train"}


WRAPPERS = {
    "HeldOut": lambda d: {"type": "mmrazor_lite.HeldOut", "part": "held_out", "fraction": 0.5, "dataset": d},
    "Concat": lambda d: {"type": "ConcatDataset", "datasets": [d, {**d, "indices": [4, 1]}]},
    "Repeat": lambda d: {"type": "RepeatDataset", "times": 3, "dataset": d},
    "Balanced": lambda d: {"type": "ClassBalancedDataset", "oversample_thr": 0.9, "dataset": d},
    "KFold": lambda d: {"type": "mmpretrain.KFoldDataset", "num_splits": 2, "seed": 1, "dataset": d},
    "Seeded": lambda d: {"type": "mmrazor_lite.SeededDataset", "dataset": d},
    "as it is": lambda d: d,
    "unserialized": lambda d: {**d, "serialize_data": False, "indices": [5, 0]},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_facts_through_every_wrapper(tmp_path, registered, wrapper):
    make(tmp_path, *(f"train/{name}/{i}.png" for name in "ab" for i in range(3)))
    whole = facts_of(build(tmp_path, data_prefix="train"))
    keys = {key: index for index, key in enumerate(whole.keys.tolist())}
    dataset = DATASETS.build(WRAPPERS[wrapper](wrapped(tmp_path)))
    found = facts_of(dataset)
    assert len(found.labels) == len(found.keys) == len(dataset)
    assert found.labels.tolist() == [dataset_label(dataset, index) for index in range(len(dataset))]
    assert found.classes == found.folders == ("a", "b")
    for index, key in enumerate(found.keys.tolist()):
        assert whole.labels[keys[key]] == found.labels[index]
        assert name_of(dataset, index).endswith(f"{'ab'[found.labels[index]]}/{keys[key] % 3}.png'")


def dataset_label(dataset, index: int) -> int:
    inner = dataset.dataset if type(dataset).__name__ == "SeededDataset" else dataset
    return inner.get_data_info(index)["gt_label"]


def test_an_image_has_one_key_however_its_folder_is_given(tmp_path, monkeypatch):
    make(tmp_path / "set", "train/a/0.png", "test/a/0.png")
    (tmp_path / "set/l.txt").write_text("a/0.png 0\n")
    monkeypatch.chdir(tmp_path)
    ways = [
        {"data_root": str(tmp_path / "set"), "data_prefix": "train"},
        {"data_root": str(tmp_path / "set/train")},
        {"data_root": "set", "data_prefix": "train/"},
        {"data_root": "", "data_prefix": "set/train"},
        {"data_root": "set", "data_prefix": "train", "ann_file": "l.txt"},
    ]
    keys = {int(facts_of(DATASETS.build({"type": "mmrazor_lite.CustomDataset", **way})).keys[0]) for way in ways}
    assert len(keys) == 1
    assert int(facts_of(build(tmp_path / "set", data_prefix="test")).keys[0]) not in keys


def test_facts_of_images_in_memory(registered):
    digits = {"type": "mmrazor_lite.Digits", "pipeline": []}
    train, few, test = (facts_of(DATASETS.build({**digits, **o})) for o in ({}, {"indices": [7, 3]}, {"split": "test"}))
    assert few.keys.tolist() == train.keys[[7, 3]].tolist()
    assert not np.isin(test.keys, train.keys).any()
    device = {"type": "mmrazor_lite.DeviceImages", "device": "cpu", "dataset": {**digits, "pipeline": [PACK]}}
    assert facts_of(DATASETS.build(device)).keys.tolist() == train.keys.tolist()


PACK = {"type": "mmpretrain.PackInputs"}
