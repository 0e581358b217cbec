"""``analyze``: one config in, tables, JSON or a picture out; what cannot be traced is named in one line."""

from __future__ import annotations

import json

import pytest
import torch
from pictures import bars, shown, ticks
from torch import nn

from mmrazor_lite.cli import main

AUTOSLIM = "configs/pruning/autoslim"
PLAIN = """
model = dict(
    type="ImageClassifier",
    backbone=dict(type="ResNet_CIFAR", depth=18, base_channels=8, num_stages=4, out_indices=(3,)),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=4, in_channels=64),
)
"""


class DataDependentGate(nn.Module):
    """Passes on what it gets, or its negative, as the data say."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.head = nn.Conv2d(3, 8, 3), DataDependentGate(), nn.Conv2d(8, 8, 1)

    def forward(self, inputs: torch.Tensor, data_samples: object = None, mode: str = "tensor") -> torch.Tensor:
        return self.head(self.gate(self.stem(inputs)))


@pytest.fixture(scope="module", autouse=True)
def _registered(registered):
    from mmpretrain.registry import MODELS

    MODELS.register_module(name="GatedOfTheTest", module=Gated, force=True)


@pytest.fixture
def config(root):
    return lambda name: str(root / AUTOSLIM / f"autoslim_{name}.py")


def as_json(capsys, *argv: object) -> dict:
    capsys.readouterr()
    assert main(["analyze", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def fails(capsys, *argv: object) -> str:
    assert main(["analyze", *map(str, argv)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def test_json_agrees_with_flops(capsys, config):
    data = as_json(capsys, config("supernet_digits"))
    assert main(["flops", config("supernet_digits"), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert {name: extent["max"] for name, extent in data["resources"].items()} | {"unscaled": True} == counts
    assert data["input_shape"] == [3, 8, 8] and data["choices"] == len(data["groups"]) == 8
    assert sum(layer["macs"]["min"] for layer in data["layers"]) == data["resources"]["macs"]["min"]
    assert data["fixed"] == {"the model's output": ["head.fc"]}


@pytest.mark.wide
def test_published_min_and_max(capsys, config):
    """MobileNetV2 x1.5 of AutoSlim: 702.90 M flops, 6.86 M params (MMRazor's README)."""
    data = as_json(capsys, config("mbv2_supernet_8xb256_in1k"))
    assert f"{data['resources']['flops']['max'] / 1e6:.2f}" == "702.90"
    assert f"{data['resources']['params']['max'] / 1e6:.2f}" == "6.86"
    assert data["searchable_share"] == 1


@pytest.mark.parametrize("step", ["search", "subnet"])
def test_every_config_of_the_five_steps_has_the_supernets_analysis(capsys, config, step):
    assert as_json(capsys, config(f"{step}_digits")) == as_json(capsys, config("supernet_digits"))


def test_plain_config_gets_the_default_mutator(capsys, tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(PLAIN)
    data = as_json(capsys, path, "--input-shape", 16, 24)
    assert data["input_shape"] == [3, 16, 24]
    assert data["model"] == "ImageClassifier of ResNet_CIFAR"
    assert data["choices"] > 0 and data["searchable_share"] > 0.9
    assert as_json(capsys, path, "--shape", 32)["input_shape"] == [3, 32, 32]


def test_options_of_the_config(capsys, config):
    words = ("--cfg-options", "model.mutator.exclude=[*layer3*]", "algorithm.mutator.candidate_choices=[0.5,1.0]")
    data = as_json(capsys, config("supernet_digits"), *words)
    assert all(len(group["candidates"]) == 2 for group in data["groups"])
    assert "excluded by '*layer3*'" in data["fixed"] and data["searchable_share"] < 1


def test_tables_and_picture(capsys, config, tmp_path):
    picture = tmp_path / "a/layers.png"
    words = ["analyze", config("supernet_digits"), "--plot", str(picture), "--sort", "macs", "--top", "2"]
    with shown() as pictures:
        assert main(words) == 0
    text = capsys.readouterr().out
    assert "Width groups" in text and "... 15 more" in text and "Stays at full width" in text
    assert f"wrote {picture}" in text
    layers = as_json(capsys, config("supernet_digits"))["layers"]
    assert ticks(pictures[0]) == [layer["name"] for layer in layers]
    assert bars(pictures[0]) == [[layer["macs"][end] / 1e6 for layer in layers] for end in ("max", "min")]


def test_with_a_picture_json_is_still_all_there_is(capsys, config, tmp_path):
    with shown() as pictures:
        assert as_json(capsys, config("supernet_digits"), "--plot", tmp_path / "a.png")["choices"] == 8
    assert len(pictures) == 1 and (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--input-shape", 0), "give H, or H W, both positive"),
        (("--input-shape", 1, 2, 3), "give H, or H W, both positive"),
        (("--top", 0), "give a number of rows"),
        (("--cfg-options", "model.mutator.exlude=[a]"), "exlude"),
    ],
)
def test_bad_flags(capsys, config, words, message):
    assert message in fails(capsys, config("supernet_digits"), *words)


def test_config_without_a_model(capsys, tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("work_dir = 'a'\n")
    assert "has no model" in fails(capsys, path)


def test_a_model_that_cannot_be_traced_is_told_in_one_line(capsys, tmp_path):
    path = tmp_path / "gated.py"
    path.write_text("model = dict(type='GatedOfTheTest')\n")
    line = fails(capsys, path, "--input-shape", 8)
    assert "Gated: cannot be traced in eval mode on images of 3x8x8: module 'gate' (DataDependentGate)" in line
    assert "line 'if x.sum() > 0:' of test_analyze.py:" in line
    assert "opaque=['gate']" in line


class Untrainable(nn.Module):
    """What relu gave is changed in place, which its gradient would need."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, inputs: torch.Tensor, data_samples: object = None, mode: str = "tensor") -> torch.Tensor:
        return self.head(torch.relu(self.stem(inputs)).mul_(2).sigmoid_().relu_().mul_(2))


def test_a_network_that_cannot_be_trained_is_told(capsys, config, tmp_path):
    from mmpretrain.registry import MODELS

    MODELS.register_module(name="UntrainableOfTheTest", module=Untrainable, force=True)
    (tmp_path / "a.py").write_text('model = dict(type="UntrainableOfTheTest")')
    assert "inplace operation" in as_json(capsys, tmp_path / "a.py", "--shape", 8)["untrainable"]
    assert main(["analyze", str(tmp_path / "a.py"), "--shape", "8"]) == 0
    assert "Cannot be trained: its own backward pass fails" in capsys.readouterr().out
    assert as_json(capsys, config("supernet_digits"))["untrainable"] is None
