"""Networks by name: torchvision, timm, the user's own."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.construct import build_architecture, plain_config
from mmrazor_lite.models.classifiers import PlainClassifier, build_net, explicit, offline, source_of

pytestmark = pytest.mark.usefixtures("registered")


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("torchvision.resnet18", "torchvision"),
        ("torchvision.models.resnet18", "torchvision"),
        ("torchvision.ops.MLP", "own"),
        ("timm.resnet50.a1_in1k", "timm"),
        ("timm.hf-hub:someone/model", "timm"),
        ("timm.models.resnet.ResNet", "own"),
        ("my_package.my_module.MyNet", "own"),
        ("os.system", "own"),
        ("ImageClassifier", None),
        ("mmpretrain.ImageClassifier", None),
        ("mmrazor_lite.InvertedResidualNet", None),
        ("mmpretrain.models.ResNet", "own"),
        (nn.Linear, "own"),
        (PlainClassifier, None),
        (None, None),
        (["ImageClassifier"], None),
    ],
)
def test_where_a_name_comes_from(kind, source):
    assert source_of(kind) == source


def test_builders_get_their_arguments():
    net = build_net({"type": "torchvision.mnasnet0_5", "num_classes": 7, "dropout": 0.4})
    assert type(net).__module__ == "torchvision.models.mnasnet"
    assert net.classifier[1].out_features == 7
    assert net.classifier[0].p == 0.4
    net = build_net({"type": "timm.resnet10t", "num_classes": 6, "drop_rate": 0.3})
    assert net.fc.out_features == 6
    assert net.drop_rate == 0.3
    net = build_net({"type": "mmpretrain.ResNet", "depth": 18})
    assert type(net).__name__ == "ResNet"


def test_own_code_from_the_current_directory(my_nets, tmp_path):
    net = build_net({"type": "my_nets.MyNet", "width": 4, "num_classes": 3})
    assert net.head.out_features == 3
    assert sys.path[0] == str(tmp_path)
    assert isinstance(build_net({"type": "my_nets.make"}), nn.Module)
    built = build_architecture({"type": type(net), "num_classes": 2}, None)  # the class itself, from Python
    assert built.net.head.out_features == 2
    assert plain_config({"type": type(net)}) == {"type": "my_nets.MyNet"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "torchvision.resnet81"}, "torchvision has no model 'resnet81' .did you mean 'resnet18'"),
        (
            {"type": "torchvision.fcn_resnet50"},
            "torchvision.fcn_resnet50' is a network for segmentation, configs train",
        ),
        ({"type": "timm.resnet18x"}, "timm has no model 'resnet18x' .did you mean 'resnet18'"),
        ({"type": "timm.hf-hub:someone/model"}, "timm has no model 'hf-hub:someone/model'"),
        ({"type": "torchvision.resnet18", "num_clases": 3}, "resnet18 cannot be built .TypeError: .*num_clases"),
        ({"type": "timm.resnet18", "num_clases": 3}, "timm.resnet18 cannot be built .TypeError: .*num_clases"),
        ({"type": "timm.resnet18", "checkpoint_path": "a.pth"}, "give init_cfg=dict.type='Pretrained'"),
        ({"type": "NoSuchNet"}, "'NoSuchNet' is not registered"),
        ({}, "architecture has no 'type'"),
        ({"type": "no_such_module.Net"}, "no module 'no_such_module' in the current directory"),
        ({"type": "my_nets.sub.Net"}, "no module 'my_nets.sub' in the current directory"),
        ({"type": "broken_nets.Net"}, "importing 'broken_nets' failed: ModuleNotFoundError: .*no_such_package"),
        ({"type": "my_nets.MyNte"}, "module 'my_nets' has no 'MyNte' .did you mean 'MyNet'"),
        ({"type": "my_nets.number"}, "is a int; give a subclass of torch.nn.Module"),
        ({"type": "my_nets.NoModule"}, "is the class NoModule; give a subclass of torch.nn.Module"),
        ({"type": "my_nets.make", "num_classes": 6}, "my_nets.make returned a NoneType, not a torch.nn.Module"),
        ({"type": "my_nets.MyNet", "depth": 6}, "my_nets.MyNet cannot be built .TypeError: .*depth"),
    ],
)
def test_what_cannot_be_built(my_nets, config, message):
    with pytest.raises(UserError, match=message) as error:
        build_net(config)
    assert "\n" not in str(error.value)


def test_short_form():
    loss = {"type": "LabelSmoothLoss"}
    config = explicit({"type": "timm.resnet18", "num_classes": 3, "loss": loss, "aux_weight": 0.1})
    net = {"type": "timm.resnet18", "num_classes": 3}
    assert config == {"type": "mmrazor_lite.PlainClassifier", "net": net, "loss": loss, "aux_weight": 0.1}
    assert explicit(config) == config
    assert explicit({"type": "ImageClassifier", "loss": 1}) == {"type": "ImageClassifier", "loss": 1}


def test_an_argument_that_both_take(my_nets):
    with pytest.raises(UserError, match="'head' is an argument of my_nets.WithHead and of PlainClassifier; write"):
        build_architecture({"type": "my_nets.WithHead", "head": "mlp"}, None)
    config = {"type": "PlainClassifier", "net": {"type": "my_nets.WithHead", "head": "mlp"}}
    assert isinstance(build_architecture(config, None), PlainClassifier)


def test_own_classifier_stays_alone(tmp_path, monkeypatch):
    code = "from mmengine.model import BaseModel\nclass Own(BaseModel):\n    def forward(self, inputs): return inputs\n"
    (tmp_path / "own_classifier.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    built = build_architecture({"type": "own_classifier.Own"}, None)
    assert type(built).__name__ == "Own"


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "mnasnet0_5"])
def test_a_config_without_its_weights_builds_the_same_network(monkeypatch, name):
    import torchvision

    builder = torchvision.models.get_model_builder(name)
    extra = {"init_weights": False} if name != "mnasnet0_5" else {}
    weights = builder(**extra).state_dict()
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda *args, **kwargs: weights)
    written = {"type": f"torchvision.{name}", "weights": "DEFAULT"}
    trained = build_net(written).eval()
    config = offline(plain_config(written))
    assert "weights" not in config["net"]
    again = build_net({**config["net"], **extra}).eval()
    again.load_state_dict(trained.state_dict())
    images = torch.rand((1, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(images), trained(images))
