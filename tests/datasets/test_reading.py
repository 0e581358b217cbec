"""What cannot be read or made ready is told with its name, also out of a worker process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mmrazor_lite.datasets.reading import GuardedCollate, read_item
from mmrazor_lite.errors import UserError
from mmrazor_lite.registry import DATASETS

LOAD, PACK = {"type": "mmpretrain.LoadImageFromFile"}, {"type": "mmpretrain.PackInputs"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"a/{number}.png")
    return tmp_path


def build(folder, *pipeline: dict, **options):
    kind = {"type": "mmrazor_lite.CustomDataset", "data_root": str(folder), "pipeline": list(pipeline)}
    return DATASETS.build({**kind, **options})


def test_the_step_of_the_pipeline_is_named(folder):
    from mmcv.transforms import BaseTransform

    from mmrazor_lite.registry import TRANSFORMS

    @TRANSFORMS.register_module(force=True)
    class Divides(BaseTransform):
        def transform(self, results: dict) -> dict:
            return {**results, "img": 1 / int(results["img"].max() != 1)}

    dataset = build(folder, LOAD, {"type": "mmrazor_lite.Divides"})
    assert read_item(dataset, 0, "x") and read_item(dataset, 2, "x")
    with pytest.raises(UserError, match=r"^x: '.*/a/1.png' cannot pass Divides \(ZeroDivisionError: .*\): look at"):
        read_item(dataset, 1, "x")
    TRANSFORMS.module_dict.pop("Divides")


def test_a_missing_file(folder):
    dataset = build(folder, LOAD, PACK)
    (folder / "a/1.png").unlink()
    with pytest.raises(UserError, match=r"^val: '.*/a/1.png' cannot be read \(FileNotFoundError"):
        read_item(dataset, 1, "val")


def test_a_dataset_of_ones_own():
    class Mine(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> dict:
            return {}["image"]

    with pytest.raises(UserError, match=r"^val: item 2 of Mine cannot be read \(KeyError: 'image'\)"):
        read_item(Mine(), 2, "val")


@pytest.mark.parametrize("workers", [0, 1])
def test_the_line_comes_whole_out_of_a_worker(folder, registered, workers):
    (folder / "a/1.png").write_bytes(b"")
    seeded = DATASETS.build({"type": "mmrazor_lite.SeededDataset", "dataset": build(folder, LOAD, PACK), "where": "w"})
    loader = DataLoader(seeded, batch_size=2, num_workers=workers, collate_fn=GuardedCollate(list, "w"))
    with pytest.raises(UserError) as error:
        list(loader)
    assert str(error.value) == (
        f"w: '{folder}/a/1.png' cannot be read (the file is empty): replace or remove it, or --skip-unreadable leaves "
        "out what cannot be read"
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_cannot_be(workers):
    items = [torch.zeros(2), torch.zeros(3)]
    collate = GuardedCollate(torch.utils.data.default_collate, "train_dataloader")
    with pytest.raises(UserError, match=r"^train_dataloader: 2 images make no batch \(RuntimeError: stack expects"):
        list(DataLoader(items, batch_size=2, num_workers=workers, collate_fn=collate))


def test_a_share_of_every_class_needs_one_label_each(folder, registered):
    held_out = {"type": "mmrazor_lite.HeldOut", "fraction": 0.5}
    with pytest.raises(UserError, match="HeldOut: the images of CustomDataset have no label, or several each"):
        DATASETS.build({**held_out, "dataset": build(folder, with_label=False)}).full_init()


def test_a_worker_that_is_killed():
    import os

    from mmrazor_lite.lost import lost_worker

    class Kills(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> int:
            os.kill(os.getpid(), 9)

    with pytest.raises(RuntimeError) as error:
        list(DataLoader(Kills(), num_workers=1))
    assert lost_worker(error.value).startswith("a process that reads images has ended (DataLoader worker (pid")
    assert lost_worker(RuntimeError("something else")) is None


def test_what_cannot_be_read_is_left_out(folder, registered):
    whole = {name: (folder / f"a/{name}.png").read_bytes() for name in "012"}
    (folder / "a/1.png").write_bytes(whole["1"][:30])
    dataset = build(folder, LOAD, PACK, skip_unreadable=True)
    assert [path.rpartition("/")[2] for path in dataset.skipped] == ["1.png"]
    assert [int(dataset[index]["inputs"].max()) for index in range(len(dataset))] == [0, 2]
    (folder / "a/1.png").write_bytes(whole["1"])  # a repaired image is there again
    assert len(build(folder, LOAD, PACK, skip_unreadable=True)) == 3
    for path in (folder / "a").iterdir():
        path.unlink()
        path.write_bytes(b"x")
    with pytest.raises(UserError, match="none of 3 images can be read, the first is '.*0.png': no image"):
        build(folder, LOAD, PACK, skip_unreadable=True)


def test_damaged_images_of_cifar10_are_left_out(tmp_path):
    from mmrazor_lite.datasets.cifar10 import CLASSES

    for number, name in enumerate(CLASSES):
        (tmp_path / "train" / name).mkdir(parents=True)
        for index in range(2):
            image = np.full((32, 32, 3), 10 * number + index, dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / f"train/{name}/{index}.png")
    (tmp_path / "train/cat/0.png").write_bytes(b"")
    config = {"type": "mmrazor_lite.Cifar10Images", "data_root": str(tmp_path)}
    with pytest.raises(UserError, match="cat/0.png' is no image"):
        DATASETS.build(config)
    dataset = DATASETS.build({**config, "skip_unreadable": True})
    found = [(int(info["img"].max()), info["gt_label"]) for info in map(dataset.get_data_info, range(len(dataset)))]
    assert found == [(10 * n + i, n) for n in range(10) for i in range(2) if (n, i) != (3, 0)]
