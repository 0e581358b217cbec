"""The network that ``slim`` is given: by its name or of a config, with the weights of a file, or one line why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from mmrazor_lite.checkpoints import save_checkpoint
from mmrazor_lite.cli.trained_network import by_name, of_config
from mmrazor_lite.config import build_model, load_config
from mmrazor_lite.errors import UserError

MY_NET = """
from torch import nn


class MyNet(nn.Module):
    def __init__(self, width=4, num_classes=5):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, width, 3), nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))
"""
PLAIN = "model = dict(type={!r}, num_classes=3)\ndata_preprocessor = dict(mean=[1.0], std=[2.0])\n"
CONFIGS = "configs/pruning/autoslim/"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with code of the user's own and its weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net_of_the_test.py").write_text(MY_NET)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("net_of_the_test", None)


def equal(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)


def test_own_code_with_the_weights_of_a_file(here):
    trained = by_name("net_of_the_test.MyNet", None, ["model.width=6"], 0).module
    torch.save({"state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, "w.pth")
    found = by_name("net_of_the_test.MyNet", "w.pth", ["model.width=6"], 1)
    assert equal(found.module, trained) and not found.module.training and not found.notes
    assert found.name is None and found.title == "net_of_the_test.MyNet"


def test_libraries_say_their_name_and_weights_are_drawn_by_the_seed():
    first, second = (by_name("torchvision.mobilenet_v3_small", None, ["model.num_classes=4"], 3) for _ in range(2))
    assert equal(first.module, second.module) and first.module.classifier[-1].out_features == 4
    assert first.name == "torchvision.mobilenet_v3_small" and "has the weights that its own code" in first.notes[0]


@pytest.mark.parametrize(
    ("name", "weights", "options", "message"),
    [
        ("torchvision.resnet500", None, [], "--model='torchvision.resnet500': torchvision has no model .*resnet50"),
        ("resnet50", None, [], "--model='resnet50': give torchvision.NAME, timm.NAME or an import path"),
        ("net_of_the_test.MyNte", None, [], "module 'net_of_the_test' has no 'MyNte' .did you mean 'MyNet'"),
        ("nothing.Net", None, [], "no module 'nothing' in the current directory"),
        ("net_of_the_test.MyNet", None, ["model.depth=2"], "--model: net_of_the_test.MyNet cannot be built .*depth"),
        ("net_of_the_test.MyNet", None, ["width=2"], "give arguments of the network, such as model.width=2"),
        ("torchvision.resnet18", None, ["model.checkpoint_path=x"], "give --weights FILE"),
        ("net_of_the_test.MyNet", "three.pth", [], "all but the classifier fits: give --cfg-options model.num_classes"),
        (
            "net_of_the_test.MyNet",
            "other.pth",
            [],
            "other.pth: the weights do not fit .* missing: conv.weight",
        ),
        ("net_of_the_test.MyNet", "within.pth", [], "save those of this network alone in a file"),
        ("net_of_the_test.MyNet", "none.pth", [], "no such file"),
    ],
)
def test_one_line(here, name, weights, options, message):
    trained = by_name("net_of_the_test.MyNet", None, [], 0).module.state_dict()
    heads = {"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}
    save_checkpoint({"state_dict": {**trained, **heads}}, "three.pth")
    save_checkpoint({"state_dict": nn.Sequential(nn.Linear(2, 2)).state_dict()}, "other.pth")
    within = {**{f"encoder.{key}": value for key, value in trained.items()}, "decoder.weight": torch.zeros(2)}
    save_checkpoint({"state_dict": within}, "within.pth")
    with pytest.raises(UserError, match=message) as error:
        by_name(name, weights, options, 0)
    assert "init_cfg" not in str(error.value) and "\n" not in str(error.value)


def test_a_network_by_its_name_needs_no_mm_package(here, root):
    code = """
        import json, sys, torch
        for name in ("mmengine", "mmcv", "mmpretrain"):
            sys.modules[name] = None
        from mmrazor_lite.cli.trained_network import by_name
        first = by_name("net_of_the_test.MyNet", None, [], 0).module
        torch.save(first.state_dict(), "w.pth")
        second = by_name("net_of_the_test.MyNet", "w.pth", [], 1).module
        print(json.dumps(torch.equal(first.conv.weight, second.conv.weight)))
    """
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0 and json.loads(done.stdout) is True, done.stderr[-2000:]


def test_plain_configs(here):
    (here / "plain.py").write_text(PLAIN.format("torchvision.mobilenet_v3_small"))
    trained = by_name("torchvision.mobilenet_v3_small", None, ["model.num_classes=3"], 5).module
    save_checkpoint({"state_dict": trained.state_dict()}, "w.pth")
    found = of_config("plain.py", "w.pth", [])
    assert equal(found.module, trained) and type(found.module) is type(trained) and not found.module.training
    assert found.architecture["net"] == {"type": "torchvision.mobilenet_v3_small", "num_classes": 3}
    assert found.name == found.title == "torchvision.mobilenet_v3_small" and found.preprocessor["mean"] == [1.0]
    (here / "own.py").write_text(PLAIN.format("net_of_the_test.MyNet"))
    found = of_config("own.py", None, ["model.width=7"])
    assert (
        found.module.conv.out_channels == 7
        and found.name is None
        and found.architecture is None
        and "gives it" in found.notes[0]
    )


@pytest.fixture(scope="module")
def supernet(root, tmp_path_factory):
    """A checkpoint of a supernet, one of two subnets that share its weights, and one of a subnet."""
    folder = tmp_path_factory.mktemp("supernet")
    config = root / CONFIGS / "autoslim_supernet_digits.py"
    for name, widths in (("supernet", None), ("joint", "[0.5,1.0]"), ("subnet", "0.5")):
        given = [f"model.channel_cfg={widths}", "model.distiller=None", "model.num_random_samples=None"]
        algorithm = build_model(load_config(config, given if widths else []))
        meta = {"mmrazor_lite": algorithm.checkpoint_meta()}
        save_checkpoint({"meta": meta, "state_dict": algorithm.state_dict()}, folder / f"{name}.pth")
    return config, folder


def test_a_config_of_ours(supernet):
    config, folder = supernet
    found = of_config(str(config), str(folder / "supernet.pth"), [])
    weights = torch.load(folder / "supernet.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(weights[f"architecture.{key}"], value) for key, value in found.module.state_dict().items())
    assert found.title == "ImageClassifier of InvertedResidualNet" and found.preprocessor["num_classes"] == 10
    assert found.module(torch.zeros(2, 3, 8, 8)).shape == (2, 10) and found.of_supernet
    assert found.architecture["backbone"]["type"].endswith("InvertedResidualNet")
    small = of_config(str(config), str(folder / "subnet.pth"), []).module
    assert small(torch.zeros(2, 3, 8, 8)).shape == (2, 10) and small.backbone.conv1.conv.out_channels == 8
    with pytest.raises(UserError, match="joint model of several subnets: split it first"):
        of_config(str(config), str(folder / "joint.pth"), [])


def test_configs_without_one_plain_network(root, supernet):
    for name, message in (
        ("nas/spos/spos_supernet_digits.py", "supernet of choices that are not widths .NasMutator.: search it"),
        ("nas/spos/spos_subnet_digits.py", "is of one subnet: give --weights"),
        ("_base_/datasets/digits.py", "has no model, only data: give a config with model=.* for slimming"),
    ):
        with pytest.raises(UserError, match=message):
            of_config(str(root / "configs" / name), None, [])
