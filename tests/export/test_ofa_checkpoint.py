"""Official checkpoints of Once-for-All: under their names, random weights compute what a straight-line network does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from draws import some
from figures import figures
from ofa_reference import network, random_state
from oracles import assert_close

from mmrazor_lite.checkpoints import fitting_weights
from mmrazor_lite.checkpoints.ofa_names import network_of
from mmrazor_lite.cli.main import main
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import load_weights, read_checkpoint
from mmrazor_lite.export.ofa_checkpoint import (
    check_depths,
    convert_official,
    convert_to_official,
    official_names,
    to_official,
)
from mmrazor_lite.models.algorithms import OFA
from mmrazor_lite.models.algorithms.loading import load_checked

SIZE = 64
NETS = {
    "ofa_mbv3_d234_e346_k357_w1.0": ("OFAMobileNetV3", 1.0, 1280),
    "ofa_mbv3_d234_e346_k357_w1.2": ("OFAMobileNetV3", 1.2, 1536),
    "ofa_proxyless_d234_e346_k357_w1.3": ("OFAProxylessNAS", 1.3, 1664),
}
SMALL = "ofa_mbv3_d234_e346_k357_w1.0"


@pytest.fixture
def shapes() -> dict[str, dict[str, list[int]]]:
    """Official network -> tensor -> its shape."""
    return {name: dict(_tensors(entries)) for name, entries in figures("ofa/checkpoint_keys")["networks"].items()}


def _tensors(entries: dict[str, list[int] | int]) -> Iterator[tuple[str, list[int]]]:
    for name, shape in entries.items():
        if isinstance(shape, int):  # the channels of a batch norm
            yield from ((f"{name}.{part}", [shape]) for part in ("weight", "bias", "running_mean", "running_var"))
            yield f"{name}.num_batches_tracked", []
        else:
            yield name, shape


@pytest.fixture(scope="module")
def algorithms(registered) -> dict:
    """Name of the official network -> the algorithm of the same; made when asked for."""

    class Made(dict):
        def __missing__(self, name: str) -> OFA:
            backbone, width, features = NETS[name]
            architecture = {
                "type": "mmpretrain.ImageClassifier",
                "backbone": {"type": f"mmrazor_lite.{backbone}", "width_mult": width},
                "head": {"type": "LinearClsHead", "num_classes": 1000, "in_channels": features},
            }
            self[name] = OFA(architecture, {"type": "mmrazor_lite.NasMutator"}, input_shape=(3, SIZE, SIZE)).eval()
            return self[name]

    return Made()


def older(name: str) -> str:
    """What older files call a weight."""
    name = name.replace(".conv.", ".mobile_inverted_conv.", 1) if name.startswith("blocks.") else name
    return re.sub(r"\b(bn|conv)\.\1\.", r"\1.", name)


def lists_of(subnet: dict, stages: int) -> tuple[list[int], list[int], list[int]]:
    """Kernels, ratios and depths of all blocks, in the order of the stages; 0 for what is not said."""
    kernels, ratios = [], []
    for stage in range(1, stages + 1):
        for block in range(4 if stage < 6 else 1):
            kernels.append(subnet.get(f"backbone.layers.{stage}.{block}.kernel_size", 0))
            ratios.append(subnet.get(f"backbone.layers.{stage}.{block}.expand_ratio", 0))
    return kernels, ratios, [subnet[f"backbone.layers.{stage}.depth"] for stage in range(1, 6)]


@pytest.mark.parametrize("name", some(NETS, SMALL))
def test_converted_subnets_compute_what_the_reference_computes(algorithms, shapes, tmp_path, name):
    algorithm, state = algorithms[name], random_state(shapes[name])
    torch.save({"state_dict": {older(key): tensor for key, tensor in state.items()}}, tmp_path / "older.pth")
    convert_official(algorithm, tmp_path / "older.pth", tmp_path / "ours.pth")
    algorithm.double()
    try:
        load_checked(algorithm, read_checkpoint(tmp_path / "ours.pth"), "ours.pth")
        compare_subnets(algorithm, state, 6 if "proxyless" in name else 5)
    finally:
        algorithm.float()


@torch.no_grad()
def compare_subnets(algorithm: OFA, state: dict, stages: int) -> None:
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    space, rng = algorithm.search_space, np.random.default_rng(0)
    subnets = [space.max(), space.min(), *(space.sample(rng) for _ in range(4))]
    for subnet in subnets:
        expected = network(state, images, *lists_of(subnet, stages))
        algorithm.mutator.activate(subnet)
        assert_close(algorithm(images), expected)
    exported = algorithm.mutator.export(subnets[-1])
    assert_close(exported(images), expected)
    assert expected.std() > 1e-3  # not a network that forgot its input
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", some(NETS, SMALL))
def test_every_official_name_has_its_shape(algorithms, shapes, name):
    own = algorithms[name].state_dict()
    found = {official: list(own[ours].shape) for ours, official in official_names(algorithms[name]).items()}
    assert found == shapes[name]


@pytest.mark.parametrize("name", NETS)
def test_network_and_width_are_recognised(shapes, name):
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes[name].items()}
    assert network_of(state, "file") == NETS[name][:2]
    assert network_of({f"module.{older(key)}": tensor for key, tensor in state.items()}, "file") == NETS[name][:2]


def test_there_and_back(algorithms, shapes, tmp_path):
    algorithm, state = algorithms[SMALL], {key: value.float() for key, value in random_state(shapes[SMALL]).items()}
    state = {key: value.long() if key.endswith("tracked") else value for key, value in state.items()}
    torch.save(state, tmp_path / "official.pth")
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    convert_official(algorithm, tmp_path / "official.pth", tmp_path / "ours.pth")
    assert all(torch.equal(value, before[key]) for key, value in algorithm.state_dict().items())
    convert_to_official(algorithm, tmp_path / "ours.pth", tmp_path / "back.pth")
    back = read_checkpoint(tmp_path / "back.pth")["state_dict"]
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    meta = read_checkpoint(tmp_path / "ours.pth")["meta"]["mmrazor_lite"]
    assert (meta["kind"], meta["space"]) == ("supernet", algorithm.search_space.fingerprint)


def test_in_place_gives_the_same_bytes_each_time(algorithms, shapes, tmp_path):
    official = tmp_path / "official.pth"
    torch.save({"state_dict": random_state(shapes[SMALL])}, official)
    convert_official(algorithms[SMALL], official, tmp_path / "ours.pth")
    convert_official(algorithms[SMALL], official, official)
    assert official.read_bytes() == (tmp_path / "ours.pth").read_bytes()


def test_counters_may_be_missing(algorithms, shapes):
    state = {key: value for key, value in random_state(shapes[SMALL]).items() if not key.endswith("tracked")}
    weights = fitting_weights(algorithms[SMALL], state, "file")
    load_weights(algorithms[SMALL], weights, "file")
    assert all(not value for key, value in weights.items() if key.endswith("tracked"))


def test_what_does_not_fit_is_said_in_one_line(algorithms, shapes):
    algorithm, state = algorithms[SMALL], random_state(shapes[SMALL])
    gone = [key for key in state if key.startswith("blocks.3.") and not key.endswith("tracked")]
    broken = {key: value for key, value in state.items() if key not in gone} | {
        "more.weight": state["classifier.linear.bias"]
    }
    said = error_of(fitting_weights, algorithm, broken, "ofa.pth")
    assert said.startswith("ofa.pth: ") and f"{len(gone)} missing: backbone.layers.1.2." in said
    assert "1 unexpected: more.weight" in said
    twice = state | {older("blocks.2.conv.point_linear.bn.bn.bias"): state["blocks.2.conv.point_linear.bn.bn.bias"]}
    assert "both" in error_of(fitting_weights, algorithm, twice, "ofa.pth")
    wide = random_state(shapes["ofa_mbv3_d234_e346_k357_w1.2"])
    said = error_of(fitting_weights, algorithm, wide, "ofa.pth")
    assert "of another shape" in said and "is OFAMobileNetV3 with width_mult=1.2" in said
    assert "not a checkpoint of Once-for-All" in error_of(
        network_of, {"fc.weight": state["classifier.linear.bias"]}, "f"
    )
    assert "1 4 4 4 4 4 blocks" in error_of(check_depths, algorithm, [1, 4, 4, 4, 4], "the network")
    check_depths(algorithm, [1, 4, 4, 4, 4, 4], "the network")


def test_back_is_the_inverse(algorithms, shapes):
    algorithm, state = algorithms[SMALL], random_state(shapes[SMALL])
    assert to_official(algorithm, fitting_weights(algorithm, state, "file")).keys() == state.keys()


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_command_finds_config_and_width(shapes, tmp_path):
    state = {key: value.float() for key, value in random_state(shapes["ofa_mbv3_d234_e346_k357_w1.2"]).items()}
    official = tmp_path / "ofa_mbv3_d234_e346_k357_w1.2"  # as published: without an ending
    torch.save({"state_dict": state}, official)
    assert main(["convert-ofa", str(official), "--depth", "1", "4", "4", "4", "4", "4"]) == 0
    content = read_checkpoint(tmp_path / "ofa_mbv3_d234_e346_k357_w1.2_latest.pth")
    meta = content["meta"]["mmrazor_lite"]
    assert (meta["kind"], meta["architecture"]["backbone"]["width_mult"]) == ("supernet", 1.2)
    name = "architecture.backbone.layers.5.3.depth_conv.conv.transform_5to3"
    assert torch.equal(content["state_dict"][name], state["blocks.20.conv.depth_conv.conv.5to3_matrix"])


def test_command_says_what_is_wrong(shapes, tmp_path, capsys):
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "other.pth")
    assert main(["convert-ofa", str(tmp_path / "other.pth")]) == 2
    assert "not a checkpoint of Once-for-All" in capsys.readouterr().err
    assert main(["convert-ofa", str(tmp_path / "other.pth"), "--to-official"]) == 2
    assert "--config" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pth"]
