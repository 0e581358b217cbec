"""Weights as training scripts in public write them: each layout is read, or the refusal says what to do."""

from __future__ import annotations

import argparse
import collections
import logging
import pathlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import mmengine
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mmrazor_lite.errors import UserError
from mmrazor_lite.export import load_weights, read_checkpoint
from mmrazor_lite.models.algorithms.loading import load_pretrained

State = dict[str, torch.Tensor]


@pytest.fixture
def said() -> Iterator[Callable[[], list[str]]]:
    """Give what the log said since the last time."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lambda: [lines.pop(0) for _ in range(len(lines))]
    logger.removeHandler(handler)


class Net(nn.Module):
    """Names of two levels, a norm, and a classifier at the end."""

    def __init__(self, classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.body = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 1)})
        self.fc = nn.Linear(4, classes)
        self.stem[1].running_mean.uniform_()


def put(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def wrapped_inside(state: State) -> State:
    return {key.replace("stem.", "stem._orig_mod."): value for key, value in state.items()}


def options() -> argparse.Namespace:
    return argparse.Namespace(lr=0.1, out=pathlib.Path("a/b"), sizes=torch.Size([2]), device=torch.device("cpu"),
                              seed=np.int64(3), more=argparse.Namespace(a=[1, {"b": None}]))  # fmt: skip


def optimizer(net: Net) -> dict:
    made = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    sum(p.sum() for p in net.parameters()).backward()
    made.step()
    return made.state_dict()


def averaged(state: State) -> State:
    net = Net()
    net.load_state_dict(state)
    return AveragedModel(net).state_dict()


OTHER = Net(seed=1).state_dict()
LAYOUTS: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "best_acc1": torch.tensor(7.0), "arch": "resnet18"},
    "state_dict in DataParallel": lambda s: {"state_dict": put("module.", s), "optimizer": optimizer(Net())},
    "model": lambda s: {"model": s},
    "torchvision": lambda s: {"model": s, "optimizer": optimizer(Net()), "epoch": 1, "args": options()},
    "torchvision averaged": lambda s: {"model": OTHER, "model_ema": averaged(s), "args": options()},
    "timm": lambda s: {"epoch": 1, "arch": "a", "state_dict": OTHER, "state_dict_ema": s, "args": options(),
                       "version": 2, "metric": np.float64(1)},
    "DeiT": lambda s: {"model": OTHER, "model_ema": s, "scaler": {"scale": 1.0, "_growth": 0}, "args": options()},
    "MAE": lambda s: {"model": s, "scaler": {}, "args": options()},
    "DINO": lambda s: {"student": put("module.", OTHER), "teacher": s, "args": options(),
                       "dino_loss": {"center": torch.zeros(1, 4)}},
    "pytorch-cifar": lambda s: {"net": put("module.", s), "acc": 93.1, "epoch": 9},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": optimizer(Net()), "loss": 0.1},
    "pycls": lambda s: {"model_state": s, "optimizer_state": optimizer(Net()), "cfg": "MODEL: {}"},
    "weights": lambda s: {"weights": s},
    "BasicSR": lambda s: {"params": OTHER, "params_ema": s},
    "nested": lambda s: {"state": {"model": s, "step": 3}},
    "a name of its own": lambda s: {"step": 3, "my_network": s},
    "torch.compile": lambda s: put("_orig_mod.", s),
    "torch.compile of a part": wrapped_inside,
    "torch.compile in DDP": lambda s: {"model": put("module._orig_mod.", s)},
    "DDP in torch.compile": lambda s: put("_orig_mod.module.", s),
    "FSDP": lambda s: {key.replace("body.", "body._fsdp_wrapped_module."): value for key, value in s.items()},
    "Lightning": lambda s: {"state_dict": put("model.", s), "hyper_parameters": collections.defaultdict(list, a=[1]),
                            "callbacks": {}, "pytorch-lightning_version": "2.0"},
    "Lightning, compiled": lambda s: {"state_dict": put("net._orig_mod.", s)},
    "encoder": lambda s: {"state_dict": put("module.encoder.", s)},
    "MMClassification": lambda s: {"meta": {"mmcls_version": "0.2", "config": "a = 1", "CLASSES": ["a"]},
                                   "state_dict": put("module.", s), "optimizer": optimizer(Net())},
    "mmengine with EMAHook": lambda s: {"meta": {}, "state_dict": s, "message_hub": {},
                                        "ema_state_dict": {"steps": torch.tensor(3), **put("module.", OTHER)}},
    "mmengine beside an average": lambda s: {"meta": {}, "state_dict": s, "state_dict_ema": OTHER},
    "MMRazor 0.x": lambda s: put("architecture.model.", {**s, "stem.0.out_mask": torch.ones(1, 4, 1, 1)}),
    "MMRazor 1.x": lambda s: {"state_dict": put("architecture.", s)},
    "torch < 0.4.1": lambda s: {key: value for key, value in s.items() if "num_batches" not in key},
    "thop": lambda s: {**s, "total_ops": torch.zeros(1), "stem.0.total_params": torch.zeros(1)},
    "parameters": lambda s: {"state_dict": {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()}},
    "half": lambda s: {"model": {k: v.half() if v.is_floating_point() else v for k, v in s.items()}},
    "options of mmengine": lambda s: {"state_dict": s, "cfg": mmengine.ConfigDict(a=[{"b": 1}])},
}  # fmt: skip


def test_the_loader_has_its_name_of_before():
    from mmrazor_lite.models.algorithms import pretrained

    assert pretrained.load_pretrained is load_pretrained
    with pytest.raises(AttributeError, match="load_pretraind"):
        pretrained.load_pretraind  # noqa: B018


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_network(tmp_path, name):
    expected, net = Net().state_dict(), Net(seed=2)
    content = LAYOUTS[name](Net().state_dict())
    if name == "torch < 0.4.1":
        expected["stem.1.num_batches_tracked"].zero_()
    torch.save(content, tmp_path / "a.pth")
    load_pretrained(net, {"type": "Pretrained", "checkpoint": str(tmp_path / "a.pth")})
    exact = 1e-3 if name == "half" else 0
    for key, value in net.state_dict().items():
        assert torch.allclose(value, expected[key], rtol=0, atol=exact), key


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_safetensors(tmp_path, name):
    save_file(put("module.", Net().state_dict()), tmp_path / name, {"format": "pt"})
    net = Net(seed=2)
    load_weights(net, read_checkpoint(tmp_path / name))
    assert torch.equal(net.fc.weight, Net().fc.weight)
    data = (tmp_path / name).read_bytes()
    for cut in (9, 200, len(data) - 1):
        (tmp_path / name).write_bytes(data[:cut])
        with pytest.raises(UserError, match="not a checkpoint, or cut short"):
            read_checkpoint(tmp_path / name)


def test_the_format_of_old_torch_and_any_ending(tmp_path):
    content = {"state_dict": put("module.", Net().state_dict()), "args": options()}
    torch.save(content, tmp_path / "model_best.pth.tar", _use_new_zipfile_serialization=False)
    net = Net(seed=2)
    load_weights(net, read_checkpoint(tmp_path / "model_best.pth.tar"))
    assert torch.equal(net.fc.weight, Net().fc.weight)


def test_what_stands_beside_the_weights_is_dropped(tmp_path):
    """Options are read as nothing; what only describes itself as a dict of another class is a plain one."""
    content = {"model": Net().state_dict(), "args": options(), "epoch": 3, "list": [1, options()],
               "hyper": collections.defaultdict(list, a=[1]),
               "config": {"x": options(), "y": (torch.Size([1, 2]), np.float32(2))}}  # fmt: skip
    torch.save(content, tmp_path / "a.pth")
    read = read_checkpoint(tmp_path / "a.pth")
    assert set(read) == {"model", "epoch", "list", "hyper", "config"} and read["list"] == [1, None]
    assert read["config"] == {"y": (torch.Size([1, 2]), 2)} and read["hyper"] == {"a": [1]}
    assert type(read["hyper"]) is collections.OrderedDict


def test_classes_on_no_list_are_refused_with_the_way_out(tmp_path):
    torch.save({"model": Net().state_dict(), "args": logging.Formatter()}, tmp_path / "a.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    for name, what in (("a", r"logging\.Formatter"), ("whole", r"torch\.nn\.modules\.linear\.Linear")):
        with pytest.raises(UserError, match=rf"it would run '{what}'.*torch\.save\(model\.state_dict\(\), FILE\)"):
            read_checkpoint(tmp_path / f"{name}.pth")


def test_an_object_read_as_nothing_runs_nothing(tmp_path, payload):
    """A Namespace whose state would run something is refused for what its state names."""
    bomb, trace = payload
    torch.save({"model": Net().state_dict(), "args": argparse.Namespace(x=bomb)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="refused, it would run"):
        read_checkpoint(tmp_path / "a.pth")
    assert not trace.exists()


def test_the_log_says_which_weights_are_taken_and_an_option_takes_others(tmp_path, said):
    path = tmp_path / "a.pth"
    torch.save({"model": OTHER, "model_ema": averaged(Net().state_dict())}, path)
    net = Net(seed=2)
    load_pretrained(net, {"type": "Pretrained", "checkpoint": str(path), "weights": "model"})
    assert torch.equal(net.fc.weight, OTHER["fc.weight"])
    assert any("the weights under 'model' are taken, not 'model_ema'" in line for line in said())
    load_pretrained(net, {"type": "Pretrained", "checkpoint": str(path)})
    assert torch.equal(net.fc.weight, Net().fc.weight)
    taken = [line for line in said() if "are taken" in line]
    assert len(taken) == 1 and "under 'model_ema' are taken, not 'model' (init_cfg.weights chooses)" in taken[0]
    with pytest.raises(UserError, match=r"weights='modle' \(did you mean 'model'\?\); it has 'model_ema', 'model'"):
        load_pretrained(net, {"type": "Pretrained", "checkpoint": str(path), "weights": "modle"})


def test_weights_under_names_that_say_nothing(tmp_path):
    torch.save({"a": Net().state_dict(), "b": OTHER}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds weights under 'a', 'b'; choose with init_cfg.weights"):
        load_weights(Net(), read_checkpoint(tmp_path / "a.pth"))
    net = Net(seed=2)
    load_pretrained(net, {"type": "Pretrained", "checkpoint": str(tmp_path / "a.pth"), "weights": "b"})
    assert torch.equal(net.fc.weight, OTHER["fc.weight"])


def test_a_shared_prefix_is_dropped_only_where_all_then_fits():
    state = put("model.", Net().state_dict())
    with pytest.raises(UserError, match=r"1 unexpected: model\.more"):
        load_weights(Net(), {**state, "model.more": torch.zeros(1)})
    with pytest.raises(UserError, match=r"those under 'model' do: init_cfg.prefix='model'"):
        load_weights(Net(), {**state, "criterion.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    "prefix", ["module.", "architecture.", "_orig_mod.", "architecture.model.", "module._orig_mod."]
)
def test_two_keys_for_one_weight_are_refused(tmp_path, prefix):
    """Which of them is meant, no file says."""
    state = Net().state_dict()
    torch.save({**state, f"{prefix}fc.bias": state["fc.bias"] + 1}, tmp_path / "a.pth")
    net = Net(seed=2)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError, match=rf"both '?fc.bias'? and '?{prefix}fc.bias'? stand for the weight '?fc.bias"):
        load_pretrained(net, {"type": "Pretrained", "checkpoint": str(tmp_path / "a.pth")})
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_the_part_under_a_prefix(tmp_path):
    state = {**put("module.encoder_q.", Net().state_dict()), **put("module.encoder_k.", OTHER)}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    net = Net(seed=2)
    with pytest.raises(UserError, match=r"init_cfg\.prefix='encoder_q'"):
        load_pretrained(net, {"type": "Pretrained", "checkpoint": str(tmp_path / "a.pth")})
    load_pretrained(net, {"type": "Pretrained", "checkpoint": str(tmp_path / "a.pth"), "prefix": "encoder_q"})
    assert torch.equal(net.fc.weight, Net().fc.weight)


def test_the_classifier_is_left_out_where_asked(tmp_path, said):
    path = tmp_path / "a.pth"
    torch.save(Net(classes=10).state_dict(), path)
    net = Net(seed=2)
    own = net.fc.weight.detach().clone()
    with pytest.raises(UserError, match=r"fc.weight \(10, 4\).*all but the classifier fits: init_cfg.reset_head=True"):
        load_pretrained(net, {"type": "Pretrained", "checkpoint": str(path)})
    load_pretrained(net, {"type": "Pretrained", "checkpoint": str(path), "reset_head": True})
    assert torch.equal(net.fc.weight, own) and torch.equal(net.stem[0].weight, Net().stem[0].weight)
    assert any("without the classifier (fc.bias, fc.weight), which starts anew" in line for line in said())


def test_the_classifier_is_left_out_at_equal_classes_and_where_the_file_lacks_it(tmp_path):
    for name, drop in (("same", ()), ("none", ("fc.weight", "fc.bias"))):
        path = tmp_path / f"{name}.pth"
        torch.save({key: value for key, value in Net().state_dict().items() if key not in drop}, path)
        net = Net(seed=2)
        own = net.fc.weight.detach().clone()
        load_pretrained(net, {"type": "Pretrained", "checkpoint": str(path), "reset_head": True})
        assert torch.equal(net.fc.weight, own) and torch.equal(net.stem[0].weight, Net().stem[0].weight)


def test_nothing_but_the_classifier_is_left_out():
    other = Net()
    other.body["conv"] = nn.Conv2d(4, 8, 1)
    other.fc = nn.Linear(8, 10)
    with pytest.raises(UserError, match="body.conv.weight"):
        load_weights(Net(), other.state_dict(), reset_head=True)
    state = Net(classes=10).state_dict()
    del state["stem.0.bias"]
    with pytest.raises(UserError, match=r"1 missing: stem.0.bias"):
        load_weights(Net(), state, reset_head=True)


@pytest.mark.parametrize(("key", "value"), [("reset_head", "yes"), ("weights", 3), ("prefix", 1), ("checkpoint", 5)])
def test_options_of_a_wrong_kind(key, value):
    with pytest.raises(UserError, match=f"{key}='{value}' must be"):
        load_pretrained(Net(), {"type": "Pretrained", "checkpoint": "a.pth", key: value})


def test_numbers_that_are_no_weights():
    state = Net().state_dict()
    with pytest.raises(UserError, match=r"another kind of number: fc.weight \(torch.int8"):
        load_weights(Net(), {**state, "fc.weight": state["fc.weight"].to(torch.int8)})
    for bad in (state["fc.weight"].to_sparse(), torch.empty(3, 4, device="meta")):
        with pytest.raises(UserError, match="entry 'fc.weight' is not a"):
            load_weights(Net(), {"state_dict": {**state, "fc.weight": bad}})
    with pytest.raises(UserError, match="entry '7' is not a"):
        load_weights(Net(), {"state_dict": {**state, 7: torch.zeros(1)}})


def _torchscript(net: nn.Module, path: pathlib.Path) -> None:
    torch.jit.save(torch.jit.script(net), path)


def _npz(net: nn.Module, path: pathlib.Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(2))


OTHER_FILES = {
    "TorchScript": (_torchscript, r"TorchScript program; torch.save\(torch.jit.load\(FILE\).state_dict\(\)"),
    "npz": (_npz, "NumPy arrays"),
    "pickle": (
        lambda net, path: path.write_bytes(pickle.dumps({"a": np.zeros(2)})),
        "a pickle that torch.save did not",
    ),
    "protocol 4": (lambda net, path: torch.save(net.state_dict(), path, pickle_protocol=4), "another pickle_protocol"),
    "HDF5": (lambda net, path: path.write_bytes(b"\x89HDF" + bytes(99)), "HDF5"),
    "page": (lambda net, path: path.write_bytes(b"<!DOCTYPE html><html>"), "the download went wrong"),
    "LFS": (lambda net, path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "subnet": (lambda net, path: path.write_text("format: mmrazor_lite.subnet/1\n"), "a subnet file: .* give the .pth"),
    "picture": (lambda net, path: path.write_bytes(b"\x89PNG\r\n" + bytes(99)), "a picture"),
    "gzip": (lambda net, path: path.write_bytes(b"\x1f\x8b" + bytes(99)), "unpack it first"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_are_named_with_the_way_out(tmp_path, name):
    write, said = OTHER_FILES[name]
    write(nn.Sequential(nn.Linear(2, 2)), tmp_path / "a.pth")
    with pytest.raises(UserError, match=said):
        read_checkpoint(tmp_path / "a.pth")


def _plain_classifier(classes: int) -> nn.Module:
    from mmrazor_lite.config.build import register_quietly
    from mmrazor_lite.models.classifiers import PlainClassifier

    register_quietly()
    return PlainClassifier(Net(classes))


def _distilled(classes: int) -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.create_model("deit_tiny_distilled_patch16_224", num_classes=classes, depth=1, embed_dim=24)


def _squeezenet(classes: int) -> nn.Module:
    from torchvision.models import squeezenet1_1

    return squeezenet1_1(num_classes=classes)


@pytest.mark.parametrize("other", [7, 5], ids=["other classes", "as many classes"])
@pytest.mark.parametrize(
    ("make", "head"),
    [
        (_plain_classifier, {"fc.weight", "fc.bias"}),
        (_distilled, {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}),
        (_squeezenet, {"classifier.1.weight", "classifier.1.bias"}),
    ],
)
def test_exactly_the_classifier_of_any_network_is_left_out(make, head, other):
    theirs, net = make(other), make(5)
    for value in theirs.state_dict().values():
        value.fill_(3)
    load_weights(net, theirs.state_dict(), reset_head=True)
    assert {name for name, value in net.state_dict().items() if not (value == 3).all()} == head


def test_a_backbone_has_no_classifier():
    from mmpretrain.models.backbones import VGG

    backbone = VGG(11)
    with pytest.raises(UserError, match="VGG has no classifier; give the option where the whole network is loaded"):
        load_weights(backbone, backbone.state_dict(), reset_head=True)


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_a_classifier_may_be_a_conv_of_any_dimensions(conv):
    """As that of S3D, a network of clips."""
    net, theirs = (nn.Sequential(conv(3, 4, 1), nn.ReLU(), conv(4, classes, 1)) for classes in (5, 7))
    before = net[2].weight.detach().clone()
    load_weights(net, theirs.state_dict(), reset_head=True)
    assert torch.equal(net[0].weight, theirs[0].weight) and torch.equal(net[2].weight, before)
