"""Slimmable and universally slimmable networks, as typed: train, split by width, test every width."""

from __future__ import annotations

import json
import re

import pytest

from mmrazor_lite.cli import main

SHORT = [
    "train_cfg.max_epochs=1",
    "param_scheduler.end=1",
    "train_cfg.val_interval=1",
    "train_dataloader.batch_size=32",
    "train_dataloader.dataset.dataset.indices=100",
    "val_dataloader.dataset.indices=40",
]
TINY = ["model.architecture.backbone.settings=[[2,12,2,1]]", "model.architecture.backbone.stem_channels=8"]
TINY += ["model.architecture.backbone.last_channels=16", "model.architecture.head.in_channels=16"]


@pytest.fixture
def config(root):
    return lambda name: root / "configs/pruning/autoslim" / f"{name}_digits.py"


@pytest.fixture
def step(capfd):
    def run(*argv: object) -> str:
        """Run one command and return what it printed."""
        assert main([str(word) for word in argv]) == 0
        return capfd.readouterr().out

    return run


def table(log: str) -> dict[str, list[str]]:
    """The cells of the results table by the name of the subnet."""
    lines = log[log.index("Results of every subnet") :].splitlines()[1:]
    assert lines[0].split() == ["macs", "params", "accuracy/top1"]
    rows = [re.split(r"  +", line) for line in lines[1:5]]
    return {row[0]: row[1:] for row in rows}


def test_slimmable(step, config, tmp_path):
    names = [f"width_{width}" for width in ("1", "0.75", "0.5", "0.25")]
    log = step("train", config("slimmable"), "--work-dir", tmp_path / "W1", "--cfg-options", *SHORT, *TINY)
    rows = table(log)
    assert list(rows) == names
    macs = [float(row[0].removesuffix(" M")) for row in rows.values()]
    assert macs == sorted(macs, reverse=True)
    joint = tmp_path / "W1/epoch_1.pth"
    out = tmp_path / "joint.json"
    step("test", config("slimmable"), joint, "--work-dir", tmp_path, "--out", out, "--cfg-options", *TINY)
    together = json.loads(out.read_text())
    assert list(together) == sorted(f"{name}.accuracy/top1" for name in names)

    words = ["--channel-cfgs", "0.75", "--output-dir", tmp_path / "W4", "--cfg-options", *TINY]
    log = step("split", config("slimmable"), joint, *words)
    assert log.count("wrote") == 2
    words = ["--work-dir", tmp_path, "--out", out, "--cfg-options", "algorithm.channel_cfg=0.75", *TINY]
    step("test", config("slimmable"), tmp_path / "W4/checkpoint_1.pth", *words)
    assert json.loads(out.read_text())["accuracy/top1"] == together["width_0.75.accuracy/top1"]


def test_universally_slimmable(step, config, tmp_path):
    log = step("train", config("us"), "--work-dir", tmp_path / "W1", "--cfg-options", *SHORT, *TINY)
    assert list(table(log)) == ["width_1", "width_0.75", "width_0.5", "width_0.25"]
    words = ["--work-dir", tmp_path, "--out", tmp_path / "r.json", "--cfg-options", "algorithm.val_widths=0.6,0.33"]
    step("test", config("us"), tmp_path / "W1/epoch_1.pth", *words, *SHORT[-2:], *TINY)
    assert list(json.loads((tmp_path / "r.json").read_text())) == [
        "width_0.33.accuracy/top1",
        "width_0.6.accuracy/top1",
    ]


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("slimmable", ["algorithm.channel_cfg=1.0,2.0"], "a number above 0 and at most 1"),
        ("us", ["algorithm.val_widths=0.1"], "model.val_widths=0.1: give a list"),
        ("us", ["algorithm.width_range=0.5,0.25"], "the smallest width comes first"),
        ("us", ["algorithm.width_rang=0.5,1.0"], "width_range"),
    ],
)
def test_bad_options_end_in_one_line(capfd, config, tmp_path, command, options, message):
    words = ["train", config(command), "--work-dir", tmp_path / "W1", "--cfg-options", *options]
    assert main([str(word) for word in words]) == 2
    last = capfd.readouterr().err.strip().splitlines()
    assert last[-1].startswith("error: ") and message in last[-1]
    assert not list((tmp_path).rglob("*.pth"))
