"""``channels_last='auto'``: a trial leaves no trace, what it finds stays, and rules spare most runs of it."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapperDict
from models.algorithms.test_channels_last import BUILT
from torch import nn

from mmrazor_lite.checkpoints import read_checkpoint, save_checkpoint
from mmrazor_lite.engine import channels_last, layout_trial
from mmrazor_lite.engine.layout_trial import tried
from mmrazor_lite.engine.optim import SubnetAmpOptimWrapper, SubnetOptimWrapper
from mmrazor_lite.errors import UserError

ALWAYS, NEVER = 1e9, 0.0


@pytest.fixture
def trial(monkeypatch):
    """Have all runs try both orders, whatever their size, and take the one that is said."""

    def set_up(gain: float) -> None:
        monkeypatch.setattr(channels_last, "LEAST_MACS", 0)
        monkeypatch.setattr(layout_trial, "GAIN", gain)

    return set_up


def data_of(algorithm, count: int = 4) -> dict:
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(0)
    images = torch.randn((count, *algorithm.input_shape), generator=generator)
    batch = {"inputs": images, "data_samples": [DataSample().set_gt_label(i % 5) for i in range(count)]}
    return {"weights": batch, "arch": None} if hasattr(algorithm, "arch_parameters") else batch


def wrapped(algorithm, kind=SubnetOptimWrapper):
    if not hasattr(algorithm, "arch_parameters"):
        return kind(torch.optim.SGD(algorithm.parameters(), lr=0.1, momentum=0.9))
    parts = {"architecture": algorithm.architecture, "arch_parameters": algorithm.arch_parameters}
    return OptimWrapperDict(**{name: kind(torch.optim.SGD(part.parameters(), lr=0.1)) for name, part in parts.items()})


def everything(algorithm) -> tuple:
    """All that a trial could leave a trace in."""
    tensors = {**dict(algorithm.named_parameters()), **dict(algorithm.named_buffers())}
    return (
        {name: tensor.detach().clone() for name, tensor in tensors.items()},
        {name: (id(tensor), tensor.stride(), tensor.grad) for name, tensor in tensors.items()},
        [module.training for module in algorithm.modules()],
        [getattr(module, "momentum", None) for module in algorithm.modules()],
        getattr(algorithm.mutator, "active", None),
        (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        algorithm.channels_last,
    )


WIDE = [pytest.param(name, marks=pytest.mark.wide) for name in ("AutoSlim, joint", "OFA", "SubModel")]


@pytest.mark.parametrize("name", ["AutoSlim", "SPOS", "TFNAS", *WIDE])
def test_a_trial_leaves_no_trace(name):
    torch.manual_seed(0)
    algorithm = BUILT[name]()
    algorithm.init_weights()
    algorithm.train()
    wrapper, data = wrapped(algorithm), data_of(algorithm)
    state, given = copy.deepcopy(wrapper.state_dict()), copy.deepcopy(data)
    before = everything(algorithm)
    found = tried(algorithm, data, wrapper)
    assert found.problem is None and min(found.seconds, found.others) > 0
    after = everything(algorithm)
    assert all(torch.equal(value, after[0][key]) for key, value in before[0].items())
    assert before[1:] == after[1:]
    assert wrapper.state_dict() == state
    same = data.get("weights", data), given.get("weights", given)
    assert torch.equal(same[0]["inputs"], same[1]["inputs"])
    assert [s.to_dict().keys() for s in same[0]["data_samples"]] == [
        s.to_dict().keys() for s in same[1]["data_samples"]
    ]


def test_a_trial_in_16_bits(monkeypatch):
    algorithm = BUILT["AutoSlim"]()
    algorithm.init_weights()
    algorithm.train()
    seen = set()
    algorithm.logits_module.fc.register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    found = tried(algorithm, data_of(algorithm), wrapped(algorithm, SubnetAmpOptimWrapper))
    assert found.problem is None and seen == {torch.bfloat16}


class Viewing(nn.Module):
    """Takes its map for one that lies as (N, C, H, W)."""

    def forward(self, x):
        return x.view(len(x), -1).view_as(x)


class Wrong(nn.Module):
    """Computes something else where the channels are innermost."""

    def forward(self, x):
        return x if x.is_contiguous() else -3 * x


@pytest.mark.parametrize(("layer", "says"), [(Viewing(), "view size"), (Wrong(), "(the loss is|gradients differ)")])
@pytest.mark.parametrize("place", ["everywhere", "in one operator"])
def test_an_order_that_cannot_be_trusted_is_not_taken(trial, layer, says, place):
    import re

    trial(ALWAYS)
    algorithm = BUILT["AutoSlim" if place == "everywhere" else "SPOS"]()
    algorithm.init_weights()
    algorithm.train()
    found = tried(algorithm, data_of(algorithm), wrapped(algorithm))
    assert found.channels_last
    if place == "everywhere":
        norm = next(m for m in algorithm.modules() if isinstance(m, nn.BatchNorm2d))
    elif isinstance(layer, Wrong):
        return  # what an operator computes that no pass of the first step runs is not compared
    else:
        last = next(n for n, c in algorithm.search_space.items() if c.kind == "operator")
        paths = {algorithm.passes(step)[0].subnet[last] for step in range(1)}
        other = next(o for o in algorithm.search_space[last].candidates if o not in paths)
        operator = algorithm.mutator.modules[last]._candidates[other]
        norm = next(m for m in operator.modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_hook(lambda module, args, output: layer(output))
    found = tried(algorithm, data_of(algorithm), wrapped(algorithm))
    assert not found.channels_last and re.search(says, str(found))
    assert all(p.is_contiguous() for p in algorithm.parameters())


def trained(runner, config) -> tuple[dict, object]:
    run = runner(config)
    run.train()
    epochs = config["train_cfg"]["max_epochs"]
    return read_checkpoint(Path(run.work_dir) / f"epoch_{epochs}.pth"), run


def short(run_config, work_dir, **options) -> dict:
    no_val = dict.fromkeys(("val_dataloader", "val_evaluator", "val_cfg"))
    return run_config(work_dir, **{"train_cfg": {"by_epoch": True, "max_epochs": 1}, **no_val, **options})


def equal(one: dict, two: dict) -> bool:
    return all(torch.equal(value, two["state_dict"][key]) for key, value in one["state_dict"].items()) and all(
        torch.equal(state["momentum_buffer"], two["optimizer"]["state"][key]["momentum_buffer"])
        for key, state in one["optimizer"]["state"].items()
    )


@pytest.mark.parametrize(("gain", "order"), [(ALWAYS, True), (NEVER, False)])
def test_a_run_that_tried_is_the_run_that_was_told(runner, run_config, trial, gain, order):
    trial(gain)
    told, _ = trained(runner, short(run_config, "told", channels_last=order))
    chosen, run = trained(runner, short(run_config, "auto", log_level="INFO"))
    assert run.algorithm.channels_last is order and not run.layout_is_open
    assert chosen["meta"]["mmrazor_lite"]["channels_last"] is order
    assert equal(told, chosen)
    assert f"{'on' if order else 'off'}, a step of 4 images takes " in said(run)


def test_what_was_found_stays_with_a_resumed_run_a_test_and_a_search(runner, run_config, trial):
    trial(ALWAYS)
    two = {"by_epoch": True, "max_epochs": 2}
    whole, _ = trained(runner, short(run_config, "whole", train_cfg=two))
    _, first = trained(runner, short(run_config, "part", param_scheduler=None))
    file = Path(first.work_dir) / "epoch_1.pth"
    stopped = Path(run_config("whole")["work_dir"]) / "epoch_1.pth"
    trial(NEVER)
    resumed, run = trained(runner, short(run_config, "part2", train_cfg=two, resume=True, load_from=str(stopped)))
    assert run.algorithm.channels_last and equal(whole, resumed)
    opened = runner(run_config("test"))
    opened.load_checkpoint(str(file))  # as a search and a test do
    assert opened.algorithm.channels_last
    started = short(run_config, "from", load_from=str(file))
    assert not trained(runner, started)[1].algorithm.channels_last  # a training that begins tries


def test_the_config_holds_in_a_resumed_run(runner, run_config, trial):
    trial(ALWAYS)
    _, first = trained(runner, short(run_config, "part"))
    file = str(Path(first.work_dir) / "epoch_1.pth")
    two = {"by_epoch": True, "max_epochs": 2}
    config = short(run_config, "other", train_cfg=two, resume=True, load_from=file, channels_last=False)
    assert not trained(runner, config)[1].algorithm.channels_last


def test_a_file_of_before_goes_on_as_it_was(runner, run_config, trial, tmp_path):
    trial(ALWAYS)
    content, _ = trained(runner, short(run_config, "old", channels_last=False))
    del content["meta"]["mmrazor_lite"]["channels_last"]
    save_checkpoint(content, tmp_path / "old.pth")
    two = {"by_epoch": True, "max_epochs": 2}
    config = short(run_config, "new", train_cfg=two, resume=True, load_from=str(tmp_path / "old.pth"))
    assert not trained(runner, config)[1].algorithm.channels_last


def said(run) -> str:
    text = Path(run.log_dir, f"{run.timestamp}.log").read_text()
    (line,) = [line for line in text.splitlines() if "channels_last='auto'" in line]
    return line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "off, a step is too short for the order to matter"),
        ({"randomness": {"seed": 3, "deterministic": True}}, "off, nothing is timed with randomness.deterministic"),
    ],
)
def test_rules_say_what_is_not_tried(runner, run_config, monkeypatch, options, says):
    monkeypatch.setattr(layout_trial, "tried", None)  # it would fail
    if options:
        monkeypatch.setattr(channels_last, "LEAST_MACS", 0)
    try:
        _, run = trained(runner, short(run_config, "run", log_level="INFO", **options))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    assert says in said(run) and not run.algorithm.channels_last


def test_what_would_damage_memory_is_left_alone_and_not_refused(runner, run_config, trial):
    from engine.test_channels_last import config_of

    trial(ALWAYS)
    config = {**config_of(lambda channels_last: short(run_config, "run", log_level="INFO"))}
    config["model"]["mutator"]["candidate_choices"] = [0.25, 1.0]
    run = runner(config)
    why = channels_last.untried(run, 4)
    assert why is not None and "a strided 1x1 convolution with 4 input channels" in why


def test_another_training_step_is_not_guessed_at(runner, run_config, monkeypatch):
    monkeypatch.setattr(channels_last, "LEAST_MACS", 0)
    run = runner(short(run_config, "run"))
    assert channels_last.untried(run, 4) is None

    class Own(type(run.algorithm)):
        def train_step(self, data, optim_wrapper, forward=None):
            return super().train_step(data["images"], optim_wrapper, forward)

    run.algorithm.__class__ = Own
    assert channels_last.untried(run, 4) == "Own has a training step of its own"


@pytest.mark.parametrize("value", ["banana", 1, None, "True"])
def test_other_values_are_refused(runner, run_config, value):
    with pytest.raises(UserError, match=r"channels_last=.*: allowed are 'auto', True or False"):
        runner(short(run_config, "run", channels_last=value))
