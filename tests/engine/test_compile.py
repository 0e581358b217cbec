"""``compile`` of mmengine's configs: static networks only."""

from __future__ import annotations

import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet import write_subnet


@pytest.fixture
def subnet_file(runner, run_config, tmp_path):
    algorithm = runner(run_config("first")).algorithm
    subnet = algorithm.search_space.min()
    write_subnet(tmp_path / "subnet.yaml", subnet, algorithm.search_space, algorithm.cost_model.of(subnet))
    return str(tmp_path / "subnet.yaml")


@pytest.mark.parametrize("options", [True, {"backend": "eager"}])
def test_a_supernet_is_not_compiled(runner, run_config, options):
    with pytest.raises(UserError, match="compile: this is a supernet, whose widths change in every pass"):
        runner(run_config(compile=options))


def test_several_subnets_are_not_compiled(runner, run_config, subnet_file):
    config = run_config(compile=True)
    config["model"]["channel_cfg"] = [subnet_file]
    with pytest.raises(UserError, match="model of several subnets"):
        runner(config)


def test_what_is_no_option_is_refused(runner, run_config):
    with pytest.raises(UserError, match="compile='yes'"):
        runner(run_config(compile="yes"))


def test_off_is_off(runner, run_config):
    run = runner(run_config(compile=False, train_cfg={"by_epoch": True, "max_epochs": 1}))
    run.train()
    assert run.epoch == 1 and all(module._compiled_call_impl is None for module in run.model.modules())


def test_a_static_network_is_compiled_and_trains_the_same(runner, run_config, subnet_file):
    """By a backend that keeps the kernels."""
    states = {}
    for name, options in (("plain", False), ("compiled", {"backend": "aot_eager"})):
        config = run_config(name, compile=options, train_cfg={"by_epoch": True, "max_epochs": 1})
        config["model"]["channel_cfg"] = subnet_file
        run = runner(config)
        run.train()
        states[name] = run.algorithm.state_dict()
        assert (run.algorithm.architecture.backbone._compiled_call_impl is not None) == (name == "compiled")
    assert states["plain"].keys() == states["compiled"].keys()
    for key, value in states["plain"].items():
        torch.testing.assert_close(states["compiled"][key], value, rtol=1e-5, atol=1e-6)
