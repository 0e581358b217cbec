"""AutoSlim's networks for CIFAR-10: params, macs and widths of the reference, baselines and published slim networks.

Source: Autoslim_TF2, ``nets/`` and ``slim_util.py``; the slim networks are the bars of its ``figs/*_depths.png``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from draws import some
from figures import figures

from mmrazor_lite.config.build import build_model
from mmrazor_lite.config.load import load_config
from mmrazor_lite.subnet import Subnet, read_subnet

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "pruning" / "autoslim"
THEIRS = {"mbv2": "Mobilev2", "wrn40_4": "WResNet_40_4", "resnet56": "ResNet56"}
RESULTS = dict(zip(THEIRS, figures("autoslim_tf2/results")["results"], strict=True))
BARS = figures("autoslim_tf2/example_slimmed_widths")


@pytest.fixture(scope="module", params=some(THEIRS, "wrn40_4"))
def network(request) -> tuple[str, Any]:
    """The supernet of one architecture, as its config says."""
    config = load_config(CONFIGS / f"autoslim_{request.param}_supernet_1xb128_cifar10.py")
    return request.param, build_model(config)


def bars(name: str) -> list[str]:
    """The layers in the order of the published bars."""
    if name == "mbv2":
        stages = enumerate([1, 2, 3, 4, 3, 3, 1], start=1)
        blocks = [f"backbone.layer{stage}.{block}.conv" for stage, count in stages for block in range(count)]
        inside = [f"{block}.{part}.conv" for block in blocks for part in range(3)]
        return ["backbone.conv1.conv", *inside, "backbone.conv2.conv"]
    count, beside = (6, "shortcut") if name == "wrn40_4" else (9, "downsample.0")
    layers = ["backbone.conv1"]
    for stage in (1, 2, 3):
        for block in range(count):
            start = f"backbone.layer{stage}.{block}"
            layers += [f"{start}.conv1", f"{start}.conv2"]
            layers += [f"{start}.{beside}"] if block == 0 and (name == "wrn40_4" or stage > 1) else []
    return layers


def costs(algorithm: Any, subnet: Subnet) -> dict[str, int]:
    found = algorithm.cost_model.of(subnet)
    return {key: found[key] for key in ("params", "macs")}


def numbers(computed: dict[str, int]) -> dict[str, int]:
    return {key: computed[key] for key in ("params", "macs")}


def test_baseline(network):
    name, algorithm = network
    assert costs(algorithm, algorithm.search_space.max()) == numbers(RESULTS[name]["computed_baseline"])


def test_every_width_that_is_free_in_the_reference_is_a_choice(network):
    name, algorithm = network
    assert len(algorithm.search_space) == figures("autoslim_tf2/width_groups")[THEIRS[name]]["free_widths"]
    assert [layer.layer for layer in algorithm.mutator.fixed] == ["head.fc"]


def test_candidates_are_fifths_rounded_up(network):
    for choice in network[1].search_space.values():
        full = choice.candidates[-1]
        assert list(choice.candidates) == [math.ceil(Fraction(fifth, 5) * full) for fifth in range(1, 6)]


def test_shipped_subnet_file(network):
    name, algorithm = network
    file = read_subnet(CONFIGS / f"AUTOSLIM_{name.upper()}_CIFAR10_50_TF2.yaml", algorithm.search_space)
    assert costs(algorithm, file.subnet) == numbers(file.resources) == numbers(BARS[THEIRS[name]]["computed"])


def test_published_bars(network):
    name, algorithm = network
    entry, space, layers = BARS[THEIRS[name]], algorithm.search_space, bars(name)
    assert [space.layers[layer].full for layer in layers] == entry["baseline"]
    choices: dict[str, int] = {}
    for layer, width in zip(layers, entry["channels"], strict=True):
        assert choices.setdefault(space.layers[layer].choice, width) == width, layer
    subnet = Subnet(choices)
    space.validate(subnet)
    assert costs(algorithm, subnet) == numbers(entry["computed"])
    assert read_subnet(CONFIGS / f"AUTOSLIM_{name.upper()}_CIFAR10_50_TF2.yaml", space).subnet == subnet


@pytest.mark.parametrize("step", ["supernet", "search", "subnet"])
@pytest.mark.parametrize("name", list(THEIRS))
def test_schedules_are_those_of_the_authors(name, step):
    theirs = figures("autoslim_tf2/hyperparameters")
    config = load_config(CONFIGS / f"autoslim_{name}_{step}_1xb128_cifar10.py")
    decay = theirs["weight_decay"][{"mbv2": "Mobilev2", "wrn40_4": "WResNet", "resnet56": "ResNet"}[name]]
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("SGD", theirs["lr"], decay)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert config.train_dataloader.batch_size == theirs["batch"]
    assert config.train_cfg.max_epochs == (theirs["epochs"] if step == "subnet" else 60)
