"""Which images a search uses, read from its config."""

from __future__ import annotations

import pytest

from mmrazor_lite.cli.data_sources import read


def images(prefix: str, root: str = "data", **options) -> dict:
    return {"type": "CustomDataset", "data_root": root, "data_prefix": prefix, "pipeline": [], **options}


def part(name: str, dataset: dict, **options) -> dict:
    return {"dataset": {"type": "mmrazor_lite.HeldOut", "part": name, "dataset": dataset, **options}}


TRAIN, TEST = images("train"), images("test")
CFG = {"train_dataloader": part("train", TRAIN), "test_dataloader": {"dataset": TEST}}
SCORED, TUNED = "subnets are scored on images of", "batch norm is recalibrated on images of"


@pytest.mark.parametrize(
    ("cfg", "settings", "said", "trained"),
    [
        (CFG, {"dataloader": part("held_out", TRAIN), "calibrate_dataloader": part("train", TRAIN)}, [], False),
        (CFG, {"dataloader": part("held_out", TRAIN, fraction=0.1)}, [], True),
        (CFG, {"dataloader": part("held_out", TRAIN, seed=1)}, [], True),
        (CFG, {"dataloader": part("all", TRAIN)}, [], True),
        (CFG, {"dataloader": {"dataset": TRAIN}}, [], True),
        (CFG, {"dataloader": {"dataset": images("test/", pipeline=[1])}}, [f"{SCORED} test_dataloader"], False),
        (CFG, {"dataloader": {"dataset": images("", "./data/test")}}, [f"{SCORED} test_dataloader"], False),
        (CFG, {"dataloader": part("held_out", TEST)}, [f"{SCORED} test_dataloader"], False),
        (CFG, {"dataloader": {"dataset": images("val")}, "calibrate_dataloader": {"dataset": TEST}},
         [f"{TUNED} test_dataloader"], False),
        ({"val_dataloader": {"dataset": TEST}}, {"dataloader": {"dataset": TEST}}, [f"{SCORED} val_dataloader"], False),
        ({**CFG, "val_dataloader": part("held_out", TRAIN)}, {"dataloader": part("held_out", TRAIN)}, [], False),
        (CFG, {"dataloader": {"dataset": {"type": "ConcatDataset", "datasets": [images("more"), TEST]}}},
         [f"{SCORED} test_dataloader"], False),
    ],
)  # fmt: skip
def test_images_of_other_sections(cfg, settings, said, trained):
    found = read(cfg, settings)
    assert [any(text in note for note in found.notes) for text in said] == [True] * len(found.notes)
    assert (found.trained is not None) == trained


def test_images_behind_a_link_are_the_same(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "mine").symlink_to("test")
    cfg = {"test_dataloader": {"dataset": images("test", str(tmp_path))}}
    found = read(cfg, {"dataloader": {"dataset": images("mine", str(tmp_path))}})
    assert [note for note in found.notes if f"{SCORED} test_dataloader" in note]
