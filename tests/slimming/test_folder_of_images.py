"""A folder of images becomes batches: labels where class folders say them, one fixed order, damage told by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming.folder_of_images import BATCH, find_images, loader
from mmrazor_lite.slimming.image_transform import image_transform

TO_TENSOR = image_transform(None, (4,), (0,), (1,))


def write(path, gray: int = 0, size=(4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, gray, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes of 40 images, whose gray value is the number of the image, and what is none of them."""
    for number in range(120):
        write(tmp_path / "images" / "cat dog eel".split()[number % 3] / f"{number}.PNG", number)
    write(tmp_path / "images" / ".hidden" / "x.png")
    (tmp_path / "images" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "images" / "empty").mkdir()
    return tmp_path / "images"


def test_class_folders_are_numbered_by_their_names(folder):
    found = find_images(folder)
    assert found.classes == ("cat", "dog", "eel") and found.labels == (0,) * 40 + (1,) * 40 + (2,) * 40
    assert all(f"/{found.classes[label]}/" in path for path, label in zip(found.paths, found.labels, strict=True))


def test_batches_are_all_images_once_with_their_labels_in_an_order_of_the_seed(folder):
    batches, notes = loader(folder, TO_TENSOR, outputs=3)
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    numbers = (images[:, 0, 0, 0] * 255).round().long()
    assert images.shape == (120, 1, 4, 4) and torch.equal(numbers.sort().values, torch.arange(120))
    assert torch.equal(numbers % 3, labels) and [len(x) for x, _ in batches] == [BATCH, BATCH, 20]
    assert len(labels[:BATCH].unique()) == 3, "the first ones are a sample of all classes"
    assert torch.equal(images, torch.cat([x for x, _ in loader(folder, TO_TENSOR, outputs=3)[0]]))
    assert not torch.equal(images, torch.cat([x for x, _ in loader(folder, TO_TENSOR, outputs=3, seed=1)[0]]))
    assert notes == [f"120 images of '{folder}' in 3 classes"]


@pytest.mark.parametrize(("outputs", "said"), [(10, "tells 10 classes apart"), (None, "gives no class scores")])
def test_labels_of_another_number_of_classes_are_not_taken(folder, outputs, said):
    batches, notes = loader(folder, TO_TENSOR, outputs)
    assert isinstance(next(iter(batches)), torch.Tensor)
    assert notes[1] == f"'{folder}' has 3 class folders, the network {said}: no labels are taken"


def test_flat_folders_say_no_labels(tmp_path, folder):
    for number in range(3):
        write(tmp_path / "flat" / f"{number}.png")
    found = find_images(tmp_path / "flat")
    assert len(found.paths) == 3 and found.labels is None and "no class folders: no labels" in found.notes[0]
    assert find_images(folder / "cat").labels is None and len(find_images(tmp_path / "flat" / "..").paths) == 123
    write(folder / "beside.png")
    assert find_images(folder).notes == (f"1 images beside the class folders of '{folder}' are left out",)


def test_a_folder_that_is_none(tmp_path, folder):
    for place, message in (("none", "does not exist"), ("images/cat/0.PNG", "is a file"), ("images/empty", "no image")):
        with pytest.raises(UserError, match=message):
            find_images(tmp_path / place)
    for name in ("train", "val"):
        write(tmp_path / "set" / name / "a" / "x.png")
    with pytest.raises(UserError, match="has the parts train, val: give one, '.*/set/train'"):
        find_images(tmp_path / "set")


def test_damaged_images_are_named_or_left_out(tmp_path):
    for number in range(8):
        write(tmp_path / f"{number}.png", number, (64, 64))
    for number in (2, 5):
        (tmp_path / f"{number}.png").write_bytes((tmp_path / f"{number}.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"'.*/[25].png' cannot be read .*--skip-unreadable"):
        list(loader(tmp_path, TO_TENSOR)[0])
    batches, notes = loader(tmp_path, TO_TENSOR, readable=None)
    assert sum(map(len, batches)) == 6 and "2 images cannot be read and are left out" in notes[-1]
    assert all(str(tmp_path / f"{number}.png") in notes[-1] for number in (2, 5))
    assert sum(map(len, loader(tmp_path, TO_TENSOR, readable=3)[0])) == 3
    for path in tmp_path.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="none of 8 images can be read"):
        loader(tmp_path, TO_TENSOR, readable=3)
