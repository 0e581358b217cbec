"""CIFAR-10 from each of its forms, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from cifar_batches import TRAIN, python3, write_batches

from mmrazor_lite.datasets import Cifar10Images
from mmrazor_lite.datasets.cifar10 import CLASSES, load
from mmrazor_lite.datasets.cifar_files import FOLDER, read_batches, read_pickle
from mmrazor_lite.errors import UserError


@pytest.fixture
def batches(tmp_path) -> tuple[Path, np.ndarray, np.ndarray]:
    images, labels = write_batches(tmp_path / FOLDER)
    return tmp_path, images, labels


def image_folder(root: Path, split: str, classes=CLASSES, each: int = 2, size: int = 32) -> None:
    rng = np.random.default_rng(1)
    for name in classes:
        (root / split / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            cv2.imwrite(str(root / split / name / f"{number}.png"), pixels)


# the published files --------------------------------------------------------------------------------------------


def test_files_of_python_2_are_read(batches):
    root, images, labels = batches
    dataset = Cifar10Images(str(root), "train", check_md5=False)
    assert len(dataset) == 100
    for index in (0, 57, 99):
        info = dataset.get_data_info(index)
        assert np.array_equal(info["img"], images[index])
        assert info["gt_label"] == labels[index]
    assert len(Cifar10Images(str(root / FOLDER), "test", check_md5=False)) == 20  # the folder itself


def test_files_of_python_3_are_read():
    data = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    found = read_pickle(python3({b"data": data, b"labels": [1, 2], b"text": b"\xff"}), Path("f"))
    assert np.array_equal(found["data"], data)
    assert (found["labels"], found["text"]) == ([1, 2], b"\xff")


def test_wrong_sums_are_named(batches):
    root, _, _ = batches
    with pytest.raises(UserError, match=r"truncated or changed: batches\.meta .*data_batch_1 \(.*md5 .*data_batch_5"):
        read_batches(root / FOLDER, "train")


def test_the_right_sum_is_enough(batches, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = batches[0] / FOLDER
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in [*TRAIN, "batches.meta"]}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in TRAIN])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    assert len(read_batches(folder, "train")[0]) == 100
    broken = folder / "data_batch_3"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(UserError) as error:
        read_batches(folder, "train")
    named = str(error.value)
    assert "data_batch_3" in named
    assert not any(name in named for name in ("data_batch_1", "data_batch_2", "batches.meta"))


def test_other_order_of_the_class_names(batches):
    root, _, labels = batches
    meta = root / FOLDER / "batches.meta"
    meta.write_bytes(python3({"label_names": list(reversed(CLASSES))}))
    assert load(str(root), "train", False)[1].tolist() == (9 - labels).tolist()


def test_a_missing_file_is_named(batches):
    (batches[0] / FOLDER / "data_batch_4").unlink()
    with pytest.raises(UserError, match=r"lacks data_batch_4"):
        read_batches(batches[0] / FOLDER, "train")


@pytest.mark.parametrize("kept", [0, 1, 50, 2000, 60_000])
def test_a_truncated_file_is_named(batches, kept):
    path = batches[0] / FOLDER / "data_batch_2"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"data_batch_2' cannot be read, truncated or damaged"):
        read_batches(batches[0] / FOLDER, "train", check_md5=False)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def test_nothing_in_a_file_is_run(tmp_path):
    mark = tmp_path / "mark"
    for value in (
        Call(Path.touch, mark),
        Call(eval, f"open({str(mark)!r}, 'w')"),
        {"data": np.array([Call(Path.touch, mark)], dtype=object)},
        {"labels": Call(print)},
        {"labels": [np.float64(1.0)]},
    ):
        with pytest.raises(UserError, match=r"no file of CIFAR-10|truncated or damaged"):
            read_pickle(pickle.dumps(value, protocol=2), tmp_path / "data_batch_1")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3072), dtype=np.float32), "type 'f4'"),
        (np.zeros((2, 3072), dtype=np.int64), "type 'i8'"),
        (np.asfortranarray(np.zeros((2, 3072), dtype=np.uint8)), "no plain block of bytes"),
    ],
)
def test_other_arrays_are_refused(array, message):
    with pytest.raises(UserError, match=message):
        read_pickle(python3({"data": array}), Path("f"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0] * 19}, "'labels' must be 20"),
        ({"labels": [10] * 20}, "whole numbers from 0 to 9"),
        ({"data": np.zeros((20, 100), dtype=np.uint8)}, "rows of 3072 bytes"),
        ({"data": "text"}, "'data' is str"),
    ],
)
def test_content_that_is_no_cifar10(batches, change, message):
    path = batches[0] / FOLDER / "data_batch_1"
    path.write_bytes(python3({"data": np.zeros((20, 3072), dtype=np.uint8), "labels": [0] * 20, **change}))
    with pytest.raises(UserError, match=message):
        read_batches(batches[0] / FOLDER, "train", check_md5=False)


# folders and archives -------------------------------------------------------------------------------------------


def test_image_folders_and_archives_hold_the_same(tmp_path):
    image_folder(tmp_path / "a", "train")
    image_folder(tmp_path / "a", "test", each=1)
    for split in ("train", "test"):
        with tarfile.open(tmp_path / f"cifar10_{split}.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "a" / split, f"cifar10/{split}")
    unpacked, packed = load(str(tmp_path / "a"), "train"), load(str(tmp_path), "train")
    assert np.array_equal(unpacked[0], packed[0])
    assert np.array_equal(unpacked[1], packed[1])
    assert len(load(str(tmp_path), "test")[0]) == 10
    first = cv2.imread(str(tmp_path / "a/train/airplane/0.png"))[..., ::-1]  # RGB
    assert np.array_equal(unpacked[0][0], first)


def test_the_archives_of_the_reference(shared_path):
    images, labels = load(str(shared_path("data")), "test")
    assert images.shape == (5000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [500] * 10


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (CLASSES[:-1], "lacks truck"),
        ((*CLASSES, "submarine"), "has submarine"),
        (("plane", *CLASSES[1:]), "lacks airplane and has plane"),
    ],
)
def test_other_class_folders_are_refused(tmp_path, classes, message):
    image_folder(tmp_path, "train", classes, each=1)
    with pytest.raises(UserError, match=rf"train'.*{message}"):
        load(str(tmp_path), "train")


def test_other_classes_in_an_archive_are_refused(tmp_path):
    with tarfile.open(tmp_path / "cifar10_test.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("cifar10/test/submarine/0.jpg")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(UserError, match=r"cifar10_test.tar.gz'.*has submarine"):
        load(str(tmp_path), "test")


def inverted(content: bytes, start: int, count: int = 64) -> bytes:
    damaged = bytes(255 - byte for byte in content[start : start + count])
    return content[:start] + damaged + content[start + count :]


@pytest.fixture(scope="module")
def tar_file(tmp_path_factory) -> bytes:
    root, content = tmp_path_factory.mktemp("tar"), io.BytesIO()
    image_folder(root, "train")
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(root / "train", "cifar10/train")
    return content.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        *(
            lambda tar, part=part: inverted(gzip.compress(tar), len(gzip.compress(tar)) * part // 10)
            for part in range(10)
        ),
        lambda tar: inverted(gzip.compress(tar, 0), 30_000),  # stored: only the checksum tells
        lambda tar: gzip.compress(tar)[:-4],
        lambda tar: gzip.compress(tar)[:-5000],
        lambda tar: gzip.compress(tar[: tar.index(b"cifar10/train/truck/1.png")]),  # all classes are there
        lambda tar: gzip.compress(inverted(tar, tar.index(b"cifar10/train/truck/1.png"))),  # a header
        lambda tar: gzip.compress(tar[:30_000]),
        lambda tar: b"",
        lambda tar: b"<html>not found</html>",
        lambda tar: gzip.compress(b""),
        lambda tar: gzip.compress(b"<html>not found</html>" * 100),
    ],
)
def test_a_damaged_archive_is_named(tmp_path, tar_file, damage):
    (tmp_path / "cifar10_train.tar.gz").write_bytes(damage(tar_file))
    with pytest.raises(UserError, match=r"cifar10_train.tar.gz' cannot be read, truncated or damaged \(") as error:
        load(str(tmp_path), "train")
    assert "\n" not in str(error.value)


def test_damaged_and_other_images_are_named(tmp_path):
    image_folder(tmp_path, "train")
    image_folder(tmp_path, "test", size=30)
    (tmp_path / "train/cat/0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cat/0.png' is no image"):
        load(str(tmp_path), "train")
    with pytest.raises(UserError, match=r"airplane/0.png' has 30x30 pixels"):
        load(str(tmp_path), "test")


def test_what_is_no_file_is_named(tmp_path):
    image_folder(tmp_path, "train", each=1)
    for place, make in (("cat/x.jpg", Path.mkdir), ("bird/x.jpg", lambda path: path.symlink_to(path.parent / "none"))):
        make(tmp_path / "train" / place)
        with pytest.raises(UserError, match=f"train/{place}' cannot be read"):
            load(str(tmp_path), "train")
    (tmp_path / "train/automobile/0.png").unlink()
    with pytest.raises(UserError, match="train/automobile' has no image"):
        load(str(tmp_path), "train")


def test_no_form_at_all_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no CIFAR-10 in .*cifar-10-batches-py/, test/CLASS/IMAGE or"):
        load(str(tmp_path), "test")
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(UserError, match="unpack"):
        load(str(tmp_path), "test")


def test_per_class_takes_the_first_of_each_class(batches):
    root, images, labels = batches
    dataset = Cifar10Images(str(root), "train", check_md5=False, per_class=3)
    chosen = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert np.bincount([info["gt_label"] for info in chosen]).tolist() == [3] * 10
    for label in range(10):
        mine = [info["img"].tobytes() for info in chosen if info["gt_label"] == label]
        assert mine == [images[index].tobytes() for index in np.flatnonzero(labels == label)[:3]]


@pytest.mark.parametrize(
    ("options", "message"), [({"split": "val"}, "train and test"), ({"per_class": 0}, "whole number above 0")]
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Cifar10Images("anywhere", **options)
