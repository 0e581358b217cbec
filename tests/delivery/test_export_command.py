"""``export``: a file of a subnet or a network by its name in, a folder with a card out; bad input in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import mmrazor_lite
from mmrazor_lite.cli import main

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, width, 3), nn.Linear(width, 3)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))
"""
MODEL = ["export", "--model", "net_of_export.Net", "--format", "pt2", "--threads", "1", "--repeats", "2"]
STEPS = ["--size", "8", "--mean", "0.5", "--std", "0.25"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Code, a network that was slimmed, 12 images of three classes, and a folder without any."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "net_of_export.py").write_text(CODE)
    rng = np.random.default_rng(0)
    for number in range(12):
        path = folder / "images" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (folder / "none").mkdir()
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    import net_of_export

    mmrazor_lite.slim(net_of_export.Net(), torch.rand(20, 3, 8, 8), "50%", divisor=1).save(folder / "small")
    sys.path[:] = before
    return folder


@pytest.fixture
def here(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    return tmp_path / "D"


def front(folder) -> dict:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])["mmrazor_lite"]


@pytest.mark.parametrize("file", ["small.pth", "small.yaml"])
def test_a_slimmed_network_beside_what_it_was_made_of(file, here, capsys):
    words = [*MODEL, file, "--output", str(here), "--images", "images", "--mean", "0.5", "0.5", "0.5"]
    assert main([*words, "--std", "0.25", "0.25", "0.25", "--license", "mit"]) == 0
    card = front(here)
    costs = card["costs"]
    assert costs["delivered"]["macs"] <= costs["before"]["macs"] / 2
    assert {row["network"] for row in card["latency"]["rows"]} == {"delivered", "before"}
    assert card["proof"] == {"images": 12, "from": "images", "real": True} and "accuracy" in card["files"][0]
    assert card["input"]["shape"] == ["batch", 3, 8, 8] and card["input"]["mean"] == [0.5] * 3
    from net_of_export import Net

    small = mmrazor_lite.load_subnet("small.pth", model=Net())
    image = torch.rand(3, 3, 8, 8)
    assert torch.allclose(torch.export.load(here / "model.pt2").module()(image), small(image), atol=1e-6)
    said = capsys.readouterr().out
    assert f"wrote {here / 'model.pt2'}" in said and "on 12 images (images)" in said


def test_images_are_read_as_the_flags_say(here):
    """The accuracy of the card is that of the images by hand."""
    words = [*MODEL, "--output", str(here), "--images", "images", "--size", "8"]
    assert main([*words, "--mean", "0.1", "0.2", "0.3", "--std", "0.5", "1", "2"]) == 0
    from net_of_export import Net

    mean, std = (np.array(values, dtype=np.float32) for values in ((0.1, 0.2, 0.3), (0.5, 1, 2)))
    right = 0
    for label, name in enumerate("abc"):
        for path in Path("images", name).iterdir():
            pixels = (np.asarray(Image.open(path), dtype=np.float32) / 255 - mean) / std
            scores = Net().eval()(torch.from_numpy(pixels).permute(2, 0, 1)[None])
            right += int(scores.argmax()) == label
    assert front(here)["torch"]["accuracy"] == pytest.approx(right / 12, abs=1e-5)


def test_json_and_nothing_else(here, capsys):
    assert main([*MODEL, "--output", str(here), *STEPS[:2], "--json", "--batch-size", "2"]) == 0
    said = capsys.readouterr()
    card = json.loads(said.out)
    assert {row["batch_size"] for row in card["latency"]["rows"]} == {1, 2} and "writing pt2" in said.err
    assert not card["proof"]["real"] and "mean" not in card["input"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--images", "none", *STEPS], "'none' has no image"),
        (["--images", "gone", *STEPS], "--images 'gone' does not exist"),
        ([], "nothing says the size of images: give --size"),
        (["--images", "images", "--size", "8"], "give --mean, --std"),
        (["--size", "8", "--normalise"], "nothing says which it is; give mean and std"),
        (["--size", "8", "--mean", "0.5"], "give --std"),
        (["--size", "8", "--opset", "3"], "opset=3: give a whole number of 7 or more"),
        (["--size", "8", "--int8"], "--int8 and --calibrate DIR belong together"),
        (["--size", "8", "--int8", "--calibrate", "none"], "int8 is for the formats onnx and openvino"),
        (["small.yml", "--size", "8"], "'small.yml' not found"),
        (["small.pth", "--weights", "small.pth"], "'small.pth' holds its own"),
        (["--size", "8", "--format", "tflite"], "format 'tflite' is unknown"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, line, here, capsys):
    assert main([*MODEL, "--output", str(here), *words]) == 2
    said = capsys.readouterr().err
    assert line in said and said.startswith("error: ") and said.count("\n") == 1
    assert not here.exists() and not list(here.parent.iterdir())


def test_an_empty_folder_to_calibrate_with(here, capsys):
    pytest.importorskip("onnxscript", reason="onnx is not installed: pip install mmrazor_lite[deliver]")
    words = ["--format", "onnx", "--int8", "--calibrate", "none", *STEPS[:2], "--mean", "0.5", "0.5", "0.5"]
    assert main([*MODEL, "--output", str(here), *words, "--std", "1", "1", "1"]) == 2
    assert "'none' has no image" in capsys.readouterr().err and not here.exists()


def test_a_name_that_says_nothing(capsys, here):
    assert main(["export", "--format", "pt2", "--output", str(here)]) == 2
    assert "give a file that split, slim, search or train wrote" in capsys.readouterr().err


def test_channels_of_a_config_that_keeps_them_as_read():
    """mmpretrain reads BGR: a network that takes it so gets its images so."""
    from mmrazor_lite.cli.deliverable import _of_config, _Swapped

    steps = _of_config({"mean": [100.0, 110, 120], "std": [50.0, 60, 70], "to_rgb": False})
    assert steps.channels == "BGR" and steps.mean == pytest.approx((100 / 255, 110 / 255, 120 / 255))
    images = torch.rand(2, 3, 4, 4)
    ((turned, labels),) = _Swapped([(images, [1, 2])])
    assert torch.equal(turned[:, 0], images[:, 2]) and labels == [1, 2]
