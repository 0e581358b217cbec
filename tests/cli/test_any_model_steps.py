"""A network written by hand through the documented commands: analyze, supernet, search, retrain, split, test."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import mmrazor_lite
from mmrazor_lite.cli import main
from mmrazor_lite.subnet.yamlio import load_yaml

CLASSES, BATCH = 10, 20


@pytest.fixture
def data(tmp_path):
    """Images in folders as the configs expect them, one hue per class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 4)):
        for label in range(CLASSES):
            folder = tmp_path / "images" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 60, (32, 32, 3)) + np.array([label, 9 - label, label % 3]) * 15
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.wide
def test_my_net(data, tmp_path, root, monkeypatch, capsys):
    monkeypatch.chdir(root)

    def step(command: str, kind: str, *words: object, options: tuple = ()) -> str:
        """Run one command on a config of my_net; return what it printed."""
        config = f"configs/any_model/my_net_{kind}_cifar10.py"
        common = [f"data_root={data}", "model.architecture.width=8", *options]
        assert main([command, config, *map(str, words), "--cfg-options", *common]) == 0
        return capsys.readouterr().out

    few = ("train_cfg.max_epochs=1", "param_scheduler.end=1", "train_cfg.val_interval=1")
    few += (f"train_dataloader.batch_size={BATCH}", "train_dataloader.num_workers=0", "val_dataloader.num_workers=0")
    few += ("train_dataloader.persistent_workers=False", "val_dataloader.persistent_workers=False")
    tested = ("test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False")

    analysis = json.loads(step("analyze", "supernet", "--json"))
    reasons = {layer: reason for reason, layers in analysis["fixed"].items() for layer in layers}
    assert "'mean' in net.mix" in reasons["net.mix"] and reasons["net.fc"] == "the model's output"
    full = analysis["resources"]["macs"]["max"]
    assert analysis["resources"]["macs"]["min"] < full / 2

    step("train", "supernet", "--work-dir", tmp_path / "W1", options=few)
    small = ("search_cfg.calibrate_sample_num=16", "search_cfg.searcher.max_channel_bins=2")
    step("search", "search", tmp_path / "W1" / "epoch_1.pth", "--work-dir", tmp_path / "W2", options=small)
    files = sorted((tmp_path / "W2").glob("subnet_macs_*.yaml"), key=lambda path: -float(path.stem[12:-1]))
    assert len(files) == 2
    channels = f"algorithm.channel_cfg={files[0]},{files[1]}"
    step("train", "subnet", "--work-dir", tmp_path / "W3", options=(channels, *few))
    joint = tmp_path / "W3" / "epoch_1.pth"
    step("split", "subnet", joint, "--channel-cfgs", *files, "--output-dir", tmp_path / "W4")

    step(
        "test", "subnet", joint, "--out", tmp_path / "joint.json", "--work-dir", tmp_path / "W5",
        options=(channels, *tested),
    )  # fmt: skip
    together = json.loads((tmp_path / "joint.json").read_text())
    words = (tmp_path / "W4" / "checkpoint_2.pth", "--out", tmp_path / "alone.json", "--work-dir", tmp_path / "W5")
    step("test", "subnet", *words, options=(f"algorithm.channel_cfg={files[1]}", *tested))
    alone = json.loads((tmp_path / "alone.json").read_text())
    assert alone["accuracy/top1"] == together["subnet_2.accuracy/top1"]

    from configs.any_model.my_net import MyNet

    net = mmrazor_lite.load_subnet(tmp_path / "W4" / "checkpoint_2.pth", architecture=MyNet(width=8))
    assert type(net) is MyNet and type(net.stem[0]) is nn.Conv2d
    costs = load_yaml(files[1])["resources"]
    assert costs["macs"] <= full / 2
    assert sum(p.numel() for p in net.parameters()) == costs["params"]
    program = torch.export.load(str(tmp_path / "W4" / "checkpoint_2.pt2")).module()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(images), program(images), rtol=1e-4, atol=1e-5)


def test_the_page_shows_what_analyze_prints(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    (shown,) = re.findall(r"```text\n(.*?)```", (root / "docs" / "any_model.md").read_text(), re.DOTALL)
    config = "configs/any_model/my_net_supernet_cifar10.py"
    assert main(["analyze", config, "--full"]) == 0
    printed = capsys.readouterr().out
    for line in shown.splitlines():
        if not line.startswith(("Width", "Resources", " ...", " #", " layer")):
            words = [re.escape(word) for word in line.split()]
            assert re.search(r"[\s│#]*" + r"[\s│]+".join(words), printed), line
