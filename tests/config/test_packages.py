"""A package that is missing is one line, before data are read; of sections that a command builds."""

from __future__ import annotations

import importlib.machinery
import importlib.util

import pytest

from mmrazor_lite.cli import main
from mmrazor_lite.config import packages
from mmrazor_lite.errors import UserError


@pytest.fixture
def installed(monkeypatch):
    """Make it seem that exactly these packages are there, of those that are looked for."""
    names: set[str] = set()

    def find_spec(name: str, package: str | None = None):
        return importlib.machinery.ModuleSpec(name, None, origin=f"/{name}.py") if name in names else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return names


@pytest.mark.parametrize("name", sorted(packages.NEEDED))
def test_every_name_says_its_package(installed, name):
    module, package = packages.NEEDED[name]
    said = packages.missing(f"mmengine.{name}")
    assert f"needs the package '{package}'" in said and f"pip install {package}" in said
    installed.add(module)
    assert packages.missing(name) is None


def test_every_backend_of_mmengine_is_known(registered):
    from mmengine.registry import VISBACKENDS

    assert {*VISBACKENDS.module_dict} - {*packages.NEEDED} == {"LocalVisBackend"}


def test_a_folder_of_the_same_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()  # what wandb itself leaves behind
    monkeypatch.syspath_prepend(tmp_path)
    assert not packages._is_installed("wandb")


def test_sections_that_a_command_does_not_build(installed):
    cfg = {"optim_wrapper": {"optimizer": {"type": "Lion"}}, "train_dataloader": {"dataset": {"pipeline": []}}}
    packages.check(cfg, "c.py", without=["optim_wrapper"])
    with pytest.raises(UserError, match="c.py: optim_wrapper.optimizer.type='Lion' needs the package 'lion-pytorch'"):
        packages.check(cfg, "c.py")
    cfg = {"train_dataloader": {"dataset": {"pipeline": [{"type": "X"}, {"type": "mmpretrain.Albu"}]}}}
    with pytest.raises(UserError, match="train_dataloader.dataset.pipeline.1.type='mmpretrain.Albu' needs"):
        packages.check(cfg, "c.py")


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("visualizer = dict(vis_backends=[dict(type='WandbVisBackend')])", "wandb"),
        ("visualizer = dict(vis_backends=[dict(type='mmengine.TensorboardVisBackend')])", "tensorboard"),
        ("custom_hooks = [dict(type='ProfilerHook', on_trace_ready=dict(type='tb_trace'))]", "torch-tb-profiler"),
        ("optim_wrapper = dict(optimizer=dict(_delete_=True, type='Lion', lr=0.1))", "lion-pytorch"),
        ("model = dict(architecture=dict(_delete_=True, type='timm.resnet10t', num_classes=10))", "timm"),
    ],
)
def test_before_the_data_are_looked_at(root, tmp_path, monkeypatch, capsys, text, package):
    found = importlib.util.find_spec
    hidden = {module for module, _ in packages.NEEDED.values()}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in hidden else found(name, *rest))
    config = tmp_path / "c.py"
    base = root / "configs/pruning/autoslim/autoslim_mbv2_supernet_cifar10.py"
    config.write_text(f"_base_ = {str(base)!r}\ndata_root = '/no/such/folder'\n{text}\n")
    assert main(["train", str(config), "--work-dir", str(tmp_path / "W")]) == 2
    error = capsys.readouterr().err
    assert f"needs the package '{package}'" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "W").exists()


def test_hooks_and_clipping_whose_type_is_no_class(root, tmp_path):
    from mmrazor_lite.config.load import load_config

    config = tmp_path / "c.py"
    config.write_text(
        f"_base_ = {str(root / 'configs/pruning/autoslim/autoslim_supernet_digits.py')!r}\n"
        "custom_hooks = [dict(type='ProfilerHook', on_trace_ready=dict(type='log_trace', row_limit=5))]\n"
        "optim_wrapper = dict(clip_grad=dict(type='value', clip_value=0.5))\n"
    )
    assert load_config(config).optim_wrapper.clip_grad.type == "value"
    with pytest.raises(UserError, match="did you mean 'max_norm'"):
        load_config(config, ["optim_wrapper.clip_grad.max_nrom=1"])
