"""Networks of torchvision, timm and the user's own in config files."""

from __future__ import annotations

import json
import sys

import pytest

from mmrazor_lite.cli import main
from mmrazor_lite.config.build import build_model
from mmrazor_lite.config.load import load_config
from mmrazor_lite.errors import UserError

CODE = """
from torch import nn


class MyNet(nn.Module):
    def __init__(self, width=8, num_classes=10):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, width, 3), nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


class Mixed(MyNet):
    def __init__(self, loss="l2"):
        super().__init__()


number = 3
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write a config with this architecture beside a module of the user's; return its path."""
    (tmp_path / "my_config_net.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(architecture: str, key: str = "architecture"):
        text = f"algorithm = dict(type='AutoSlim', architecture=dict({architecture}), input_shape=(3, 32, 32),\n"
        text = text.replace("algorithm", "model", 1) + "mutator=dict(type='OneShotChannelMutator'))\n"
        (tmp_path / "config.py").write_text(text if key == "architecture" else f"model = dict({architecture})\n")
        return tmp_path / "config.py"

    yield write
    sys.modules.pop("my_config_net", None)


@pytest.mark.parametrize(
    "architecture",
    [
        "type='torchvision.mnasnet0_5', num_classes=10, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)",
        "type='timm.resnet10t', num_classes=10, drop_rate=0.1, train_cfg=dict(augments=dict(type='Mixup', alpha=0.2))",
        "type='timm.resnet10t', num_classes=0, head=dict(type='LinearClsHead', num_classes=10, in_channels=512)",
        "type='my_config_net.MyNet', width=16, aux_weight=0.3, topk=(1, 5)",
        "type='PlainClassifier', net=dict(type='my_config_net.Mixed', loss='l1'), loss=dict(type='CrossEntropyLoss')",
        "type='mmcls.ImageClassifier', backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling'), "
        "head=dict(type='LinearClsHead', num_classes=10, in_channels=512)",
    ],
)
def test_accepted(config, architecture):
    algorithm = build_model(load_config(config(architecture)))
    assert algorithm.search_space


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("type='torchvision.resnet81'", "model.architecture.type='torchvision.resnet81': .*did you mean 'resnet18'"),
        ("type='torchvision.resnet18', num_clases=3", "unknown key 'num_clases' .did you mean 'num_classes'"),
        ("type='torchvision.resnet18', los=dict(type='FocalLoss')", "unknown key 'los' .did you mean 'loss'"),
        ("type='timm.resnet18x'", "timm has no model 'resnet18x' .did you mean 'resnet18'"),
        ("type='timm.resnet18', loss=dict(type='LabelSmothLoss')", "model.architecture.loss.type is 'LabelSmothLoss'"),
        ("type='timm.resnet18', loss=dict(type='LabelSmoothLoss', mod='x')", "unknown key 'mod' in model.arch.*'mode'"),
        ("type='my_config_net.MyNet', widht=3", "unknown key 'widht' .did you mean 'width'"),
        ("type='my_config_net.MyNte'", "has no 'MyNte' .did you mean 'MyNet'"),
        ("type='my_config_net.number'", "is a int; give a subclass of torch.nn.Module"),
        ("type='my_config_nte.MyNet'", "no module 'my_config_nte' in the current directory"),
        (
            "type='my_config_net.Mixed', loss='l1'",
            "'loss' is an argument of my_config_net.Mixed and of Pl",
        ),
        ("type='PlainClassifier', net=dict(type='timm.x')", "model.architecture.net.type='timm.x': timm has no model"),
        ("type='PlainClassifier', net=dict(type='my_config_net.MyNet', a=1)", "unknown key 'a'; allowed: num_classes"),
        ("type='PlainClassifier', nett=dict(type='timm.x')", "unknown key 'nett' in model.architecture .did you mean"),
    ],
)
def test_refused(config, architecture, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(config(architecture))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(config(architecture)))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("type='timm.resnet18', num_clases=3", "timm.resnet18 cannot be built .TypeError: .*num_clases"),
        (
            "type='timm.resnet10t', num_classes=0, head=dict(type='LinearClsHead', num_classes=10, in_channels=100)",
            "head.in_channels is 100, the network gives 512 features; set head.in_channels=512",
        ),
        ("type='torchvision.inception_v3', init_weights=False", "cannot run on an image of 3x32x32"),
    ],
)
def test_refused_when_built(config, capsys, architecture, message):
    assert main(["flops", str(config(architecture))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    with pytest.raises(UserError, match=message):
        build_model(load_config(config(architecture)))


def test_a_part_of_the_users_own_is_found_too(config):
    backbone = "backbone=dict(type='my_config_net.MyNet', width=4)"
    cfg = load_config(config(f"type='mmpretrain.ImageClassifier', {backbone}"))
    assert cfg.model.architecture.backbone.width == 4
    with pytest.raises(UserError, match="unknown key 'widht' in model.architecture.backbone"):
        load_config(config(f"type='mmpretrain.ImageClassifier', {backbone.replace('width', 'widht')}"))


def test_options_reach_the_network(config):
    path = config("type='my_config_net.MyNet', width=16")
    algorithm = build_model(load_config(path, ["model.architecture.width=24"]))
    assert algorithm.architecture.net.conv.out_channels == 24


@pytest.mark.parametrize("model", ["type='my_config_net.MyNet'", "type='torchvision.squeezenet1_1', num_classes=3"])
def test_a_plain_network_alone_is_counted(config, capsys, model):
    assert main(["flops", str(config(model, key="model")), "--input-shape", "32", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    from mmrazor_lite.models.classifiers import build_net

    arguments = {"num_classes": 3} if "torchvision" in model else {}
    net = build_net({"type": model.split("'")[1], **arguments})
    assert counts["params"] == sum(parameter.numel() for parameter in net.parameters())
