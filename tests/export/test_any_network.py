"""Networks of torchvision, timm and the user's own through the whole path, and their files read back."""

from __future__ import annotations

import sys

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmrazor_lite.engine.optim import SubnetOptimWrapper
from mmrazor_lite.errors import UserError
from mmrazor_lite.export import load_subnet, load_weights, read_checkpoint, save_checkpoint, split
from mmrazor_lite.export.rebuild import check_architecture
from mmrazor_lite.models.algorithms.construct import build_architecture
from mmrazor_lite.models.classifiers import PlainClassifier, build_net, main_logits
from mmrazor_lite.subnet import write_subnet

CLASSES = 4
CODE = '''
import torch
from torch import nn


def block(inputs, outputs, groups=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, groups=groups), nn.BatchNorm2d(outputs), nn.ReLU())


class MyNet(nn.Module):
    """A residual, a concat and a grouped conv; two outputs while it is trained."""

    def __init__(self, num_classes=4):
        super().__init__()
        self.stem, self.a, self.b = block(3, 16), block(16, 16, groups=4), block(16, 8)
        self.fc, self.aux = nn.Linear(24, num_classes), nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.stem(x)
        y = x + self.a(x)
        logits = self.fc(torch.cat([y, self.b(x)], 1).mean((2, 3)))
        return {"out": logits, "aux": self.aux(y.mean((2, 3)))} if self.training else logits


class Backbone(nn.Sequential):
    def __init__(self):
        super().__init__(block(3, 16), block(16, 8))

    def forward(self, x):
        return (super().forward(x),)
'''
TIMM_FEATURES = {"type": "timm.resnet10t", "num_classes": 0, "stem_width": 8}
NETWORKS = {
    "timm": ({"type": "timm.resnet10t", "num_classes": CLASSES, "stem_width": 8}, 32, 0),
    "head": (
        {**TIMM_FEATURES, "head": {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 512}},
        32,
        0,
    ),
    "torchvision": ({"type": "torchvision.googlenet", "num_classes": CLASSES}, 64, 2),
    "own": ({"type": "my_path_net.MyNet"}, 16, 1),
}


@pytest.fixture
def build(registered, tmp_path, monkeypatch):
    """Build an AutoSlim around one of the networks; the hand-written one lies in the current directory."""
    (tmp_path / "my_path_net.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    from mmrazor_lite.models.algorithms import AutoSlim

    def build(name: str, architecture=None, **options) -> AutoSlim:
        config, size, _ = NETWORKS[name]
        config = {**config, "train_cfg": {"augments": {"type": "Mixup", "alpha": 0.5}}}
        architecture = config if architecture is None else architecture
        mutator = {"type": "OneShotChannelMutator", "candidate_choices": [0.25, 0.5, 1.0], "divisor": 1}
        shape = {"input_shape": (3, size, size), "data_preprocessor": {"mean": [0.5] * 3, "std": [2.0] * 3}}
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            return AutoSlim(architecture, mutator, **shape, **options)

    yield build
    sys.modules.pop("my_path_net", None)


def train(algorithm, steps: int = 2) -> list[dict]:
    """Train on seeded noise; return the logs."""
    from mmpretrain.structures import DataSample

    wrapper = SubnetOptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.01))
    generator, logs = torch.Generator().manual_seed(0), []
    algorithm.train()
    for _ in range(steps):
        images = torch.randn((4, *algorithm.input_shape), generator=generator)
        samples = [DataSample().set_gt_label(k % CLASSES) for k in range(4)]
        logs.append(algorithm.train_step({"inputs": list(images), "data_samples": samples}, wrapper))
    return logs


@pytest.mark.parametrize(
    "name", ["own", *(pytest.param(name, marks=pytest.mark.wide) for name in ("head", "timm", "torchvision"))]
)
def test_whole_path(build, tmp_path, monkeypatch, name):
    config, size, auxiliary = NETWORKS[name]
    if name == "torchvision":  # seconds for a large network: what the others have, and what is compared below
        monkeypatch.setitem(split.__globals__, "_write_pt2", lambda *args: False)
        monkeypatch.setitem(split.__globals__, "compare", lambda *args: None)
    torch.manual_seed(0)
    supernet = build(name)
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    log = train(supernet)[-1]
    assert all(torch.isfinite(value) for value in log.values())
    assert ("max_subnet.aux_loss" in log) == bool(auxiliary)
    assert all(f"{which}_subnet.loss" in log for which in ("max", "min", "random0", "random1"))
    assert not all(torch.equal(value, before[key]) for key, value in supernet.state_dict().items())

    space = supernet.search_space
    files = [tmp_path / "small.yaml", tmp_path / "large.yaml"]
    for file, subnet in zip(files, (space.min(), space.max()), strict=True):
        write_subnet(file, subnet, space)
    joint = build(name, channel_cfg=[str(file) for file in files])
    log = train(joint)[-1]
    assert ("subnet_2.aux_loss" in log) == bool(auxiliary)
    checkpoint = tmp_path / "joint.pth"
    save_checkpoint({"state_dict": joint.state_dict(), "meta": {"mmrazor_lite": joint.checkpoint_meta()}}, checkpoint)

    (part,) = split(joint, checkpoint, files[:1], tmp_path / "parts")
    fresh = {"architecture": build_net(config)} if name == "own" else {}
    module = load_subnet(part, **fresh)
    images = torch.randn((3, 3, size, size), generator=torch.Generator().manual_seed(1))
    joint.eval()
    joint.mutator.activate(space.min())
    with torch.no_grad():
        expected, found = joint(images), main_logits(module(images))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert part.with_suffix(".pt2").is_file() == (name != "torchvision")
    assert list(module.state_dict()) == list(read_checkpoint(part)["state_dict"])
    if name != "head":
        assert not [m for m in module.modules() if type(m).__module__.startswith("mmrazor_lite")]
        # An un-slimmed one has the names that its own library reads.
        assert sorted(build_net(config).state_dict()) == sorted(module.state_dict())
    else:
        assert isinstance(module, PlainClassifier)


def test_weights_of_the_library_load_into_a_supernet(build, tmp_path):
    net = build_net(NETWORKS["timm"][0])
    torch.save(net.state_dict(), tmp_path / "timm.pth")
    algorithm = build("timm", init_cfg=None)
    load_weights(algorithm, read_checkpoint(tmp_path / "timm.pth"))
    torch.testing.assert_close(algorithm.architecture.net.fc.weight, net.fc.weight)


def test_files_do_not_ask_for_pretrained_weights(build, monkeypatch):
    fetched = []
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *args, **kwargs: fetched.append(args))
    algorithm = build("timm", {**NETWORKS["timm"][0], "pretrained": True})
    assert len(fetched) == 1
    check_architecture(algorithm.checkpoint_meta()["architecture"], "a.pth")
    assert algorithm.config["architecture"]["pretrained"]  # what split builds anew is as the user wrote it


def test_a_module_given_from_python(build, tmp_path):
    config, shape = NETWORKS["own"][0], (2, 3, 16, 16)
    joint = build("own", build_net(config))
    assert set(train(joint)[-1]) >= {"max_subnet.loss", "max_subnet.aux_loss"}
    space = joint.search_space
    write_subnet(tmp_path / "a.yaml", space.min(), space)
    joint = build("own", build_net(config), channel_cfg=[str(tmp_path / "a.yaml")]).eval()
    meta = {"mmrazor_lite": joint.checkpoint_meta()}
    save_checkpoint({"state_dict": joint.state_dict(), "meta": meta}, tmp_path / "joint.pth")
    (part,) = split(joint, tmp_path / "joint.pth", [tmp_path / "a.yaml"])
    with pytest.raises(UserError, match="carries no config .* give a fresh one, load_subnet"):
        load_subnet(part)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(load_subnet(part, build_net(config))(images), joint(images))


def test_a_part_of_the_users_own_in_a_classifier_of_mmpretrain(build, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    parts = {"neck": {"type": "GlobalAveragePooling"}, "backbone": {"type": "my_path_net.Backbone"}}
    head = {"type": "LinearClsHead", "num_classes": CLASSES, "in_channels": 8}
    config = {"type": "ImageClassifier", **parts, "head": head}
    space = build("own", config).search_space
    write_subnet(tmp_path / "a.yaml", space.min(), space)
    joint = build("own", config, channel_cfg=[str(tmp_path / "a.yaml")]).eval()
    meta = {"mmrazor_lite": joint.checkpoint_meta()}
    save_checkpoint({"state_dict": joint.state_dict(), "meta": meta}, tmp_path / "joint.pth")
    (part,) = split(joint, tmp_path / "joint.pth", [tmp_path / "a.yaml"])
    with pytest.raises(UserError, match="architecture.backbone.type: 'my_path_net.Backbone' is not a registered"):
        load_subnet(part)
    images = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(load_subnet(part, build_architecture(config, None))(images), joint(images))


@pytest.fixture
def alone(build, tmp_path):
    """The checkpoint of one subnet of the user's own network, trained alone, and what it computes."""
    config = {**NETWORKS["own"][0], "loss": {"type": "SeesawLoss", "num_classes": CLASSES}}  # it has a state of its own
    space = build("own").search_space
    write_subnet(tmp_path / "a.yaml", space.min(), space)
    algorithm = build("own", config, channel_cfg=str(tmp_path / "a.yaml"))
    train(algorithm)
    path = tmp_path / "alone.pth"
    meta = {"mmrazor_lite": algorithm.checkpoint_meta()}
    save_checkpoint({"state_dict": algorithm.state_dict(), "meta": meta}, path)
    return path, algorithm.eval()


def test_own_code_is_given_not_imported(alone, tmp_path):
    path, algorithm = alone
    assert "architecture.head.loss_module.cum_samples" in read_checkpoint(path)["state_dict"]
    (tmp_path / "my_path_net.py").write_text("raise SystemExit('imported')")
    net = sys.modules.pop("my_path_net").MyNet
    with pytest.raises(UserError, match=r"'my_path_net.MyNet' is not a registered model, .*, model=MyNet"):
        load_subnet(path)
    module = load_subnet(path, net())
    assert type(module) is net
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(module(images), algorithm(images))
    with pytest.raises(UserError, match="of another shape: fc.weight"):
        load_subnet(path, net(num_classes=7))
    with pytest.raises(UserError, match="alone.pth"):
        load_subnet(path, nn.Conv2d(3, 5, 1))
