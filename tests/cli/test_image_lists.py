"""Lists of images: written for some classes, and checked before a run reads them."""

from __future__ import annotations

import pytest

from mmrazor_lite.cli import main
from mmrazor_lite.cli.data_check import check_data
from mmrazor_lite.errors import UserError


@pytest.fixture
def images(tmp_path):
    """Five classes of ten empty files."""
    for label in range(5):
        folder = tmp_path / "train" / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(10):
            (folder / f"{number}.JPEG").touch()
    return tmp_path


def lists(folder, *words: str) -> tuple[list[str], list[str]]:
    files = [folder / "meta" / name for name in ("a.txt", "b.txt")]
    assert main(["image-lists", str(folder / "train"), "-o", *map(str, files), *words]) == 0
    return tuple(file.read_text().splitlines() for file in files)


def test_a_split_of_some_classes(images):
    train, val = lists(images, "--classes", "3", "--fraction", "0.2")
    assert (len(train), len(val)) == (24, 6) and not set(train) & set(val)
    classes = sorted({line.split("/")[0] for line in train})
    assert len(classes) == 3
    for line in (*train, *val):
        name, label = line.split(" ")
        assert (images / "train" / name).is_file() and classes[int(label)] == name.split("/")[0]
    assert lists(images, "--classes", "3", "--fraction", "0.2") == (train, val)
    assert lists(images, "--classes", "3", "--fraction", "0.2", "--seed", "1") != (train, val)


def test_classes_by_name(images):
    (images / "names.txt").write_text("class4\nclass1\n")
    train, _ = lists(images, "--classes", str(images / "names.txt"))
    assert {line.split("/")[0]: line.split(" ")[1] for line in train} == {"class4": "0", "class1": "1"}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--classes", "6"], "has 5 class folders"),
        (["--classes", "none.txt"], "neither a number nor a readable file"),
        (["--fraction", "1.5"], "give a number between 0 and 1"),
        (["--fraction", "0.01"], "too few to split in two"),
    ],
)
def test_bad_input(images, capsys, words, problem):
    files = [str(images / name) for name in ("a.txt", "b.txt")]
    assert main(["image-lists", str(images / "train"), "-o", *files, "--classes", "2", *words]) == 2
    assert problem in capsys.readouterr().err
    assert not (images / "a.txt").exists()


def dataset(images, content: str | None) -> dict:
    if content is not None:
        (images / "list.txt").write_text(content)
    config = {"type": "CustomDataset", "data_root": str(images), "data_prefix": "train", "ann_file": "list.txt"}
    return {"train_dataloader": {"dataset": config}, "train_cfg": {"arch_dataloader": {"dataset": config}}}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read the list of images"),
        ("", "is empty"),
        ("class0/0.JPEG\n", "line 1 is 'class0/0.JPEG', expected is an image and its label"),
        ("class0/0.JPEG 0\nclass0/1.JPEG x\n", "line 2 is"),
        ("".join(f"class9/{i}.JPEG 0\n" for i in range(7)) + "class0/0.JPEG 1\n",
         "7 of 8 images of .* are not in .*: class9/0.JPEG, class9/1.JPEG, .*, class9/4.JPEG$"),
    ],
)  # fmt: skip
def test_a_list_is_checked_before_the_run(images, content, problem):
    for section in ("train_dataloader", "train_cfg"):
        with pytest.raises(UserError, match=problem):
            check_data(dataset(images, content), section)


@pytest.mark.parametrize("key", ["architecture", "cfg"])
def test_a_label_that_the_model_has_no_class_for(images, key):
    config = dataset(images, "class0/0.JPEG 1\nclass1/3.JPEG 2\n")
    check_data({**config, "model": {key: {"head": {"num_classes": 3}}}}, "train_dataloader")
    problem = r"'.*list.txt' line 2 has label 2, the model has 2 classes, 0 to 1: .* num_classes$"
    for model in ({key: {"head": {"num_classes": 2}}}, {key: {"architecture": {"head": {"num_classes": 2}}}}):
        with pytest.raises(UserError, match=problem):
            check_data({**config, "model": model}, "train_dataloader")


def test_a_good_list(images):
    check_data(dataset(images, "class0/0.JPEG 0\nclass1/3.JPEG 1\n"), "train_dataloader", "train_cfg")
