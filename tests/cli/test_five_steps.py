"""The five steps on a shrunken demo, as typed: each reads what the one before wrote."""

from __future__ import annotations

import json
import re

import pytest
import torch
from cli.next_commands import next_of

from mmrazor_lite.cli import main

AUTOSLIM = "configs/pruning/autoslim"
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
NEXT: list = []  # what the steps printed as the one after them
HASH = re.compile(r"(loaded|read|wrote) (\S+) \(sha256 ([0-9a-f]{16})\)")


def step(capsys, *argv: object) -> list[tuple[str, str, str]]:
    """Run one command and return (action, file name, hash) of every file its log names."""
    assert main([str(word) for word in argv]) == 0
    said = capsys.readouterr().out
    if argv[0] != "test":
        NEXT.append(next_of(said))
    return [(action, path.rpartition("/")[2], digest) for action, path, digest in HASH.findall(said)]


@pytest.fixture
def config(root):
    return lambda name: root / AUTOSLIM / f"autoslim_{name}_digits.py"


def test_five_steps(capsys, config, tmp_path):
    w1, w2, w3, w4, w5 = (tmp_path / f"W{number}" for number in range(1, 6))
    log = step(capsys, "train", config("supernet"), "--work-dir", w1, "--cfg-options", *SHORT, *TINY)
    supernet = w1 / "epoch_1.pth"
    assert (NEXT[-1].command, NEXT[-1].config) == ("search", str(config("search")))
    assert NEXT[-1].checkpoint == str(supernet) and set(TINY) == set(NEXT[-1].cfg_options)
    (written,) = [digest for action, _, digest in log if action == "wrote"]

    targets = ["search_cfg.target_macs=[90%,60%]", "search_cfg.calibrate_sample_num=64"]
    targets += [f"search_cfg.{name}.dataset.dataset.indices=100" for name in ("dataloader", "calibrate_dataloader")]
    log = step(capsys, "search", config("search"), supernet, "--work-dir", w2, "--cfg-options", *targets, *TINY)
    assert ("loaded", "epoch_1.pth", written) in log
    subnets = {name: digest for action, name, digest in log if action == "wrote"}
    files = [str(w2 / name) for name in subnets]
    assert len(files) == 2
    assert (NEXT[-1].command, NEXT[-1].config) == ("train", str(config("subnet")))
    assert NEXT[-1].cfg_options == [f"algorithm.channel_cfg={','.join(files)}", *TINY]

    chosen = f"algorithm.channel_cfg={','.join(files)}"
    log = step(capsys, "train", config("subnet"), "--work-dir", w3, "--cfg-options", chosen, *SHORT, *TINY)
    assert {name: digest for action, name, digest in log if action == "read"} == subnets
    joint = w3 / "epoch_1.pth"
    assert (NEXT[-1].command, NEXT[-1].checkpoint, NEXT[-1].channel_cfgs) == ("split", str(joint), files)
    (written,) = [digest for action, _, digest in log if action == "wrote"]

    words = ["--channel-cfgs", *files, "--output-dir", w4, "--cfg-options", *TINY]
    log = step(capsys, "split", config("subnet"), joint, *words)
    assert ("loaded", "epoch_1.pth", written) in log
    split = {name: digest for action, name, digest in log if action == "wrote"}
    assert (NEXT[-1].command, NEXT[-1].checkpoint) == ("test", str(w4 / "checkpoint_1.pth"))

    out = tmp_path / "joint.json"
    step(capsys, "test", config("subnet"), joint, "--work-dir", w5, "--out", out, "--cfg-options", chosen, *TINY)
    together = json.loads(out.read_text())
    for number, file in enumerate(files, start=1):
        out = tmp_path / f"{number}.json"
        words = [
            "--work-dir",
            w5,
            "--metrics",
            "accuracy",
            "--out",
            out,
            "--cfg-options",
            f"algorithm.channel_cfg={file}",
        ]
        log = step(capsys, "test", config("subnet"), w4 / f"checkpoint_{number}.pth", *words, *TINY)
        assert ("loaded", f"checkpoint_{number}.pth", split[f"checkpoint_{number}.pth"]) in log
        assert json.loads(out.read_text())["accuracy/top1"] == together[f"subnet_{number}.accuracy/top1"]


BFLOAT16 = ["optim_wrapper.dtype=bfloat16"]  # float16, the other one, is for CUDA


def test_run_flags_reach_the_run(capsys, config, tmp_path):
    words = ["train", config("supernet"), "--work-dir", tmp_path, "--seed", 3, "--amp", "--auto-scale-lr"]
    log = step(capsys, *words, "--cfg-options", "channels_last=True", *SHORT, *TINY, *BFLOAT16)
    assert any(action == "wrote" for action, *_ in log)
    content = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    assert content["meta"]["seed"] == 3
    assert content["optimizer"]["param_groups"][0]["initial_lr"] == pytest.approx(0.1 * 32 / 64)
    log = step(
        capsys, *words, "--resume", "--cfg-options", *SHORT, *TINY, "train_cfg.max_epochs=2", "param_scheduler.end=2"
    )
    assert ("loaded", "epoch_1.pth") in {(action, name) for action, name, _ in log}
