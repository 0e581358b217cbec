"""The trainings at full size: their arithmetic, and a step of a small one as of a large one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def full_size():
    """The module, imported from the root of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])
        from benchmarks import full_size as module

        yield module


def test_hours_are_images_times_macs(full_size):
    recipe = full_size.Recipe("a", images=1e6, macs=1e9, depthwise=False)
    assert recipe.hours(6.0) == pytest.approx(6e15 / 6e12 / 3600)


def test_every_family_has_its_trainings(full_size):
    names = [path.stem for path in full_size.recipes()]
    for part in (
        "autoslim_mbv2_supernet_8xb256",
        "spos_supernet_shufflenetv2",
        "ofa_mobilenet_expand_2",
        "tfnas_search",
    ):
        assert any(name.startswith(part) for name in names), part
    assert any(name.endswith("1xb128_cifar10") for name in names)
    assert not any("_search_" in name for name in names if not name.startswith("tfnas"))


def test_what_is_held_out_does_not_train(full_size):
    images = {"type": "ImageNet"}
    assert full_size._share({"type": "HeldOut", "part": "train", "fraction": 0.1, "dataset": images}) == 0.9
    assert full_size._share({"type": "HeldOut", "part": "all", "fraction": 0.1, "dataset": images}) == 1.0
    assert full_size._share({"type": "mmrazor_lite.HeldOut", "part": "held_out", "fraction": 0.1}) == 0.1


@pytest.mark.wide
def test_a_recipe_is_counted_and_runs_a_step(full_size, registered):
    path = ROOT / "configs/pruning/autoslim/autoslim_resnet56_supernet_1xb128_cifar10.py"
    cfg, model = full_size.built(path)
    found = full_size.recipe(path, cfg, model)
    largest = model.cost_model.max()["macs"]
    assert largest + model.cost_model.min()["macs"] < found.macs < 4 * largest and not found.depthwise
    assert found.images == pytest.approx(
        cfg.train_cfg.max_epochs * 50_000 * (1 - cfg.train_dataloader.dataset.fraction)
    )
    assert full_size.dry_run(model) > 0


def test_depthwise_networks_are_told(full_size):
    import torch

    for groups, expected in (([1], False), ([1, 8, 8], True), ([1, 1, 8], False)):
        layers = [torch.nn.Conv2d(8, 8, 3, groups=number) for number in groups]
        model = SimpleNamespace(architecture=torch.nn.Sequential(*layers))
        assert full_size.is_depthwise(model) == expected
