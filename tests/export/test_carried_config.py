"""A checkpoint may come from anyone: what it carries must not run, import, read or fetch anything."""

from __future__ import annotations

import copy

import pytest
import torch

from mmrazor_lite.errors import UserError
from mmrazor_lite.export import load_subnet, read_checkpoint, split
from mmrazor_lite.export.rebuild import rebuild


@pytest.fixture
def forge(parts, tmp_path):
    """Write a part with its carried data changed."""

    def forge(change):
        content = read_checkpoint(parts[0])
        meta = copy.deepcopy(content["meta"])
        change(meta["mmrazor_lite"])
        torch.save({**content, "meta": meta}, tmp_path / "forged.pth")
        return tmp_path / "forged.pth"

    return forge


def _set(path, value):
    def change(meta):
        *parents, last = path.split(".")
        for key in parents:
            meta = meta[key]
        meta[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("architecture.type", "builtins.open"),
        ("architecture.type", "subprocess.run"),
        ("architecture.type", "mmpretrain.models.ImageClassifier"),
        ("architecture.type", "mmpretrain.NoSuchModel"),
        ("architecture.type", "HuggingFaceClassifier"),
        ("architecture.type", ["ImageClassifier"]),
        ("architecture.backbone.type", "os.system"),
        ("architecture.channel_cfg", "a.yaml"),
        ("architecture.fix_subnet", "a.yaml"),
        ("architecture.backbone.norm_cfg", {"type": "torch.nn.BatchNorm2d"}),
        ("architecture.head.loss", [{"type": "pathlib.Path.touch"}]),
        ("data_preprocessor.type", "tempfile.mkstemp"),
        ("mutator.type", "shutil.rmtree"),
        ("mutator.type", None),
        ("architecture.backbone._scope_", "mmdet"),
        ("architecture.pretrained", "/etc/passwd"),
        ("architecture.backbone", {"type": "TIMMBackbone", "model_name": "resnet18", "pretrained": True}),
        ("architecture.backbone", {"type": "TIMMBackbone", "model_name": "resnet18", "checkpoint_path": "x.pth"}),
        ("architecture.backbone", {"type": "TIMMBackbone", "model_name": "hf-hub:someone/model"}),
        ("architecture", "ImageClassifier"),
        ("architecture", {"backbone": {}}),
        ("architecture.backbone.depth", torch.ones(1)),
        ("architecture.backbone.no_such_argument", 3),
        ("input_shape", "3x32x32"),
        ("subnet", {"format": "mmrazor_lite.subnet/1"}),
    ],
)
def test_only_registered_classes_and_plain_data(forge, monkeypatch, path, value):
    imported = []
    monkeypatch.setattr("mmengine.registry.registry.get_object_from_string", lambda name: imported.append(name))
    with pytest.raises(UserError, match=r"forged\.pth") as error:
        load_subnet(forge(_set(path, value)))
    assert "\n" not in str(error.value)
    assert not imported


def test_our_backbones_are_known():
    """They are functions, which are not accepted from other registries."""
    settings = {"settings": [[1, 8, 1, 1]], "stem_channels": 8, "last_channels": 8}
    model = rebuild({"type": "mmrazor_lite.InvertedResidualNet", **settings}, None, "test")
    assert model(torch.zeros(1, 3, 8, 8))[0].shape == (1, 8, 8, 8)
    assert not [m for m in model.modules() if type(m).__module__.startswith("mmrazor_lite")]


def test_dotted_type_with_a_trace(forge, tmp_path):
    trace = tmp_path / "executed"
    value = {"type": "builtins.open", "file": str(trace), "mode": "w"}
    for path in ("architecture", "architecture.backbone", "data_preprocessor", "mutator"):
        with pytest.raises(UserError, match="not"):
            load_subnet(forge(_set(path, value)))
    assert not trace.exists()


def test_initialisation_from_a_file_is_dropped(forge, tmp_path, payload):
    bomb, trace = payload
    torch.save(bomb, tmp_path / "bomb.pth")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "bomb.pth")}
    load_subnet(forge(_set("architecture.backbone.init_cfg", init)))
    assert not trace.exists()


def test_pickle_payload(parts, joint, tmp_path, payload):
    bomb, trace = payload
    content = read_checkpoint(parts[0])
    torch.save({**content, "bomb": bomb}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="refused"):
        load_subnet(tmp_path / "a.pth")
    with pytest.raises(UserError, match="refused"):
        split(joint.algorithm, tmp_path / "a.pth", joint.files, tmp_path)
    assert not trace.exists()


def test_text_that_mmengine_would_execute(forge, parts, tmp_path):
    content = read_checkpoint(parts[0])
    trace = tmp_path / "executed"
    text = f"open({str(trace)!r}, 'w')"
    torch.save({**content, "meta": {**content["meta"], "config": text, "cfg": text}}, tmp_path / "a.pth")
    load_subnet(tmp_path / "a.pth")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (None, "says nothing about its subnet"),
        ({"kind": "joint"}, "holds a joint model, not one subnet; split it first"),
        ({"kind": "supernet"}, "holds a supernet model, not one subnet; search it"),
    ],
)
def test_files_of_another_kind(parts, tmp_path, meta, message):
    content = read_checkpoint(parts[0])
    torch.save({**content, "meta": {"mmrazor_lite": meta}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        load_subnet(tmp_path / "a.pth")


def test_architecture_given_as_a_module(forge):
    with pytest.raises(UserError, match=r"carries no config.*\.pt2"):
        load_subnet(forge(_set("architecture", None)))
