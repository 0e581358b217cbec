"""Weights of another network with the same names and shapes, and of other images, are refused."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from elastic import BACKBONES, SHAPE, Net
from mmengine.logging import MMLogger
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.export import read_checkpoint, save_checkpoint
from mmrazor_lite.models.algorithms.loading import load_checked
from mmrazor_lite.models.algorithms.preprocessing import otherwise, preprocessing
from mmrazor_lite.models.backbones import SearchableMobileNet, SearchableShuffleNetV2
from mmrazor_lite.models.mutators import NasMutator, OneShotChannelMutator
from mmrazor_lite.models.said import check_computation, check_found, check_resources, origin
from mmrazor_lite.subnet import read_subnet, write_subnet

from .conftest import tiny_classifier

SAME, OTHER = ({"settings": [[2, 12, 1, stride]]} for stride in (1, 2))  # without a shortcut, one space


@pytest.fixture
def checkpoint(make, tmp_path):
    """Write what an algorithm holds."""

    def write(algorithm, name="a.pth"):
        save_checkpoint(
            {"state_dict": algorithm.state_dict(), "meta": {"mmrazor_lite": algorithm.checkpoint_meta()}},
            tmp_path / name,
        )
        return tmp_path / name

    return write


def test_a_supernet_of_another_network_is_not_loaded(make, checkpoint):
    path = checkpoint(make(architecture=tiny_classifier(SAME)))
    load_checked(make(architecture=tiny_classifier(SAME)), read_checkpoint(path), "a.pth")
    other = make(architecture=tiny_classifier(OTHER))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(
        UserError, match=r"a\.pth is of another network, .*: layer backbone\.\S+: stride \(1, 1\) in the f"
    ):
        load_checked(other, read_checkpoint(path), "a.pth")
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())


def test_other_shapes_are_told_before_what_is_computed(make, checkpoint):
    path = checkpoint(make(architecture=tiny_classifier(SAME)))
    architecture = tiny_classifier(OTHER)
    architecture["head"]["num_classes"] += 1
    other = make(architecture=architecture)
    assert other.search_space.fingerprint == read_checkpoint(path)["meta"]["mmrazor_lite"]["space"]
    with pytest.raises(UserError, match="2 of another shape: head"):
        load_checked(other, read_checkpoint(path), "a.pth")


def test_kinds_of_one_architecture_are_one_network(make, checkpoint):
    """Supernet, joint model and subnet: what is computed at full width is the same."""

    def build(**options):
        return make(**{"architecture": tiny_classifier(SAME), **options})

    found = [build(), build(channel_cfg=[0.5, 1.0]), build(channel_cfg=0.5), build(input_shape=(3, 16, 16))]
    for algorithm in found[1:]:
        check_computation(found[0].computation, algorithm.computation, "a.pth")
    joint = checkpoint(found[1])
    load_checked(build(channel_cfg=[0.5, 1.0], input_shape=(3, 12, 12)), read_checkpoint(joint), "a.pth")
    with pytest.raises(UserError, match="another network"):
        load_checked(make(channel_cfg=[0.5, 1.0], architecture=tiny_classifier(OTHER)), read_checkpoint(joint), "a.pth")


def test_files_of_before_and_of_others_are_loaded(make, checkpoint):
    content = read_checkpoint(checkpoint(make(architecture=tiny_classifier(SAME))))
    del content["meta"]["mmrazor_lite"]["computation"], content["meta"]["mmrazor_lite"]["preprocessing"]
    load_checked(make(architecture=tiny_classifier(OTHER)), content, "a.pth")
    load_checked(make(architecture=tiny_classifier(OTHER)), {"state_dict": content["state_dict"]}, "a.pth")


@pytest.mark.parametrize("place", ["algorithm", "architecture", "backbone"])
def test_init_cfg_compares_too(make, checkpoint, place):
    path = checkpoint(make(architecture=tiny_classifier(SAME)))
    init = {"type": "Pretrained", "checkpoint": str(path)}
    for options, same in ((SAME, True), (OTHER, False)):
        architecture = tiny_classifier(options)
        if place == "architecture":
            architecture["init_cfg"] = init
        algorithm = make(torch.float32, architecture=architecture, init_cfg=init if place == "algorithm" else None)
        if place == "backbone":
            algorithm.architecture.backbone.init_cfg = {**init, "prefix": "architecture.backbone."}
        if same:
            algorithm.init_weights()
            continue
        with pytest.raises(UserError, match=r"a\.pth is of another network, .*: layer backbone\.\S+: stride"):
            algorithm.init_weights()


# declared choices -----------------------------------------------------------------------------------------------


def _computation(model) -> dict:
    mutator = NasMutator()
    mutator.prepare(model, SHAPE)
    return mutator.computation


def _elastic(**options) -> Net:
    backbone = BACKBONES["mobilenet_v3"]
    setting = [list(row) for row in backbone.keywords["arch_setting"]]
    setting[1][3] = options.pop("act", setting[1][3])
    setting[1][2] = options.pop("stride", setting[1][2])
    return Net(backbone(arch_setting=setting, **options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"act": "ReLU"}, r"layer backbone\.\S+: relu in the file, hardswish in the config|hardswish"),
        pytest.param({"stride": 1}, r"stride \(1, 1\) in the file, \(2, 2\) in the config", marks=pytest.mark.wide),
    ],
)
def test_inside_elastic_blocks(options, expected):
    base = _computation(_elastic())
    check_computation(_computation(_elastic(dropout=0.3)), base, "a.pth")
    with pytest.raises(UserError, match=expected):
        check_computation(_computation(_elastic(**options)), base, "a.pth")


def test_inside_operators():
    def mobile(act: str) -> Net:
        setting = {"arch_setting": [[8, 1, 1], [12, 2, 2]], "first_channels": 8, "last_channels": 24}
        backbone = SearchableMobileNet(**setting, act_cfg={"type": act})
        backbone.out_channels = 24
        return Pooled(backbone)

    base = _computation(mobile("ReLU6"))
    check_computation(_computation(mobile("ReLU6")), base, "a.pth")
    with pytest.raises(UserError, match="relu in the file, relu6|hardtanh"):
        check_computation(_computation(mobile("ReLU")), base, "a.pth")


def test_a_stride_between_operators():
    def shuffle(stride: int) -> Pooled:
        backbone = SearchableShuffleNetV2([[24, 1], [32, 1]], last_channels=24)
        backbone.out_channels = 24
        first = next(module for module in backbone.modules() if isinstance(module, torch.nn.Conv2d))
        first.stride = (stride, stride)
        return Pooled(backbone)

    with pytest.raises(UserError, match=r"stride \(1, 1\) in the file, \(2, 2\)"):
        check_computation(_computation(shuffle(1)), _computation(shuffle(2)), "a.pth")


class Pooled(Net):
    def forward(self, x):
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


# images ---------------------------------------------------------------------------------------------------------


def _preprocessor(**options):
    from mmpretrain.models import ClsDataPreprocessor

    return ClsDataPreprocessor(**options)


IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (IMAGENET, None),
        ({**IMAGENET, "mean": [123.7, 116.3, 103.5]}, None),
        ({**IMAGENET, "num_classes": 3}, None),
        (
            {**IMAGENET, "mean": [0, 0, 0]},
            r"mean is \(123.675, 116.28, 103.53\) in the file, \(0, 0, 0\) in the config",
        ),
        ({**IMAGENET, "std": [1, 1, 1]}, r"std is \(58.395, 57.12, 57.375\) in the file, \(1, 1, 1\) in the config"),
        ({**IMAGENET, "to_rgb": False}, r"channels are swapped \(to_rgb=True\) in the file, as they are read"),
        ({"to_rgb": True}, r"mean is \(123.675, .*\) in the file, \(0\) in the config"),
    ],
)
def test_what_is_done_to_images(options, expected):
    import re

    theirs = preprocessing(_preprocessor(**IMAGENET))
    found = otherwise(theirs, preprocessing(_preprocessor(**options)))
    assert found is None if expected is None else re.match(expected, found), found
    assert otherwise(None, theirs) is None and otherwise({"mean": "x", "to_rgb": 3}, theirs) is None
    assert otherwise(theirs, preprocessing(torch.nn.Identity())) is None  # of the user's own, which says nothing


# costs ----------------------------------------------------------------------------------------------------------


def test_costs_that_a_file_says_are_compared():
    own = {"params": 100, "macs": 1000, "memory": 5}
    for said in (None, {}, own, {"latency": 3.0}, {"macs": "many"}, {"macs": 1000.0}):
        check_resources(said, own, "a.yaml", [3, 8, 8], (3, 8, 8))
    with pytest.raises(UserError, match="a.yaml says 101 params of its subnet, which has 100 here: it is of"):
        check_resources({"params": 101}, own, "a.yaml")
    with pytest.raises(UserError, match="a.yaml says 1,001 macs of its subnet, which has 1,000 here"):
        check_resources({"macs": 1001}, own, "a.yaml", [3, 8, 8], (3, 8, 8))
    check_resources({"macs": 4000, "params": 100}, own, "a.yaml", [3, 16, 16], (3, 8, 8))  # legal, and told
    check_resources({"macs": 4000}, own, "a.yaml")  # a file of before
    with pytest.raises(UserError, match="a.yaml says 101 params"):
        check_resources({"macs": 4000, "params": 101}, own, "a.yaml", [3, 16, 16], (3, 8, 8))
    check_resources({"macs": 1000, "params": 101}, own, "a.yaml", [3, 8, 8], (3, 8, 8))  # norms without weights, told


@pytest.mark.parametrize("keys", [("macs",), ("macs", "params")])
def test_a_subnet_file_of_another_network_is_refused(make, tmp_path, keys):
    """By what it says it costs, where names, shapes and widths are the same."""
    algorithm = make()
    space, subnet = algorithm.search_space, algorithm.search_space.min()
    costs, about = algorithm.cost_model.of(subnet), {"input_shape": [3, 8, 8]}
    write_subnet(tmp_path / "a.yaml", subnet, space, costs, made_by=about)
    assert make(channel_cfg=str(tmp_path / "a.yaml")).subnets == [subnet]
    write_subnet(tmp_path / "a.yaml", subnet, space, {**costs, **{key: costs[key] + 1 for key in keys}}, made_by=about)
    assert read_subnet(tmp_path / "a.yaml", space).subnet == subnet
    with pytest.raises(UserError, match=rf"a\.yaml says [\d,]+ {keys[-1]} of its subnet, which has"):
        make(channel_cfg=str(tmp_path / "a.yaml"))


def test_a_checkpoint_that_says_other_costs_is_refused(make, checkpoint):
    content = read_checkpoint(checkpoint(make(channel_cfg=0.5)))
    load_checked(make(channel_cfg=0.5), content, "a.pth")
    load_checked(make(channel_cfg=0.5, input_shape=(3, 16, 16)), content, "a.pth")  # its macs are others, and may be
    content["meta"]["mmrazor_lite"]["resources"]["macs"] += 1
    with pytest.raises(UserError, match=r"a\.pth says [\d,]+ macs of its subnet"):
        load_checked(make(channel_cfg=0.5), content, "a.pth")


def test_images_of_another_size_are_told_once(make, monkeypatch):
    told = []

    def note(text, *args, level=0, **kwargs):
        told.append((text, level))

    monkeypatch.setattr("mmrazor_lite.models.algorithms.base.print_log", note)
    algorithm = make()
    algorithm(torch.zeros(2, 3, 8, 8, dtype=torch.float64))
    assert not told
    for _ in range(3):
        algorithm(torch.zeros(2, 3, 12, 8, dtype=torch.float64))
    assert len(told) == 1 and told[0][1] == logging.WARNING
    assert "images of 12 x 8 arrive, costs are counted for input_shape 8 x 8" in told[0][0]


def test_a_subnet_file_knows_the_network_it_was_found_for(tmp_path):
    """Another activation costs as many macs and params, and the subnet was not searched for it."""

    def mutator_of(activation, size=8):
        layers = [nn.Conv2d(3, 8, 3), activation, nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        mutator = OneShotChannelMutator(divisor=2)
        mutator.prepare(nn.Sequential(*layers, nn.Linear(8, 4)), (3, size, size))
        return mutator

    def told(other):
        records = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = records.append
        logger = MMLogger.get_current_instance()
        logger.addHandler(handler)
        check_found(read_subnet(path, other.search_space), other, "a.yaml")
        logger.removeHandler(handler)
        return any("a.yaml was found for a network that computes something else" in record.msg for record in records)

    found_for, path = mutator_of(nn.ReLU()), tmp_path / "a.yaml"
    subnet = found_for.search_space.min()
    costs = {key: value for key, value in found_for.cost_model.of(subnet).items() if key in ("macs", "params")}
    write_subnet(path, subnet, found_for.search_space, costs, made_by=origin(found_for))
    assert not told(mutator_of(nn.ReLU()))
    assert told(mutator_of(nn.SiLU()))
    assert not told(mutator_of(nn.SiLU(), size=16))  # of another size, the costs are told
    write_subnet(path, subnet, found_for.search_space, costs)  # a file of before, or of somebody else
    assert not told(mutator_of(nn.SiLU()))
    leaky = mutator_of(nn.LeakyReLU(0.1))
    write_subnet(path, subnet, leaky.search_space, costs, made_by=origin(leaky))
    assert told(mutator_of(nn.LeakyReLU(0.2))) and not told(mutator_of(nn.LeakyReLU(0.1)))
    before = origin(leaky) | {"computation": origin(leaky)["computation"].rpartition(":")[0]}  # without its floats
    write_subnet(path, subnet, leaky.search_space, costs, made_by=before)
    assert not told(mutator_of(nn.LeakyReLU(0.2))) and told(mutator_of(nn.ReLU()))
