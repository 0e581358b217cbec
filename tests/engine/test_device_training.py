"""Whole runs on images that live on the device: resumed, in mixed precision, channels innermost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmrazor_lite.checkpoints import read_checkpoint


@pytest.fixture
def device_config(run_config):
    """A run on 22 images of bytes with crops and flips, its validation on 8 of them."""

    def build(work_dir: str, **overrides) -> dict:
        digits = {"type": "mmrazor_lite.Digits", "pipeline": [{"type": "mmpretrain.PackInputs"}]}
        config = run_config(work_dir, **overrides)
        train, val = config["train_dataloader"], config["val_dataloader"]
        options = {"crop_padding": 2, "padding_mode": "reflect", "flip_prob": 0.5}
        train["dataset"] = {"type": "mmrazor_lite.DeviceImages", "dataset": {**digits, "indices": 22}, **options}
        val["dataset"] = {"type": "mmrazor_lite.DeviceImages", "dataset": {**digits, "split": "test", "indices": 8}}
        train["collate_fn"] = val["collate_fn"] = {"type": "whole_batch"}
        config["model"]["architecture"]["head"]["num_classes"] = 10
        config["data_preprocessor"] = {"num_classes": 10, "mean": [128.0] * 3, "std": [64.0] * 3}
        return config

    return build


class Killed(Exception):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("iteration", [9, 14])
def test_resumed_equals_uninterrupted(runner, device_config, iteration):
    whole = runner(device_config("whole"))
    whole.train()
    killed = runner(device_config("part"))
    step = killed.model.train_step

    def train_step(data, optim_wrapper):
        if optim_wrapper.batch_index == iteration:
            raise Killed
        return step(data, optim_wrapper)

    killed.model.train_step = train_step
    with pytest.raises(Killed):
        killed.train()
    resumed = runner(device_config("part", resume=True))
    resumed.train()
    assert resumed.iter == 18
    ours, theirs = (read_checkpoint(Path(run.work_dir) / "epoch_3.pth") for run in (resumed, whole))
    assert all(torch.equal(ours["state_dict"][key], value) for key, value in theirs["state_dict"].items())
    for key, state in theirs["optimizer"]["state"].items():
        assert torch.equal(ours["optimizer"]["state"][key]["momentum_buffer"], state["momentum_buffer"])


def test_the_images_of_a_step_are_one_tensor_of_bytes(runner, device_config):
    run = runner(device_config("run"))
    batch = next(iter(run.build_train_loop(run._train_loop).dataloader))
    assert (batch["inputs"].dtype, tuple(batch["inputs"].shape)) == (torch.uint8, (4, 3, 8, 8))


@pytest.mark.parametrize("channels_last", [False, True])
def test_mixed_precision_and_channels_last(runner, device_config, channels_last):
    wrapper = {"type": "mmrazor_lite.SubnetAmpOptimWrapper", "optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9}}
    run = runner(device_config("run", channels_last=channels_last, optim_wrapper=wrapper))
    seen = []
    conv = run.algorithm.architecture.backbone.conv1.conv

    def keep(module, args, output):
        if module.training:
            seen.append((args[0], output))

    conv.register_forward_hook(keep)
    run.train()
    metrics = run.val_loop.run()
    assert set(metrics) == {"max_subnet.accuracy/top1", "min_subnet.accuracy/top1"}
    inputs, output = seen[0]
    assert inputs.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert output.dtype is torch.bfloat16
    assert all(torch.isfinite(value).all() for value in run.algorithm.state_dict().values())
