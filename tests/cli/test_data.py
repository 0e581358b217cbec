"""What a run does with data that are not as its config, its model or its checkpoint expects, as typed."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from mmrazor_lite.cli import main
from mmrazor_lite.cli.data_check import check_data
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import read_checkpoint

COLOURS = {"a": (230, 40, 40), "b": (40, 230, 40), "c": (40, 40, 230)}
CONFIG = """
default_scope = "mmpretrain"
log_level = "INFO"
data_root = "{root}"
_load = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
_train = dict(type="CustomDataset", data_root=data_root, data_prefix="train", pipeline=_load)
_test = dict(type="CustomDataset", data_root=data_root, data_prefix="test", pipeline=_load)
_held_out = dict(type="HeldOut", part="held_out", fraction=0.25, dataset=_train)
_trained = dict(type="HeldOut", part="train", fraction=0.25, dataset=_train)
data_preprocessor = dict(num_classes=3, mean=[127.0] * 3, std=[60.0] * 3)
model = dict(
    type="AutoSlim",
    input_shape=(3, 8, 8),
    architecture=dict(
        type="ImageClassifier",
        backbone=dict(type="InvertedResidualNet", stem_channels=8, settings=[], last_channels=16),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=3, in_channels=16, topk=(1,)),
    ),
    mutator=dict(type="OneShotChannelMutator", candidate_choices=[0.5, 1.0], divisor=2),
)
_shuffled = dict(type="DefaultSampler", shuffle=True)
train_dataloader = dict(batch_size=9, num_workers=0, dataset=_trained, sampler=_shuffled)
val_dataloader = dict(batch_size=9, num_workers=0, dataset=_test, sampler=dict(type="DefaultSampler", shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=8, val_interval=8)
val_cfg = dict(type="SubnetValLoop", calibrate_sample_num=18)
test_cfg = dict(type="SubnetTestLoop", calibrate_sample_num=18)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9))
search_cfg = dict(
    target_macs="80%",
    searcher=dict(type="GreedySearcher"),
    dataloader=dict(batch_size=9, num_workers=0, dataset=_held_out),
    evaluator=dict(type="Accuracy", topk=(1,)),
    calibrate_dataloader=dict(batch_size=9, num_workers=0, dataset=_trained),
    calibrate_sample_num=9,
)
"""


def picture(name: str, seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-30, 30, (8, 8, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Class folders of 12 and 4 images a class, a config, and the supernet trained on three quarters of them."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 12), ("test", 4)):
        for name in COLOURS:
            (folder / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                picture(name, 100 * len(split) + number).save(folder / f"images/{split}/{name}/{number}.png")
    (folder / "config.py").write_text(CONFIG.format(root=folder / "images"))
    train = ["train", folder / "config.py", "--work-dir", folder / "W1", "--cfg-options", "search_cfg=None"]
    assert main([str(word) for word in train]) == 0
    return folder


@pytest.fixture
def images(made, tmp_path):
    """A copy of the images to spoil."""
    return shutil.copytree(made / "images", tmp_path / "images")


@pytest.fixture
def step(made, tmp_path, capfd):
    """Run a command on the config; return its status and what it printed."""

    def step(command: str, *options: str, data=None, words: tuple = ()) -> tuple[int, str]:
        given = [] if command == "train" else [made / "W1/epoch_8.pth"]
        given += ["-n", "3"] if command == "predictor-collect" else []
        options = ("search_cfg=None", "train_cfg.max_epochs=1", *options) if command == "train" else options
        root = [f"data_root={data}"] if data is not None else []
        line = [command, made / "config.py", *given, *words, "--work-dir", tmp_path / "W", "--cfg-options"]
        status = main([str(word) for word in [*line, *root, *options, "log_level=INFO"]])
        captured = capfd.readouterr()
        if status == 2:
            (line,) = [text for text in captured.err.splitlines() if text.startswith("error: ")]
            return status, line
        return status, captured.out + captured.err

    return step


COMMANDS = ("train", "test", "search", "predictor-collect")


def accuracy(text: str) -> float:
    return float(text.rpartition("max_subnet.accuracy/top1: ")[2].split()[0])


# Classes


def test_a_test_folder_without_a_class_is_numbered_by_the_training(step, images):
    shutil.rmtree(images / "test" / "b")
    status, text = step("test", data=images)
    assert status == 0 and accuracy(text) == 100.0
    assert "no image of b (1 of 3 classes)" in text
    status, text = step("test", "train_dataloader.dataset.dataset.data_prefix=none", "val_cfg=None", data=images)
    assert status == 2 and "data folder" in text  # the supernet is recalibrated on training images


def test_the_names_of_the_checkpoint_count(step, images):
    shutil.rmtree(images / "test" / "a")
    for name in "abc":
        shutil.move(images / "train" / name, images / "train" / f"x{name}")
    status, text = step("test", "test_cfg.calibrate_sample_num=0", data=images)
    assert status == 0 and "no image of a (1 of 3 classes)" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_foreign_class_is_refused(step, images, command):
    split = "test" if command in ("train", "test") else "train"
    (images / split / "b").rename(images / split / "bb")
    status, line = step(command, data=images)
    assert status == 2
    assert "'bb'" in line and "'b'" in line and "a label would mean another class" in line


def test_hidden_folders_are_no_classes(step, images):
    (images / "train" / ".ipynb_checkpoints").mkdir()
    shutil.copy(images / "train/a/0.png", images / "train/.ipynb_checkpoints/0.png")
    assert step("train", data=images)[0] == 0


def test_more_class_folders_than_outputs(step, images):
    for split in ("train", "test"):
        shutil.copytree(images / split / "a", images / split / "d")
    status, line = step("train", data=images)
    assert status == 2 and "4 class folders ('a', 'b', 'c', 'd') and 3 classes of the model" in line


def test_labels_that_count_from_one_on_a_network_of_ones_own(made, images, root, monkeypatch, capfd):
    monkeypatch.chdir(root)
    lines = [f"{name}/{number}.png {label}" for label, name in enumerate("abc", 1) for number in range(12)]
    (images / "list.txt").write_text("\n".join(lines))
    net = "dict(_delete_=True, type='configs.any_model.my_net.MyNet', width=8, num_classes=3)"
    model = f"model = dict(architecture={net}, input_shape=(3, 16, 16))"
    (images / "own.py").write_text(f"_base_ = '{made / 'config.py'}'\n{model}\nsearch_cfg = None\n")
    listed = "train_dataloader.dataset.dataset.ann_file=list.txt"
    words = ["train", images / "own.py", "--work-dir", images / "W", "--cfg-options", listed, f"data_root={images}"]
    assert main([str(word) for word in words]) == 2
    line = capfd.readouterr().err
    assert "c/0.png' has label 3, the model has 3 classes, 0 to 2: labels are 1 to 3, they count from 0" in line


# Which images


def test_a_search_knows_what_its_supernet_was_trained_on(step):
    for command in ("search", "predictor-collect"):
        status, line = step(command, "search_cfg.dataloader.dataset.fraction=0.5")
        assert status == 2 and re.search(r"trained on \d+ of 18 images that subnets are to be scored on", line)
        assert "left out fraction=0.25, seed=0; here it is fraction=0.5, seed=0" in line
        assert "search_cfg.score_on_trained_images=True" in line
    status, text = step("search", "search_cfg.dataloader.dataset.seed=1", "search_cfg.score_on_trained_images=True")
    assert status == 0 and "this supernet was trained on" in text
    status, text = step("search")
    assert status == 0 and "trained on" not in text
    images = "dataset.dataset.data_prefix=test"
    status, text = step("search", f"search_cfg.dataloader.{images}", f"search_cfg.calibrate_dataloader.{images}")
    assert status == 0 and "search_cfg.dataloader: subnets are scored on images of test_dataloader" in text
    assert "search_cfg.calibrate_dataloader: batch norm is recalibrated on images of test_dataloader" in text
    status, text = step("search", "search_cfg.calibrate_dataloader.dataset.part=held_out")
    assert status == 0 and "9 of 9 images that batch norm is recalibrated on are those that subnets are scored" in text


def test_a_best_subnet_still_knows(made, step):
    from mmrazor_lite.engine.trained_on import TrainedOn
    from mmrazor_lite.export import read_checkpoint

    found = TrainedOn.from_dict(read_checkpoint(made / "W1/epoch_8.pth")["meta"]["mmrazor_lite"]["data"], "it")
    assert (found.images, found.classes, found.held_out) == (27, ("a", "b", "c"), "fraction=0.25, seed=0")


def test_validation_or_test_on_training_images_is_said(step):
    images = ".dataset.data_prefix=train"
    status, text = step("train", f"val_dataloader{images}")
    assert status == 0 and "val_dataloader: 27 of 36 images are in train_dataloader too" in text
    status, text = step("test", f"test_dataloader{images}")
    assert status == 0 and "test_dataloader: 27 of 36 images are among those that the checkpoint was trained on" in text
    assert "trained on" not in step("test")[1]


# Images that cannot be read


SPOILED = {
    "empty.png": (b"", "the file is empty"),
    "cut.png": (None, "no image, or a damaged one"),
    "text.jpg": (b"<html>not found</html>", "no image, or a damaged one"),
}


def spoil(folder, where: str = "train/b") -> None:
    for name, (content, _) in SPOILED.items():
        whole = (folder / "train/b/0.png").read_bytes()
        (folder / where / name).write_bytes(whole[: len(whole) // 2] if content is None else content)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_unreadable_image_is_named(step, images, command, workers):
    section = {"train": "train_dataloader", "test": "test_dataloader"}.get(command, "search_cfg.dataloader")
    spoil(images, "test/b" if command == "test" else "train/b")
    part = [] if command == "test" else [f"{section}.dataset.part=all"]
    part += ["search_cfg.score_on_trained_images=True"] if "search" in section else []
    status, line = step(command, f"{section}.num_workers={workers}", *part, data=images)
    assert status == 2
    assert line.startswith(f"error: {section.removeprefix('search_cfg.')}: '{images}") and len(line) < 400, line
    assert "cannot be read (" in line and "--skip-unreadable" in line
    assert any(f"/{name}' cannot be read ({reason})" in line for name, (_, reason) in SPOILED.items()), line


@pytest.mark.parametrize("command", COMMANDS)
def test_unreadable_images_are_left_out(step, images, command):
    spoil(images)
    spoil(images, "test/b")
    option = [] if command in ("train", "test") else ["search_cfg.score_on_trained_images=True"]
    status, text = step(command, *option, data=images, words=("--skip-unreadable",))
    assert status == 0
    split, total = ("test", 15) if command == "test" else ("train", 39)
    assert f"'{images}/{split}': 3 of {total} images cannot be read and are left out: " in text
    assert all(text.count(f"{split}/b/{name}") == 1 for name in SPOILED)
    if command == "test":
        assert accuracy(text) == 100.0


def test_what_is_left_out_depends_on_nothing_else(step, images, made):
    import torch

    spoil(images)
    weights = []
    for workers in (0, 2):
        options = [f"train_dataloader.num_workers={workers}", "val_cfg=None", "val_dataloader=None"]
        options += ["val_evaluator=None"]
        assert step("train", *options, data=images, words=("--skip-unreadable",))[0] == 0
        weights.append(torch.load(images.parent / "W/epoch_1.pth", weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


@pytest.mark.parametrize("command", COMMANDS)
def test_images_of_several_sizes_make_no_batch(step, images, command):
    split = "test" if command == "test" else "train"
    picture("a", 0).resize((4, 4)).save(images / split / "a/small.png")
    section = {"train": "train_dataloader", "test": "test_dataloader"}.get(command, "search_cfg.dataloader")
    options = [] if command == "test" else [f"{section}.dataset.part=all"]
    options += ["search_cfg.score_on_trained_images=True"] if "search" in section else []
    status, line = step(command, *options, data=images)
    assert status == 2 and f"{section.removeprefix('search_cfg.')}: images of one batch have different sizes" in line
    assert "3x8x8 ('" in line and f"3x4x4 ('{images}/{split}/a/small.png')" in line and "Resize" in line


def test_every_kind_of_image_is_one_of_three_channels(step, images):
    folder, image = images / "train/a", picture("a", 0)
    for number, mode in enumerate(("L", "P", "RGBA", "1", "LA")):
        image.convert(mode).save(folder / f"kind{number}.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("L").save(folder / "grey.jpg")
    Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16)).save(folder / "deep.png")
    assert step("train", "train_dataloader.dataset.part=all", data=images)[0] == 0


# Other classes


@pytest.mark.parametrize("more", [(), ("model.channel_cfg=0.5",), ("model.channel_cfg=[0.5,1.0]",)])
def test_a_checkpoint_of_ours_starts_a_training_of_more_classes(made, images, step, tmp_path, more):
    """A supernet, a subnet, whose file says costs of its classifier too, and a joint model."""
    for split, count in (("train", 12), ("test", 4)):
        (images / split / "d").mkdir()
        for number in range(count):
            picture("a", 7).rotate(90).save(images / f"{split}/d/{number}.png")
    start = made / "W1/epoch_8.pth"
    if more:
        assert step("train", *more)[0] == 0
        start = shutil.copy(tmp_path / "W/epoch_1.pth", tmp_path / "start.pth")
        shutil.rmtree(tmp_path / "W")
    four = [*more, "model.architecture.head.num_classes=4", "data_preprocessor.num_classes=4", f"load_from={start}"]
    status, line = step("train", *four, data=images)
    assert status == 2 and ("--reset-head" in line or "params of its subnet" in line), line
    status, text = step("train", *four, data=images, words=("--reset-head",))
    assert status == 0 and "without the classifier (head.fc.bias, head.fc.weight), which starts anew" in text, text
    meta = read_checkpoint(tmp_path / "W/epoch_1.pth")["meta"]["mmrazor_lite"]
    assert meta["data"]["classes"] == list("abcd")


# Widths


@pytest.mark.parametrize(
    ("command", "words"), [("search", ()), ("specialize", ("--macs", "60%")), ("predictor-collect", ())]
)
def test_subnets_narrower_than_the_supernet_was_trained_are_not_scored(step, tmp_path, command, words):
    status, line = step(command, "model.mutator.candidate_choices=[0.25,1.0]", words=words)
    assert status == 2 and "epoch_8.pth was trained with widths of 4 and more of 'backbone.conv1.conv'" in line, line
    assert not list(tmp_path.glob("W/**/*.json*"))


def test_a_path_of_0x_is_asked_for_by_its_own_key(tmp_path):
    """Its configs give whole paths and no data_root: the key at the top would be refused."""
    dataset = {"type": "ImageNet", "data_prefix": str(tmp_path / "train")}
    fix = "train/CLASS/IMAGE.jpg, one folder per class; give another folder with --cfg-options "
    with pytest.raises(UserError, match=f"{fix}val_dataloader.dataset.data_prefix=DIR$"):
        check_data({"val_dataloader": {"dataset": dataset}}, "val_dataloader")
    with pytest.raises(UserError, match=f"{tmp_path}/meta/train.txt; give another .* --cfg-options data_root=DIR$"):
        dataset.update(data_root=str(tmp_path), data_prefix="train")
        check_data({"data_root": str(tmp_path), "val_dataloader": {"dataset": dataset}}, "val_dataloader")
