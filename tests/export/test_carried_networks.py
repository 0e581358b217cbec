"""What a file may say about networks of torchvision and timm, and what it may not."""

from __future__ import annotations

import sys

import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.export.rebuild import check_architecture, is_rebuildable, put_around, rebuild
from mmrazor_lite.models.classifiers import PlainClassifier, offline

pytestmark = pytest.mark.usefixtures("registered")
WRAPPER = "mmrazor_lite.PlainClassifier"


@pytest.fixture
def sealed(monkeypatch):
    """Fail when anything is imported by name, fetched, or read from disk."""

    def forbidden(*args, **kwargs):
        raise AssertionError(f"tried to use {args}")

    for name in (
        "mmengine.registry.registry.get_object_from_string",
        "torch.hub.load_state_dict_from_url",
        "torchvision.models._api.load_state_dict_from_url",
        "timm.models._builder.load_pretrained",
        "timm.models._factory.load_checkpoint",
        "timm.models._factory.load_model_config_from_hf",
        "timm.models._factory.load_model_config_from_path",
        "mmrazor_lite.network_names.own_builder",
    ):
        monkeypatch.setattr(name, forbidden)
    monkeypatch.setattr(sys, "path", list(sys.path))


RESNET = {"type": "torchvision.resnet18", "num_classes": 3}
TIMM = {"type": "timm.resnet10t", "num_classes": 3}


@pytest.mark.parametrize(
    "config",
    [
        {"type": "os.system"},
        {"type": "os.system", "command": "touch executed"},
        {"type": "builtins.open", "file": "executed", "mode": "w"},
        {"type": "my_package.my_module.MyNet"},
        {"type": "torchvision.models.resnet.ResNet"},
        {"type": "torchvision.datasets.utils.download_url"},
        {"type": "timm.models.load_checkpoint"},
        {"type": "timm.hf-hub:someone/model"},
        {"type": "timm.hf_hub:someone/model"},
        {"type": "timm.local-dir:/etc"},
        {"type": "timm./etc/passwd"},
        {"type": "timm.no_such_model"},
        {"type": "torchvision.no_such_model"},
        {"type": "torchvision.fcn_resnet50"},
        {**TIMM, "pretrained": True},
        {**TIMM, "pretrained": 1},
        {**TIMM, "pretrained_cfg": {"hf_hub_id": "someone/model"}},
        {**TIMM, "pretrained_cfg_overlay": {"url": "http://a.b/c"}},
        {**TIMM, "checkpoint_path": "executed"},
        {**TIMM, "cache_dir": "executed"},
        {**RESNET, "weights": "DEFAULT"},
        {**RESNET, "weights": "IMAGENET1K_V1"},
        {**RESNET, "pretrained": True},
        {**RESNET, "norm_layer": {"type": "os.system"}},
        {**RESNET, "norm_layer": torch.nn.BatchNorm2d},
        {**RESNET, "loss": {"type": "os.system"}},
        {**RESNET, "head": {"type": "timm.resnet10t"}},
        {**RESNET, "neck": {"type": "torchvision.resnet18"}},
        {**RESNET, "data_preprocessor": {"type": "os.system"}},
        {"type": WRAPPER, "net": {"type": "subprocess.run"}},
        {"type": "PlainClassifier", "net": {"type": "subprocess.run"}},
        {"type": WRAPPER, "net": "os.system"},
        {"type": WRAPPER, "net": {}},
        {"type": WRAPPER},
        {"type": WRAPPER, "net": {"type": WRAPPER, "net": {"type": "os.system"}}},
        {"type": "ImageClassifier", "backbone": {"type": WRAPPER, "net": {"type": "os.system"}}},
        {"type": "ImageClassifier", "backbone": TIMM},
        {"type": "ImageClassifier", "backbone": {"type": "ResNet", "depth": 18, "net": {"type": "os.system"}}},
    ],
)
@pytest.mark.usefixtures("sealed")
def test_what_is_refused(tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="forged.pth") as error:
        rebuild(config, None, "forged.pth")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "config",
    [
        RESNET,
        TIMM,
        {**TIMM, "type": "timm.resnet10t.c3_in1k", "pretrained": False, "drop_path_rate": 0.1},
        {**RESNET, "weights": None, "loss": {"type": "LabelSmoothLoss", "label_smooth_val": 0.1}},
        {"type": WRAPPER, "net": TIMM, "train_cfg": {"augments": {"type": "Mixup", "alpha": 0.1}}},
        {**TIMM, "num_classes": 0, "head": {"type": "LinearClsHead", "in_channels": 512, "num_classes": 3}},
    ],
)
@pytest.mark.usefixtures("sealed")
def test_what_is_accepted(config):
    assert is_rebuildable(config)
    model = rebuild(config, {"mean": [1.0], "std": [1.0]}, "a.pth").eval()
    assert isinstance(model, PlainClassifier)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("config", [{**RESNET, "weights": "DEFAULT"}, {**TIMM, "pretrained": True}])
@pytest.mark.usefixtures("sealed")
def test_files_do_not_carry_what_fetches(config):
    """A user may train from pretrained weights; the files then hold the result, not the wish to fetch."""
    assert is_rebuildable(config)
    with pytest.raises(UserError, match="would load another file"):
        check_architecture(config, "a.pth")
    check_architecture(offline(config), "a.pth")


@pytest.mark.usefixtures("sealed")
def test_a_given_network_goes_where_the_config_says():
    head = {"type": "LinearClsHead", "in_channels": 4, "num_classes": 3}
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model = put_around(net, {"type": "my.Net", "width": 3, "head": head}, "a.pth")
    assert model.net is net
    assert model(torch.zeros(2, 3, 4, 4)).shape == (2, 3)
    assert put_around(net, None, "a.pth").net is net
    with pytest.raises(UserError, match="a.pth: architecture.head.type"):
        put_around(net, {"type": "my.Net", "head": {"type": "os.system"}}, "a.pth")
    with pytest.raises(UserError, match="a.pth: architecture: cannot be built"):
        put_around(net, {"type": WRAPPER, "net": {}, "no_such": 1}, "a.pth")
