"""Validation evaluates every subnet that the algorithm names, and changes nothing."""

from __future__ import annotations

import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import write_subnet


@pytest.fixture
def initialised(runner, run_config):
    """Build a runner with initialised weights, ready to validate."""

    def build(**model):
        config = run_config()
        val_cfg = model.pop("val_cfg", config["val_cfg"])
        config["model"].update(model)
        run = runner({**config, "val_cfg": val_cfg})
        torch.manual_seed(0)
        run.algorithm.init_weights()
        return run

    return build


def spoil_statistics(run) -> None:
    for name, buffer in run.algorithm.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 50.0)


def state(run) -> dict:
    return {name: value.clone() for name, value in run.algorithm.state_dict().items()}


def test_a_supernet_is_recalibrated_for_each_subnet_and_restored(initialised):
    run = initialised()
    spoil_statistics(run)
    before, active = state(run), run.algorithm.mutator.active
    metrics = run.val()
    assert list(metrics) == ["max_subnet.accuracy/top1", "min_subnet.accuracy/top1"]
    assert all(torch.equal(before[name], value) for name, value in state(run).items())
    assert run.algorithm.mutator.active == active
    outputs = []
    run.algorithm.logits_module.register_forward_hook(lambda m, a, output: outputs.append(output.clone()))
    assert run.val_loop.run() == metrics
    first = [*outputs]
    outputs.clear()
    spoil_statistics(run)  # other statistics, the same result (invariant 10)
    assert run.val_loop.run() == metrics
    assert all(torch.equal(a, b) for a, b in zip(first, outputs, strict=True))


def test_without_recalibration_the_statistics_count(initialised):
    run = initialised(val_cfg={"calibrate_sample_num": 0})
    scores = []
    run.algorithm.logits_module.register_forward_hook(lambda m, a, output: scores.append(output.clone()))
    run.val()
    first = torch.cat(scores[1:])  # before them, metrics are tried on a few images
    scores.clear()
    spoil_statistics(run)
    run.val_loop.run()
    assert not torch.allclose(first, torch.cat(scores))


def test_joint_models_and_plain_subnets(initialised, tmp_path):
    space = initialised().algorithm.search_space
    paths = [str(tmp_path / name) for name in ("A.yaml", "B.yaml")]
    for path, subnet in zip(paths, (space.max(), space.min()), strict=True):
        write_subnet(path, subnet, space)
    joint = initialised(channel_cfg=paths)
    assert list(joint.val()) == ["subnet_1.accuracy/top1", "subnet_2.accuracy/top1"]
    assert list(initialised(channel_cfg=paths[0]).val()) == ["accuracy/top1"]


def test_results_are_one_table_with_the_costs_of_every_subnet(initialised, monkeypatch):
    run = initialised(width_range=(0.5, 1.0), val_widths=[1.0, 0.75, 0.5])
    lines: list[str] = []
    monkeypatch.setattr(run.logger, "info", lambda text, *args, **kwargs: lines.append(str(text)))
    metrics = run.val()
    (text,) = [line for line in lines if line.startswith("Results of every subnet (val)")]
    head, *rows = text.splitlines()[1:]
    assert head.split() == ["macs", "params", "accuracy/top1"] and len({len(row) for row in [head, *rows]}) == 1
    for row, (name, cost) in zip(rows, run.algorithm.resources().items(), strict=True):
        score = metrics[f"{name}.accuracy/top1"]
        assert row.split() == [
            name,
            f"{cost['macs'] / 1e6:.3f}",
            "M",
            f"{cost['params'] / 1e6:.3f}",
            "M",
            f"{score:.2f}",
        ]


def test_recalibration_without_training_images_says_what_to_give(runner, run_config):
    config = run_config()
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        config.pop(key)
    run = runner(config)
    run.algorithm.init_weights()
    with pytest.raises(UserError, match="give calibrate_dataloader, or calibrate_sample_num=0"):
        run.val()


@pytest.mark.parametrize("number", [-5, 1.5, True, 1000])
def test_numbers_of_images_that_mean_nothing_are_refused(initialised, number):
    """-1 and 0 keep the statistics; there are fewer than 1000 training images."""
    with pytest.raises(UserError, match=rf"calibrate_sample_num={number}"):
        initialised(val_cfg={"calibrate_sample_num": number}).val()


def test_resources_are_logged_before_training(runner, run_config, monkeypatch):
    config = run_config(
        train_cfg={"by_epoch": True, "max_epochs": 1}, custom_hooks=[{"type": "mmrazor_lite.ResourceHook"}]
    )
    run = runner({**config, **dict.fromkeys(("val_dataloader", "val_evaluator", "val_cfg"))})
    lines: list[str] = []
    monkeypatch.setattr(run.logger, "info", lambda text, *args, **kwargs: lines.append(str(text)))
    run.train()
    table = next(line for line in lines if line.startswith("Resources of one image"))
    cost = run.algorithm.resources()["min_subnet"]["macs"]
    assert "max_subnet" in table and f"{cost / 1e6:.3f} M" in table
    assert any("head.fc (" in line for line in lines)
